/* --dev: watches the application's directory and reloads on save.
 *
 * Editors write in several steps. A finished write or a rename is waited on
 * for a moment only, since more files may follow; a file that went away longer,
 * since most editors put another in its place. */
#include "node/master_internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

enum {
    WRITTEN_MS = 25,
    HALF_DONE_MS = 100,
    LONGEST_MS = 500, /* however busily files are written */
    DIRS_MAX = 1000,
    DEPTH_MAX = 16,
};

/* A link or a hard link is only created, an unreadable file that becomes
 * readable only changes its attributes. */
#define WATCH_MASK                                                          \
    (IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_CREATE | \
     IN_ATTRIB | IN_MOVE_SELF | IN_ONLYDIR)

/* What is known of a watched directory, by its watch descriptor. */
struct dir {
    uint32_t pass; /* of the walk that met it last */
    bool in_views; /* all files in it matter */
};

struct moon_dev_watch {
    struct moon_master *master;
    int fd;
    int config_wd; /* of the directory of --config FILE; -1: none */
    const char *config_namez;
    uint32_t dirs, pass;
    struct dir *by_wd;
    size_t wd_cap;
    uint64_t first_ms; /* of the changes not yet reloaded; 0: none */
    uint64_t due_ms;
    uv_poll_t poll;
    uv_timer_t settle;
    uint32_t open_handles;
};

static bool skipped(const char *namez)
{
    return namez[0] == '.' || strcmp(namez, "node_modules") == 0;
}

static struct dir *dir_of(struct moon_dev_watch *dev, int wd)
{
    if ((size_t)wd >= dev->wd_cap) {
        size_t cap = (size_t)wd * 2 + 16;
        struct dir *grown = realloc(dev->by_wd, cap * sizeof(*grown));
        if (grown == NULL)
            return NULL;
        memset(grown + dev->wd_cap, 0, (cap - dev->wd_cap) * sizeof(*grown));
        dev->by_wd = grown;
        dev->wd_cap = cap;
    }
    return &dev->by_wd[wd];
}

/* Only directories: the master reads no file of the application. Links are
 * followed, as the snapshot does; one that leads back is met a second time. */
static void add_tree(struct moon_dev_watch *dev, const char *pathz, int depth,
                     bool in_views)
{
    int wd = inotify_add_watch(dev->fd, pathz, WATCH_MASK);
    struct dir *known = wd < 0 ? NULL : dir_of(dev, wd);
    if (known == NULL || known->pass == dev->pass)
        return;
    known->pass = dev->pass;
    known->in_views = in_views;
    dev->dirs++;
    DIR *dir = opendir(pathz);
    if (dir == NULL)
        return;
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL && dev->dirs < DIRS_MAX &&
           depth < DEPTH_MAX) {
        char path[4096];
        if (entry->d_type == DT_REG || skipped(entry->d_name))
            continue;
        int n = snprintf(path, sizeof(path), "%s/%s", pathz, entry->d_name);
        if (n > 0 && (size_t)n < sizeof(path))
            add_tree(dev, path, depth + 1,
                     in_views ||
                         (depth == 0 && strcmp(entry->d_name, "views") == 0));
    }
    (void)closedir(dir);
}

/* New directories may have come; the same one is not watched twice. */
static void watch_all(struct moon_dev_watch *dev)
{
    dev->dirs = 0;
    dev->pass++;
    add_tree(dev, dev->master->paths.dirz, 0, false);
    if (dev->dirs >= DIRS_MAX)
        moon_log(MOON_LOG_WARN,
                 "only %d directories of the application are watched",
                 DIRS_MAX);
}

static void on_settled(uv_timer_t *timer)
{
    struct moon_dev_watch *dev = timer->data;
    dev->first_ms = 0;
    watch_all(dev);
    moon_log(MOON_LOG_INFO, "files changed: reload");
    moon_reload_request(dev->master, MOON_RELOAD_DISK, NULL, NULL);
}

static bool ends_in(const char *namez, const char *endz)
{
    size_t len = strlen(namez), end = strlen(endz);
    return len > end && strcmp(namez + len - end, endz) == 0;
}

/* Is it part of the code? */
static bool matters(const struct moon_dev_watch *dev,
                    const struct inotify_event *event)
{
    static const char *const ends[] = {".lua", ".html", ".txt", ".json", ".xml",
                                       ".svg", ".tmpl", ".csv", ".md"};
    if ((event->mask & IN_IGNORED) != 0)
        return false;
    if (event->wd == dev->config_wd && event->len > 0 &&
        strcmp(event->name, dev->config_namez) == 0)
        return true;
    /* The directory of --config may be no part of the application. */
    if (event->wd >= 0 &&
        ((size_t)event->wd >= dev->wd_cap || dev->by_wd[event->wd].pass == 0))
        return false;
    if (event->len == 0)
        return (event->mask & IN_ATTRIB) == 0;
    if (skipped(event->name) || ends_in(event->name, "~"))
        return false;
    if ((event->mask & IN_ISDIR) != 0)
        return true;
    if (event->wd >= 0 && dev->by_wd[event->wd].in_views)
        return true;
    for (size_t i = 0; i < MOON_COUNT(ends); i++)
        if (ends_in(event->name, ends[i]))
            return true;
    return false;
}

static void plan(struct moon_dev_watch *dev, const struct inotify_event *event)
{
    bool written = (event->mask & (IN_CLOSE_WRITE | IN_MOVED_TO)) != 0;
    uint64_t now = moon_clock_ms();
    if (dev->first_ms == 0)
        dev->first_ms = now;
    else if ((event->mask & IN_ATTRIB) != 0)
        return; /* it goes with a write that was seen */
    dev->due_ms = now + (written ? WRITTEN_MS : HALF_DONE_MS);
    if (dev->due_ms > dev->first_ms + LONGEST_MS)
        dev->due_ms = dev->first_ms + LONGEST_MS;
    (void)uv_timer_start(&dev->settle, on_settled,
                         dev->due_ms > now ? dev->due_ms - now : 0, 0);
}

static void on_event(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct moon_dev_watch *dev = poll->data;
    _Alignas(struct inotify_event) char buf[16384];
    uv_update_time(&dev->master->loop);
    for (;;) {
        ssize_t n = read(dev->fd, buf, sizeof(buf));
        if (n <= 0)
            break;
        for (char *at = buf; at < buf + n;) {
            const struct inotify_event *event = (const void *)at;
            if (matters(dev, event))
                plan(dev, event);
            at += sizeof(*event) + event->len;
        }
    }
}

/* --config FILE may lie anywhere. */
static void watch_config(struct moon_dev_watch *dev, const char *configz)
{
    dev->config_wd = -1;
    const char *slash = configz != NULL ? strrchr(configz, '/') : NULL;
    if (slash == NULL)
        return;
    char path[4096];
    int n =
        snprintf(path, sizeof(path), "%.*s", (int)(slash - configz), configz);
    if (n < 0 || (size_t)n >= sizeof(path))
        return;
    dev->config_wd =
        inotify_add_watch(dev->fd, n == 0 ? "/" : path, WATCH_MASK);
    dev->config_namez = slash + 1;
}

void moon_dev_watch_open(struct moon_master *master)
{
    struct moon_dev_watch *dev = calloc(1, sizeof(*dev));
    if (dev == NULL)
        return;
    dev->master = master;
    dev->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (dev->fd < 0 || uv_poll_init(&master->loop, &dev->poll, dev->fd) != 0) {
        moon_log(MOON_LOG_WARN, "files are not watched: %s", strerror(errno));
        if (dev->fd >= 0)
            (void)close(dev->fd);
        free(dev);
        return;
    }
    (void)uv_timer_init(&master->loop, &dev->settle);
    dev->poll.data = dev->settle.data = dev;
    dev->open_handles = 2;
    watch_all(dev);
    watch_config(dev, master->paths.configz);
    (void)uv_poll_start(&dev->poll, UV_READABLE, on_event);
    master->dev = dev;
}

static void on_closed(uv_handle_t *handle)
{
    struct moon_dev_watch *dev = handle->data;
    if (--dev->open_handles > 0)
        return;
    (void)close(dev->fd);
    free(dev->by_wd);
    free(dev);
}

void moon_dev_watch_close(struct moon_master *master)
{
    struct moon_dev_watch *dev = master->dev;
    if (dev == NULL)
        return;
    master->dev = NULL;
    uv_close((uv_handle_t *)&dev->poll, on_closed);
    uv_close((uv_handle_t *)&dev->settle, on_closed);
}
