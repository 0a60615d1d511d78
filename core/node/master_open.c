/* What the master opens once it knows its configuration: its folder in the run
 * directory, the listening sockets, the shared memory, the admin endpoints. */
#include "node/master_internal.h"

#include "base/log.h"
#include "node/keep.h"
#include "node/process.h"
#include "state/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BACKLOG = 4096, ERROR_MAX = 512 };

static bool fail_errno(struct moon_buf *error, const char *doingz,
                       const char *pathz)
{
    moon_buf_printf(error, "cannot %s %s: %s", doingz, pathz, strerror(errno));
    return false;
}

static char *join(const char *dirz, const char *namez)
{
    struct moon_buf buf = {0};
    moon_buf_printf(&buf, "%s/%s", dirz, namez);
    moon_buf_add_char(&buf, '\0');
    if (buf.failed) {
        moon_buf_deinit(&buf);
        return NULL;
    }
    return buf.ptr;
}

/* The run directory's parents too: /tmp/moonshine-1000/node-8080. */
static bool make_dirs(const char *pathz, struct moon_buf *error)
{
    char *path = strdup(pathz);
    if (path == NULL)
        return false;
    bool ok = true;
    for (char *at = path + 1; ok; at++) {
        if (*at != '/' && *at != '\0')
            continue;
        char was = *at;
        *at = '\0';
        if (mkdir(path, 0700) < 0 && errno != EEXIST)
            ok = fail_errno(error, "make", path);
        *at = was;
        if (was == '\0')
            break;
    }
    free(path);
    return ok;
}

/* Under /tmp somebody else may have made it first. */
static bool is_ours(const char *pathz, struct moon_buf *error)
{
    struct stat st;
    if (lstat(pathz, &st) < 0)
        return fail_errno(error, "use", pathz);
    if (S_ISDIR(st.st_mode) && st.st_uid == geteuid() &&
        (st.st_mode & 022) == 0)
        return true;
    moon_buf_printf(error, "%s is not a private directory of this user", pathz);
    return false;
}

static bool lock_pid_file(struct moon_master *master, struct moon_buf *error)
{
    int fd = open(master->pid_pathz, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
                  0644);
    if (fd < 0)
        return fail_errno(error, "write", master->pid_pathz);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        char pid[32] = "";
        (void)!read(fd, pid, sizeof(pid) - 1);
        moon_buf_printf(error,
                        "node \"%s\" is running already (pid %.*s); "
                        "give this one another --name",
                        master->namez, (int)strcspn(pid, "\n"), pid);
        (void)close(fd);
        return false;
    }
    master->pid_fd = fd;
    if (ftruncate(fd, 0) < 0 || dprintf(fd, "%d\n", (int)getpid()) < 0)
        return fail_errno(error, "write", master->pid_pathz);
    return true;
}

static bool open_folder(struct moon_master *master,
                        const struct moon_config *config,
                        struct moon_buf *error)
{
    master->namez = strdup(config->namez);
    master->node_dirz = join(config->run_dirz, config->namez);
    if (master->namez == NULL || master->node_dirz == NULL)
        return false;
    master->pid_pathz = join(master->node_dirz, "pid");
    if (master->pid_pathz == NULL)
        return false;
    return make_dirs(master->node_dirz, error) &&
           is_ours(master->node_dirz, error) && lock_pid_file(master, error);
}

/* Error pages show source: not to everybody. */
static bool may_listen(const struct moon_master *master,
                       const struct moon_address *address,
                       struct moon_buf *error)
{
    if (!master->options->dev || master->options->dev_public ||
        moon_address_is_local(address))
        return true;
    moon_buf_printf(error,
                    "--dev shows source code to whoever asks, so it listens "
                    "on loopback only; %s needs --dev-public",
                    address->textz);
    return false;
}

static bool open_listeners(struct moon_master *master,
                           const struct moon_config *config,
                           struct moon_buf *error)
{
    char text[ERROR_MAX] = "";
    if (config->listen.count > MOON_LISTEN_MAX) {
        moon_buf_printf(error, "at most %d addresses in listen",
                        MOON_LISTEN_MAX);
        return false;
    }
    for (uint32_t i = 0; i < config->listen.count; i++) {
        struct moon_listener *l = &master->listeners[i];
        if (moon_address_parse(moon_strz(config->listen.items[i]), &l->address,
                               text, sizeof(text)) != MOON_OK ||
            !may_listen(master, &l->address, error) ||
            moon_listen_open(&l->address, BACKLOG, &l->fd, text,
                             sizeof(text)) != MOON_OK) {
            moon_buf_addz(error, text);
            return false;
        }
        master->listener_count++;
        moon_log(MOON_LOG_INFO, "listening on %s", l->address.textz);
    }
    return true;
}

static void open_keep(struct moon_master *master,
                      const struct moon_config *config)
{
    struct moon_buf why = {0};
    if (moon_keep_open(config->state_dirz, master->namez, &master->keep_fd,
                       &why) == MOON_OK)
        moon_keep_clean(master->keep_fd, getpid());
    else /* the probe has said more */
        moon_log(MOON_LOG_DEBUG, "%.*s", MOON_STR_ARG(moon_buf_str(&why)));
    moon_buf_deinit(&why);
}

/* Workers that are not root must be able to open it again. */
static void give_log_away(const struct moon_config *config)
{
    const struct passwd *pw = getpwnam(config->userz);
    if (geteuid() == 0 && pw != NULL && moon_log_fd() > STDERR_FILENO &&
        fchown(moon_log_fd(), pw->pw_uid, pw->pw_gid) < 0)
        moon_log(MOON_LOG_WARN, "the log file stays root's: %s",
                 strerror(errno));
}

static enum moon_err open_metrics(struct moon_master *master,
                                  const struct moon_config *config)
{
    uint32_t slots = moon_shm_slots(master->place_count);
    enum moon_err err =
        moon_metrics_open(master->region, MOON_METRICS_APP, slots,
                          config->metrics_max_series, &master->metrics);
    if (err == MOON_OK)
        err = moon_metrics_open(master->region, MOON_METRICS_NODE, slots,
                                config->metrics_max_series,
                                &master->node_metrics);
    return err;
}

static bool open_parts(struct moon_master *master, struct moon_config *config,
                       struct moon_buf *error)
{
    char text[ERROR_MAX] = "";
    if (moon_process_check_user(config->userz, text, sizeof(text)) != MOON_OK) {
        moon_buf_addz(error, text);
        return false;
    }
    give_log_away(config);
    if (!open_listeners(master, config, error))
        return false;
    uint16_t port = 0;
    if (master->listener_count > 0)
        port = master->listeners[0].address.port;
    if (config->namez[0] == '\0' &&
        moon_config_set_port(config, port) != MOON_OK)
        return false;
    if (!open_folder(master, config, error))
        return false;
    open_keep(master, config);
    master->place_count =
        config->workers < MOON_WORKERS_MAX ? config->workers : MOON_WORKERS_MAX;
    enum moon_err err =
        moon_lmdb_private_dir_name(P_tmpdir, master->memory_dir);
    if (err == MOON_OK)
        err =
            moon_shm_create(master->place_count, &master->shm, &master->shm_fd);
    if (err == MOON_OK)
        err = moon_region_create(&master->region, &master->region_fd);
    if (err == MOON_OK)
        err = open_metrics(master, config);
    if (err != MOON_OK) {
        moon_buf_printf(error, "no shared memory: %s", moon_err_text(err));
        return false;
    }
    return moon_admin_open(master, error) == MOON_OK;
}

bool moon_master_open(struct moon_master *master, struct moon_release *first,
                      struct moon_buf *error)
{
    master->fixed = moon_release_ref(first);
    (void)moon_layers_apply_log(first->config, first->dirz,
                                master->options->dev, NULL);
    if (!open_parts(master, first->config, error)) {
        if (error->len == 0)
            moon_buf_addz(error, "out of memory");
        return false;
    }
    moon_log_set_who(master->namez);
    master->opened = true;
    if (master->options->dev)
        moon_dev_watch_open(master);
    return true;
}

void moon_master_close_listeners(struct moon_master *master)
{
    for (uint32_t i = 0; i < master->listener_count; i++) {
        struct moon_listener *l = &master->listeners[i];
        /* First, so that new clients look for somebody else. */
        if (l->address.pathz[0] != '\0')
            (void)unlink(l->address.pathz);
        (void)close(l->fd);
    }
    master->listener_count = 0;
}

void moon_master_close(struct moon_master *master)
{
    moon_master_close_listeners(master);
    if (master->pid_fd >= 0) {
        (void)unlink(master->pid_pathz);
        (void)close(master->pid_fd);
        (void)rmdir(master->node_dirz); /* if nothing else is in it */
    }
    if (master->keep_fd >= 0)
        (void)close(master->keep_fd);
    moon_shm_close(master->shm);
    if (master->shm_fd >= 0)
        (void)close(master->shm_fd);
    moon_metrics_close(master->metrics);
    moon_metrics_close(master->node_metrics);
    moon_region_close(master->region);
    if (master->region_fd >= 0)
        (void)close(master->region_fd);
    moon_lmdb_private_dir_remove(master->memory_dir);
    free(master->namez);
    free(master->node_dirz);
    free(master->pid_pathz);
    free(master->fallback_why);
    free(master->trial_why);
    free(master->reload.last_text);
    moon_probe_deinit(&master->reload.probe);
    moon_dev_broken_clear(master);
    moon_release_unref(master->fixed);
    moon_release_unref(master->current);
}
