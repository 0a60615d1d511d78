/* --dev: code on disk that does not load. All workers answer every request with
 * the error until a version commits.
 *
 * At start there is no older code for them to hold: they get an application
 * without routes as generation 0, and the first version that loads replaces it
 * as any reload would. */
#include "node/reload_internal.h"

#include "base/log.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void forget(struct moon_master *master)
{
    free(master->broken.whyz);
    master->broken.whyz = NULL;
    if (master->broken.facts_fd >= 0)
        (void)close(master->broken.facts_fd);
    master->broken.facts_fd = -1;
}

void moon_dev_broken_tell(struct moon_child *child)
{
    const struct moon_master *master = child->master;
    struct moon_control_msg msg;
    if (master->broken.whyz == NULL || !child->fd_open)
        return;
    moon_control_msg_init(&msg, MOON_CONTROL_BROKEN);
    msg.text = moon_strz(master->broken.whyz);
    msg.fds[0] = master->broken.facts_fd;
    if (moon_control_send(child->fd, &msg) != MOON_OK)
        moon_log(MOON_LOG_DEBUG, "worker %u was not told", child->place + 1);
}

void moon_dev_broken_set(struct moon_master *master, struct moon_str why)
{
    forget(master);
    master->broken.facts_fd = moon_probe_take_facts(&master->reload.probe);
    master->broken.whyz = strndup(why.ptr, why.len);
    for (uint32_t i = 0; i < master->place_count; i++)
        if (master->places[i].child != NULL)
            moon_dev_broken_tell(master->places[i].child);
}

void moon_dev_broken_clear(struct moon_master *master)
{
    forget(master);
}

/* ---- at start ---- */

static int empty_application(const char *filez)
{
    int fd = -1;
    struct moon_archive_writer *writer = moon_archive_writer_create(1, 4096);
    if (writer == NULL)
        return -1;
    enum moon_err err = moon_archive_writer_add(
        writer, moon_strz(filez),
        MOON_STR("return require(\"moonshine\").app()\n"));
    enum moon_err end = moon_archive_writer_finish(writer, &fd);
    if (err == MOON_OK && end == MOON_OK)
        return fd;
    if (end == MOON_OK)
        (void)close(fd);
    return -1;
}

/* With the configuration that is known: config.lua's, unless it is what is
 * wrong. */
static struct moon_release *make_release(struct moon_master *master,
                                         struct moon_buf *error)
{
    struct moon_config *own = NULL;
    const struct moon_config *config =
        master->fixed != NULL ? master->fixed->config : NULL;
    struct moon_buf flat = {0};
    struct moon_release *release = NULL;
    if (config == NULL &&
        moon_layers_build(master->options, NULL, &own, error) == MOON_OK)
        config = own;
    if (config != NULL) {
        moon_config_serialise(config, &flat);
        int config_fd =
            moon_control_memfd("moonshine-config", moon_buf_str(&flat));
        int archive_fd = empty_application(master->paths.filez);
        if (config_fd < 0 || archive_fd < 0 || flat.failed) {
            moon_buf_addz(error, "out of memory");
            if (config_fd >= 0)
                (void)close(config_fd);
            if (archive_fd >= 0)
                (void)close(archive_fd);
        } else if (moon_release_create(0, archive_fd, config_fd,
                                       moon_strz(master->paths.dirz), &release,
                                       error) != MOON_OK) {
            release = NULL;
        }
    }
    moon_buf_deinit(&flat);
    moon_config_destroy(own);
    return release;
}

bool moon_dev_broken_start(struct moon_master *master, struct moon_str why)
{
    struct moon_buf error = {0};
    /* What opening itself refused (a port in use) is no matter of the code;
     * and while another binary serves, its answers are better. */
    if (!master->options->dev || master->takeover.pending ||
        (!master->opened && master->reload.probe.has_config))
        return false;
    struct moon_release *release = make_release(master, &error);
    bool ok = release != NULL &&
              (master->opened || moon_master_open(master, release, &error));
    if (ok) {
        moon_log(MOON_LOG_ERROR, "the code does not load: %.*s",
                 MOON_STR_ARG(why));
        moon_dev_broken_set(master, why);
        master->reload.release = moon_release_ref(release);
        moon_reload_start_broken(master);
    } else if (error.len > 0) {
        moon_log(MOON_LOG_ERROR, "the error cannot be shown: %.*s",
                 MOON_STR_ARG(moon_buf_str(&error)));
    }
    moon_release_unref(release);
    moon_buf_deinit(&error);
    return ok;
}
