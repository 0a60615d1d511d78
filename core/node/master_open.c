/* What the master opens once it knows its configuration: its folder in the run
 * directory, the listening sockets, the shared memory, the admin endpoints. */
#include "node/master_internal.h"

#include "base/log.h"
#include "base/private_dir.h"
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

enum { ERROR_MAX = 512 };

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

bool moon_master_write_pid(struct moon_master *master, struct moon_buf *error)
{
    char text[16];
    int len = snprintf(text, sizeof(text), "%d\n", (int)getpid());
    ssize_t put;
    do {
        put = pwrite(master->pid_fd, text, (size_t)len, 0);
    } while (put < 0 && errno == EINTR);
    /* In this order the first line is never empty. */
    if (put == len && ftruncate(master->pid_fd, len) == 0)
        return true;
    return fail_errno(error, "write", master->pid_pathz);
}

/* The lock is the open file's: whoever has a descriptor of it has it. */
static bool take_pid_file(struct moon_master *master)
{
    struct moon_inventory *given = &master->takeover.inventory;
    if (given->pid_fd < 0 || strcmp(given->pid_pathz, master->pid_pathz) != 0)
        return false;
    master->pid_fd = given->pid_fd;
    given->pid_fd = -1;
    master->takeover.taken |= MOON_TAKEN_PID_FILE;
    return true;
}

static bool lock_pid_file(struct moon_master *master, struct moon_buf *error)
{
    if (take_pid_file(master))
        return true; /* it says the old master's until that lets go */
    int fd = open(master->pid_pathz, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
                  0600);
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
    return moon_master_write_pid(master, error);
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
    return moon_private_dir_make(master->node_dirz, error) &&
           is_ours(master->node_dirz, error) && lock_pid_file(master, error);
}

static void open_keep(struct moon_master *master,
                      const struct moon_config *config)
{
    struct moon_buf why = {0};
    if (moon_keep_open(config->state_dirz, master->namez, &master->keep_fd,
                       &why) == MOON_OK)
        moon_keep_clean(master->keep_fd, getpid());
    else /* the probe says more, if it gets so far */
        moon_log(MOON_LOG_WARN, "%.*s", MOON_STR_ARG(moon_buf_str(&why)));
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
    uint32_t slots = master->shm->slot_count;
    enum moon_err err =
        moon_metrics_open(master->region, MOON_METRICS_APP, slots,
                          config->metrics_max_series, &master->metrics);
    if (err == MOON_OK)
        err = moon_metrics_open(master->region, MOON_METRICS_NODE, slots,
                                config->metrics_max_series,
                                &master->node_metrics);
    return err;
}

/* What the old master's workers and ours share, if both binaries lay it out in
 * the same way and there is room for ours beside them. */
static bool take_shm(struct moon_master *master)
{
    struct moon_inventory *given = &master->takeover.inventory;
    if (given->shm_fd < 0)
        return false;
    if (moon_shm_open(given->shm_fd, &master->shm) != MOON_OK) {
        moon_log(MOON_LOG_WARN,
                 "the shared memory of version %s is laid out "
                 "in another way: counters begin anew",
                 given->versionz);
        return false;
    }
    if (!moon_shm_find_room(master->shm->slot_count, given->slot_first,
                            given->slot_count, master->place_count,
                            &master->first_slot)) {
        moon_log(MOON_LOG_WARN,
                 "no room for %u workers beside the %u there are: counters "
                 "and metrics begin anew",
                 master->place_count, given->slot_count);
        moon_shm_close(master->shm);
        master->shm = NULL;
        return false;
    }
    master->shm_fd = given->shm_fd;
    given->shm_fd = -1;
    master->side = (given->side + 1) % MOON_SHM_SIDES;
    return true;
}

static enum moon_err make_shm(struct moon_master *master)
{
    const struct moon_inventory *given = &master->takeover.inventory;
    uint32_t slots = moon_shm_slots(master->place_count);
    /* Not those of the old workers either: what lies in the region by slot may
     * still be theirs, too. */
    while (!moon_shm_find_room(slots, given->slot_first, given->slot_count,
                               master->place_count, &master->first_slot))
        slots *= 2;
    return moon_shm_create(slots, &master->shm, &master->shm_fd);
}

static bool take_region(struct moon_master *master)
{
    struct moon_inventory *given = &master->takeover.inventory;
    if (given->region_fd < 0)
        return false;
    if (moon_region_open(given->region_fd, &master->region) != MOON_OK) {
        moon_log(MOON_LOG_WARN,
                 "the tables of version %s are laid out in another way: "
                 "limits, metrics and shared values begin anew",
                 given->versionz);
        return false;
    }
    master->region_fd = given->region_fd;
    given->region_fd = -1;
    return true;
}

static enum moon_err name_memory_dir(struct moon_master *master)
{
    const char *givenz = master->takeover.inventory.memory_dirz;
    size_t len = strlen(givenz);
    if (len == 0 || len >= sizeof(master->memory_dir))
        return moon_lmdb_private_dir_name(P_tmpdir, master->memory_dir);
    memcpy(master->memory_dir, givenz, len + 1);
    master->takeover.taken |= MOON_TAKEN_MEMORY;
    return MOON_OK;
}

static bool open_memory(struct moon_master *master,
                        const struct moon_config *config,
                        struct moon_buf *error)
{
    enum moon_err err = name_memory_dir(master);
    if (err == MOON_OK && !take_shm(master))
        err = make_shm(master);
    if (err == MOON_OK && !take_region(master))
        err = moon_region_create(&master->region, &master->region_fd);
    if (err == MOON_OK)
        err = open_metrics(master, config);
    if (err != MOON_OK) {
        moon_buf_printf(error, "no shared memory: %s", moon_err_text(err));
        return false;
    }
    struct moon_shm_side *side = moon_master_side(master);
    moon_shm_set32(&side->first, master->first_slot);
    moon_shm_set32(&side->workers, master->place_count);
    moon_shm_set32(&side->node_state, MOON_NODE_STARTING);
    moon_master_share_sockets(master);
    return true;
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
    if (!moon_master_open_listeners(master, config, error))
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
    return open_memory(master, config, error) &&
           moon_admin_open(master, error) == MOON_OK;
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
    moon_takeover_drop_rest(master);
    master->opened = true;
    if (master->options->dev)
        moon_dev_watch_open(master);
    return true;
}

void moon_master_close(struct moon_master *master)
{
    moon_master_close_listeners(master);
    /* What the old master has not let go of is still its own. */
    uint32_t theirs = master->takeover.pending ? master->takeover.taken : 0;
    if (master->pid_fd >= 0 && (theirs & MOON_TAKEN_PID_FILE) == 0) {
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
    if ((theirs & MOON_TAKEN_MEMORY) == 0)
        moon_lmdb_private_dir_remove(master->memory_dir);
    free(master->namez);
    free(master->node_dirz);
    free(master->pid_pathz);
    free(master->fallback_why);
    free(master->trial_why);
    free(master->reload.last_text);
    moon_probe_deinit(&master->reload.probe);
    moon_dev_broken_clear(master);
    free(master->upgrade.pathz);
    free(master->upgrade.last_text);
    free(master->own_settings);
    free(master->own_listenz);
    moon_notify_deinit(&master->notify);
    moon_release_unref(master->fixed);
    moon_release_unref(master->current);
}
