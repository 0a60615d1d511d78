/* Who asks for a reload, and what a start falls back on. */
#include "node/reload_internal.h"

#include "base/log.h"
#include "node/keep.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool add_waiter(struct moon_reload_waiter **list, moon_reload_done *done,
                       void *ctx)
{
    if (done == NULL)
        return true;
    struct moon_reload_waiter *waiter = malloc(sizeof(*waiter));
    if (waiter == NULL)
        return false;
    *waiter = (struct moon_reload_waiter){done, ctx, *list};
    *list = waiter;
    return true;
}

static void refuse(moon_reload_done *done, void *ctx, struct moon_str why)
{
    moon_log(MOON_LOG_WARN, "not reloading: %.*s", MOON_STR_ARG(why));
    if (done != NULL)
        done(ctx, false, why);
}

/* The next binary has taken its own snapshot already, or is about to. A signal
 * is for whoever serves in the end; those who wait are told to ask again. */
static void meet_upgrade(struct moon_master *master, enum moon_reload_kind kind,
                         moon_reload_done *done, void *ctx)
{
    if (done != NULL || kind != MOON_RELOAD_DISK) {
        refuse(done, ctx,
               MOON_STR("an upgrade is under way: ask again when it is over"));
        return;
    }
    if (!master->upgrade.reload_after)
        moon_log(MOON_LOG_INFO, "an upgrade is under way: the reload follows");
    master->upgrade.reload_after = true;
}

void moon_reload_next(struct moon_master *master)
{
    struct moon_reload *reload = &master->reload;
    if (master->state != MOON_MASTER_RUNNING ||
        reload->phase != MOON_RELOAD_IDLE || moon_upgrade_is_busy(master))
        return;
    if (reload->queued) {
        reload->queued = false;
        reload->waiters = reload->next_waiters;
        reload->next_waiters = NULL;
        moon_reload_begin(master, MOON_RELOAD_DISK);
    } else if (master->upgrade.queued) {
        moon_upgrade_request(master);
    }
}

void moon_reload_request(struct moon_master *master, enum moon_reload_kind kind,
                         moon_reload_done *done, void *ctx)
{
    struct moon_reload *reload = &master->reload;
    bool first = master->state == MOON_MASTER_STARTING &&
                 (kind == MOON_RELOAD_START || kind == MOON_RELOAD_FALLBACK);
    if (master->state == MOON_MASTER_DRAINING) {
        refuse(done, ctx, MOON_STR("the node is shutting down"));
        return;
    }
    if (moon_upgrade_is_busy(master)) {
        meet_upgrade(master, kind, done, ctx);
        return;
    }
    if (kind == MOON_RELOAD_ROLLBACK && master->current != NULL &&
        master->current->generation == 0) {
        refuse(done, ctx,
               MOON_STR("nothing has been served yet: save a version that "
                        "loads"));
        return;
    }
    if (reload->phase == MOON_RELOAD_IDLE &&
        (first || master->state == MOON_MASTER_RUNNING)) {
        if (!add_waiter(&reload->waiters, done, ctx))
            refuse(done, ctx, MOON_STR("out of memory"));
        else
            moon_reload_begin(master, kind);
        return;
    }
    if (kind == MOON_RELOAD_ROLLBACK) {
        refuse(done, ctx, MOON_STR("a reload is running: try again"));
        return;
    }
    /* What changed on disk since the running one took its snapshot. */
    if (!add_waiter(&reload->next_waiters, done, ctx)) {
        refuse(done, ctx, MOON_STR("out of memory"));
        return;
    }
    if (!reload->queued)
        moon_log(MOON_LOG_INFO, "a reload is running: one more follows");
    reload->queued = true;
}

static void tell_all(struct moon_reload_waiter **list, struct moon_str text)
{
    struct moon_reload_waiter *waiter = *list;
    *list = NULL;
    while (waiter != NULL) {
        struct moon_reload_waiter *next = waiter->next;
        waiter->done(waiter->ctx, false, text);
        free(waiter);
        waiter = next;
    }
}

void moon_reload_abort(struct moon_master *master)
{
    struct moon_reload *reload = &master->reload;
    struct moon_str why = MOON_STR("the node is shutting down");
    if (reload->phase == MOON_RELOAD_PROBING)
        moon_probe_kill(&reload->probe); /* its end sets the phase */
    else
        reload->phase = MOON_RELOAD_IDLE;
    reload->deadline_ms = 0;
    reload->queued = false;
    moon_release_unref(reload->release);
    reload->release = NULL;
    if (master->keep_fd >= 0)
        moon_keep_abort(master->keep_fd, getpid());
    tell_all(&reload->waiters, why);
    tell_all(&reload->next_waiters, why);
}

bool moon_reload_is_newest_kept(struct moon_master *master,
                                const struct moon_release *release)
{
    int fd = -1;
    struct moon_archive *archive = NULL;
    if (!moon_keep_is_of(master->keep_fd, master->paths.appz) ||
        moon_keep_get(master->keep_fd, 0, &fd) != MOON_OK)
        return false;
    enum moon_err err = moon_archive_open(fd, &archive);
    (void)close(fd);
    if (err != MOON_OK)
        return false;
    char kept[33], now[33];
    moon_archive_hash(archive, kept);
    moon_archive_hash(release->archive, now);
    moon_archive_unref(archive);
    return memcmp(kept, now, sizeof(kept)) == 0;
}

/* Without config.lua, which may be what is wrong, the directory is where the
 * command line and the environment say. */
static bool open_without_config(struct moon_master *master)
{
    struct moon_buf error = {0}, flat = {0};
    struct moon_config *config = NULL;
    struct moon_release *release = NULL;
    bool ok = false;
    int keep = -1, archive_fd = -1, config_fd = -1;
    if (moon_layers_build(master->options, NULL, &config, &error) == MOON_OK &&
        moon_keep_open(config->state_dirz, config->namez, &keep, &error) ==
            MOON_OK &&
        moon_keep_is_of(keep, master->paths.appz) &&
        moon_keep_get(keep, 0, &archive_fd) == MOON_OK) {
        moon_config_serialise(config, &flat);
        config_fd = moon_control_memfd("moonshine-config", moon_buf_str(&flat));
        if (config_fd < 0)
            (void)close(archive_fd);
        else if (moon_release_create(0, archive_fd, config_fd,
                                     moon_strz(master->paths.dirz), &release,
                                     &error) == MOON_OK)
            ok = moon_master_open(master, release, &error);
    }
    if (!ok && error.len > 0)
        moon_log(MOON_LOG_ERROR, "no fallback: %.*s",
                 MOON_STR_ARG(moon_buf_str(&error)));
    if (keep >= 0)
        (void)close(keep);
    moon_release_unref(release);
    moon_config_destroy(config);
    moon_buf_deinit(&error);
    moon_buf_deinit(&flat);
    return ok;
}

bool moon_reload_try_fallback(struct moon_master *master, struct moon_str why)
{
    if (master->options->no_fallback || master->options->dev)
        return false;
    /* What opening itself refused (a port in use) no snapshot can mend. */
    if (!master->opened &&
        (master->reload.probe.has_config || !open_without_config(master)))
        return false;
    if (moon_keep_count(master->keep_fd) == 0 ||
        !moon_keep_is_of(master->keep_fd, master->paths.appz))
        return false;
    free(master->fallback_why);
    master->fallback_why = strndup(why.ptr, why.len);
    moon_log(MOON_LOG_ERROR,
             "the code on disk fails: %.*s; serving the last committed "
             "version instead (fallback)",
             MOON_STR_ARG(why));
    moon_reload_begin(master, MOON_RELOAD_FALLBACK);
    return true;
}

uint64_t moon_reload_load_timeout(const struct moon_master *master)
{
    if (master->current != NULL)
        return master->current->config->load_timeout_ms;
    if (master->fixed != NULL)
        return master->fixed->config->load_timeout_ms;
    uint64_t ms = 10000;
    struct moon_buf ignored = {0};
    struct moon_config *config = NULL;
    if (moon_layers_build(master->options, NULL, &config, &ignored) == MOON_OK)
        ms = config->load_timeout_ms;
    moon_config_destroy(config);
    moon_buf_deinit(&ignored);
    return ms;
}

void moon_reload_note_start_error(struct moon_master *master,
                                  struct moon_str text)
{
    free(master->reload.last_text);
    master->reload.last_text = strndup(text.ptr, text.len);
}

struct moon_str moon_reload_start_error(const struct moon_master *master)
{
    return master->reload.last_text != NULL
               ? moon_strz(master->reload.last_text)
               : MOON_STR_NONE;
}
