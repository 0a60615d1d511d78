/* The new master's side of an upgrade; see upgrade.h. */
#include "node/master_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "node/process.h"
#include "state/metrics.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Longer than a worker whose master is gone takes to drain, unless
 * drain_timeout is longer still: then its slot may be reused while it finishes.
 */
enum { SWEEP_MAX_MS = 60000 };

/* ---- the inventory ---- */

static enum moon_err read_inventory(int fd, struct moon_inventory *inventory,
                                    struct moon_buf *error)
{
    struct stat st;
    void *at = MAP_FAILED;
    if (fstat(fd, &st) == 0 && st.st_size > 0)
        at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (at == MAP_FAILED) {
        moon_buf_printf(error, "%s: descriptor %d is no inventory",
                        MOON_UPGRADE_VARIABLE, fd);
        return MOON_EPROTO;
    }
    enum moon_err err =
        moon_inventory_read(moon_str(at, (size_t)st.st_size), inventory, error);
    (void)munmap(at, (size_t)st.st_size);
    return err;
}

/* Ours now; what we start must not have it. */
static bool keep_private(int *fd)
{
    return *fd < 0 || fcntl(*fd, F_SETFD, FD_CLOEXEC) == 0;
}

static bool keep_all_private(struct moon_inventory *inventory)
{
    bool ok = keep_private(&inventory->channel_fd) &&
              keep_private(&inventory->shm_fd) &&
              keep_private(&inventory->region_fd) &&
              keep_private(&inventory->pid_fd) &&
              keep_private(&inventory->admin.fd);
    for (uint32_t i = 0; i < inventory->socket_count; i++)
        ok = ok && keep_private(&inventory->sockets[i].fd);
    return ok;
}

static void tell(const struct moon_master *master,
                 enum moon_upgrade_message type, struct moon_str text)
{
    struct moon_control_msg msg;
    moon_control_msg_init(&msg, type);
    msg.text = text;
    msg.generation = (uint64_t)getpid();
    if (moon_control_send(master->takeover.inventory.channel_fd, &msg) !=
        MOON_OK)
        moon_log(MOON_LOG_DEBUG, "the old master was not told");
}

bool moon_takeover_init(struct moon_master *master, struct moon_buf *error)
{
    struct moon_takeover *takeover = &master->takeover;
    moon_inventory_init(&takeover->inventory);
    const char *numberz = getenv(MOON_UPGRADE_VARIABLE);
    uint64_t fd;
    if (numberz == NULL || numberz[0] == '\0')
        return true;
    if (!moon_str_to_u64(moon_strz(numberz), &fd) || fd > INT32_MAX) {
        moon_buf_printf(error, "%s: \"%s\" is not a descriptor",
                        MOON_UPGRADE_VARIABLE, numberz);
        return false;
    }
    (void)unsetenv(MOON_UPGRADE_VARIABLE);
    if (read_inventory((int)fd, &takeover->inventory, error) != MOON_OK)
        return false;
    (void)close((int)fd);
    if (!keep_all_private(&takeover->inventory)) {
        moon_buf_addz(error, "a descriptor of the inventory is not open");
        return false;
    }
    takeover->active = takeover->pending = true;
    tell(master, MOON_UPGRADE_HELLO, MOON_STR(MOON_VERSION));
    moon_log(MOON_LOG_INFO, "version %s takes over from %s (pid %d)",
             MOON_VERSION, takeover->inventory.versionz,
             takeover->inventory.pid);
    return true;
}

static void drop(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

void moon_takeover_drop_rest(struct moon_master *master)
{
    struct moon_inventory *inventory = &master->takeover.inventory;
    drop(&inventory->shm_fd);
    drop(&inventory->region_fd);
    drop(&inventory->pid_fd);
    drop(&inventory->admin.fd);
    for (uint32_t i = 0; i < inventory->socket_count; i++)
        drop(&inventory->sockets[i].fd);
}

/* ---- the grant ---- */

/* Nobody else accepts from our sockets any more. Before this, should we die,
 * the old master would serve on: our workers must not shut them. */
static void note_left(struct moon_master *master)
{
    if (master->takeover.pending)
        return;
    master->takeover.left = true;
    moon_master_share_sockets(master);
}

/* From here on the node is ours. */
static void take(struct moon_master *master)
{
    struct moon_takeover *takeover = &master->takeover;
    struct moon_buf error = {0};
    takeover->pending = false;
    takeover->took_at = moon_clock_wall();
    moon_shm_add(&master->shm->upgrades, 1);
    if ((takeover->taken & MOON_TAKEN_PID_FILE) != 0 &&
        !moon_master_write_pid(master, &error))
        moon_log(MOON_LOG_ERROR, "%.*s", MOON_STR_ARG(moon_buf_str(&error)));
    moon_buf_deinit(&error);
    for (uint32_t i = 0; i < master->listener_count; i++)
        master->listeners[i].borrowed = false;
    moon_admin_begin(master);
    moon_reload_start_granted(master);
    tell(master, MOON_UPGRADE_TAKEN, MOON_STR_NONE);
}

void moon_takeover_announce(struct moon_master *master, bool whole,
                            struct moon_str text)
{
    struct moon_takeover *takeover = &master->takeover;
    if (takeover->announced)
        return;
    takeover->announced = true;
    takeover->whole = whole;
    master->reload.deadline_ms = 0;
    if (takeover->alone) {
        take(master);
        note_left(master);
        return;
    }
    struct moon_control_msg msg;
    moon_control_msg_init(&msg, MOON_UPGRADE_READY);
    msg.text = text;
    msg.count = takeover->sockets;
    msg.txn = takeover->taken;
    msg.generation = (uint64_t)getpid();
    if (moon_control_send(takeover->inventory.channel_fd, &msg) != MOON_OK)
        moon_log(MOON_LOG_DEBUG, "the old master was not told");
}

void moon_takeover_failed(struct moon_master *master, struct moon_str why)
{
    if (master->takeover.pending)
        tell(master, MOON_UPGRADE_FAILED, why);
}

/* ---- the old master's end ---- */

/* It reaps its workers itself. If it was killed, nobody did: what they held is
 * given back once they are gone, or must be. */
static void sweep(struct moon_master *master)
{
    struct moon_takeover *takeover = &master->takeover;
    uint32_t first = takeover->inventory.slot_first;
    bool over = moon_clock_ms() >= takeover->sweep_until_ms;
    uint32_t left = 0;
    for (uint32_t i = 0; i < takeover->inventory.slot_count; i++) {
        if (first + i >= master->shm->slot_count)
            break;
        struct moon_worker_slot *slot = &master->shm->slots[first + i];
        pid_t pid = (pid_t)atomic_load(&slot->pid);
        if (!over && !moon_process_is_gone(pid)) {
            left++;
        } else if (pid != 0) {
            moon_shm_reset_slot(slot);
            moon_metrics_end_worker(master->metrics, first + i);
            moon_metrics_end_worker(master->node_metrics, first + i);
        }
    }
    takeover->left_slots = left;
}

static void on_old_gone(struct moon_master *master)
{
    struct moon_takeover *takeover = &master->takeover;
    (void)uv_poll_stop(&takeover->poll);
    moon_takeover_close(master);
    master->notify.muted = false;
    if (takeover->pending) {
        moon_log(MOON_LOG_WARN,
                 "the old master (pid %d) is gone: taking over "
                 "without it",
                 takeover->inventory.pid);
        takeover->alone = true;
        if (takeover->announced)
            take(master);
    } else {
        moon_log(MOON_LOG_INFO, "version %s (pid %d) has ended",
                 takeover->inventory.versionz, takeover->inventory.pid);
    }
    note_left(master);
    takeover->left_slots = takeover->inventory.slot_count;
    takeover->sweep_until_ms = moon_clock_ms() + SWEEP_MAX_MS;
    moon_takeover_tick(master);
    moon_master_check_end(master);
}

void moon_takeover_tick(struct moon_master *master)
{
    struct moon_takeover *takeover = &master->takeover;
    if (takeover->active && !takeover->polling && takeover->left_slots > 0 &&
        master->shm != NULL)
        sweep(master);
}

bool moon_takeover_is_shared(const struct moon_master *master)
{
    const struct moon_takeover *takeover = &master->takeover;
    return takeover->active && !takeover->pending &&
           (takeover->polling || takeover->left_slots > 0);
}

/* ---- the channel ---- */

static void obey(struct moon_master *master, const struct moon_control_msg *msg)
{
    struct moon_takeover *takeover = &master->takeover;
    switch ((enum moon_upgrade_message)msg->type) {
    case MOON_UPGRADE_GRANT:
        if (takeover->pending && takeover->announced)
            take(master);
        break;
    case MOON_UPGRADE_LEFT:
        note_left(master);
        master->notify.muted = false;
        moon_master_tell_ready(master);
        break;
    case MOON_UPGRADE_ABORT:
        if (!takeover->pending)
            break;
        moon_log(MOON_LOG_WARN, "the old master has given the upgrade up");
        master->exit_code = 1;
        moon_master_drain(master, NULL);
        break;
    default: /* of a version that says more */
        break;
    }
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)events;
    struct moon_master *master = poll->data;
    static struct moon_control_buf buf; /* the master has one thread */
    while (master->takeover.polling) {
        struct moon_control_msg msg;
        enum moon_err err =
            status < 0 ? MOON_ECLOSED
                       : moon_control_receive(
                             master->takeover.inventory.channel_fd, &msg, &buf);
        if (err == MOON_EAGAIN)
            return;
        if (err != MOON_OK) {
            on_old_gone(master);
            return;
        }
        obey(master, &msg);
        moon_control_msg_close(&msg);
    }
}

bool moon_takeover_start(struct moon_master *master)
{
    struct moon_takeover *takeover = &master->takeover;
    if (!takeover->active)
        return true;
    takeover->poll.data = master;
    if (uv_poll_init(&master->loop, &takeover->poll,
                     takeover->inventory.channel_fd) != 0)
        return false;
    takeover->polling = true;
    return uv_poll_start(&takeover->poll, UV_READABLE, on_poll) == 0;
}

static void on_closed(uv_handle_t *handle)
{
    struct moon_master *master = handle->data;
    (void)close(master->takeover.inventory.channel_fd);
    master->takeover.inventory.channel_fd = -1;
}

void moon_takeover_close(struct moon_master *master)
{
    if (!master->takeover.polling)
        return;
    master->takeover.polling = false;
    uv_close((uv_handle_t *)&master->takeover.poll, on_closed);
}
