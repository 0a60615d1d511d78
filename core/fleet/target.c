#include "fleet/target.h"

#include "base/private_dir.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { CONNECT_MS = 2000 };

enum moon_err moon_target_at(struct moon_str text, struct moon_target *target,
                             struct moon_buf *error)
{
    char why[300];
    enum moon_err err =
        moon_address_parse(text, &target->address, why, sizeof(why));
    if (err != MOON_OK) {
        moon_buf_addz(error, why);
        return err;
    }
    (void)snprintf(target->namez, sizeof(target->namez), "%.*s",
                   MOON_STR_ARG(text));
    return MOON_OK;
}

/* As `name` of the configuration: anything else there is no node's folder. */
static bool is_node_name(struct moon_str name)
{
    for (size_t i = 0; i < name.len; i++) {
        char ch = name.ptr[i];
        bool fine = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
                    (ch >= '0' && ch <= '9') || ch == '_' ||
                    ((ch == '-' || ch == '.') && i > 0);
        if (!fine)
            return false;
    }
    return name.len > 0;
}

static bool by_name(const char *run_dirz, struct moon_str name,
                    struct moon_target *target)
{
    char textz[256], why[300];
    int len = snprintf(textz, sizeof(textz), "unix:%s/%.*s/admin.sock",
                       run_dirz, MOON_STR_ARG(name));
    if (!is_node_name(name) || name.len >= sizeof(target->namez) ||
        len >= (int)sizeof(textz))
        return false;
    (void)snprintf(target->namez, sizeof(target->namez), "%.*s",
                   MOON_STR_ARG(name));
    return moon_address_parse(moon_strz(textz), &target->address, why,
                              sizeof(why)) == MOON_OK;
}

static bool answers(const struct moon_target *target)
{
    int fd;
    if (moon_connect(&target->address, CONNECT_MS, &fd) != MOON_OK)
        return false;
    (void)close(fd);
    return true;
}

static int by_names(const void *a, const void *b)
{
    const struct moon_target *one = a, *two = b;
    return strcmp(one->namez, two->namez);
}

void moon_targets_running(const char *run_dirz, struct moon_targets *to)
{
    struct moon_buf why = {0};
    to->count = 0;
    DIR *dir =
        moon_private_dir_check(run_dirz, &why) ? opendir(run_dirz) : NULL;
    moon_buf_deinit(&why);
    if (dir == NULL)
        return;
    const struct dirent *entry;
    while (to->count < MOON_TARGETS_MAX && (entry = readdir(dir)) != NULL) {
        struct moon_target *one = &to->items[to->count];
        if (by_name(run_dirz, moon_strz(entry->d_name), one) && answers(one))
            to->count++;
    }
    (void)closedir(dir);
    qsort(to->items, to->count, sizeof(to->items[0]), by_names);
}

void moon_targets_names(const struct moon_targets *targets,
                        const char *betweenz, struct moon_buf *out)
{
    for (uint32_t i = 0; i < targets->count; i++)
        moon_buf_printf(out, "%s%s", i > 0 ? betweenz : "",
                        targets->items[i].namez);
}

enum moon_err moon_target_named(const char *run_dirz, struct moon_str name,
                                struct moon_target *target,
                                struct moon_buf *error)
{
    static struct moon_targets running; /* too large for a stack */
    if (!moon_private_dir_check(run_dirz, error))
        return MOON_EDENIED; /* who knows who answers there */
    if (by_name(run_dirz, name, target) && answers(target))
        return MOON_OK;
    moon_targets_running(run_dirz, &running);
    moon_buf_printf(error,
                    "no node \"%.*s\" runs here (looked in %s); "
                    "running: ",
                    MOON_STR_ARG(name), run_dirz);
    if (running.count == 0)
        moon_buf_addz(error, "none");
    moon_targets_names(&running, ", ", error);
    return MOON_ENOT_FOUND;
}

static bool is_address(struct moon_str text)
{
    return memchr(text.ptr, ':', text.len) != NULL ||
           memchr(text.ptr, '/', text.len) != NULL;
}

enum moon_err moon_targets_parse(const char *run_dirz, struct moon_str list,
                                 bool missing_too, struct moon_targets *to,
                                 struct moon_buf *error)
{
    to->count = 0;
    while (list.len > 0) {
        struct moon_str item = moon_str_trim(moon_str_cut(list, ',', &list));
        if (to->count == MOON_TARGETS_MAX) {
            moon_buf_printf(error, "more than %d nodes", MOON_TARGETS_MAX);
            return MOON_ETOO_BIG;
        }
        struct moon_target *target = &to->items[to->count];
        enum moon_err err = MOON_OK;
        if (item.len > 0 && is_address(item))
            err = moon_target_at(item, target, error);
        else if (!missing_too || !by_name(run_dirz, item, target))
            err = moon_target_named(run_dirz, item, target, error);
        if (err != MOON_OK)
            return err;
        to->count++;
    }
    return MOON_OK;
}
