/* The listening sockets of a node: opened, given by a service manager, or taken
 * over from the master before; and who goes on accepting from them when this
 * node's workers stop. */
#include "node/master_internal.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BACKLOG = 4096, ADMIN_BACKLOG = 64, ERROR_MAX = 512 };

/* ---- given sockets ---- */

/* `listen` becomes what the manager gives: an option, so that it wins. */
static bool replace_listen(struct moon_master *master,
                           const struct moon_buf *listen)
{
    const struct moon_node_options *given = master->options;
    size_t count = given->setting_count;
    struct moon_node_setting *settings =
        calloc(count + 1, sizeof(struct moon_node_setting));
    char *textz = strndup(listen->ptr, listen->len);
    if (settings == NULL || textz == NULL) {
        free(settings);
        free(textz);
        return false;
    }
    if (count > 0)
        memcpy(settings, given->settings, count * sizeof(*settings));
    settings[count] = (struct moon_node_setting){
        .keyz = "listen", .valuez = textz, .optionz = "LISTEN_FDS"};
    master->own_settings = settings;
    master->own_listenz = textz;
    master->own_options = *given;
    master->own_options.settings = settings;
    master->own_options.setting_count = count + 1;
    master->options = &master->own_options;
    return true;
}

static void note(struct moon_inventory_socket *to, int fd, const char *textz)
{
    to->fd = fd;
    to->managed = true;
    (void)snprintf(to->wantedz, sizeof(to->wantedz), "%s", textz);
}

/* From here on they stand in the inventory, as if the master before had had
 * them. */
static bool take_activated(struct moon_master *master, struct moon_buf *error)
{
    struct moon_activation given;
    struct moon_inventory *to = &master->takeover.inventory;
    if (moon_activation_take(&given, error) != MOON_OK)
        return false;
    for (uint32_t i = 0; i < given.count; i++) {
        const struct moon_activated *socket = &given.sockets[i];
        note(socket->admin ? &to->admin : &to->sockets[to->socket_count++],
             socket->fd, socket->address.textz);
        moon_log(MOON_LOG_INFO, "the service manager gives %s%s%s",
                 socket->address.textz, socket->namez[0] != '\0' ? " as " : "",
                 socket->namez);
    }
    return true;
}

bool moon_master_take_given(struct moon_master *master, struct moon_buf *error)
{
    struct moon_inventory *inventory = &master->takeover.inventory;
    struct moon_buf listen = {0};
    if (!master->takeover.active && !take_activated(master, error))
        return false;
    for (uint32_t i = 0; i < inventory->socket_count; i++)
        if (inventory->sockets[i].managed)
            moon_buf_printf(&listen, "%s%s", listen.len > 0 ? "," : "",
                            inventory->sockets[i].wantedz);
    bool ok =
        !listen.failed && (listen.len == 0 || replace_listen(master, &listen));
    if (!ok)
        moon_buf_addz(error, "out of memory");
    moon_buf_deinit(&listen);
    return ok;
}

/* ---- opening ---- */

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

/* Before it is opened, when a port 0 becomes a real one. */
static void note_wanted(struct moon_listener *l)
{
    _Static_assert(sizeof(l->wantedz) == sizeof(l->address.textz),
                   "it is a copy");
    memcpy(l->wantedz, l->address.textz, sizeof(l->wantedz));
}

static enum moon_err take(struct moon_master *master,
                          struct moon_inventory_socket *from,
                          struct moon_listener *to, char *text)
{
    enum moon_err err =
        moon_listen_adopt(from->fd, &to->address, text, ERROR_MAX);
    if (err != MOON_OK)
        return err;
    to->fd = from->fd;
    to->managed = from->managed;
    to->borrowed = master->takeover.pending;
    from->fd = -1;
    return MOON_OK;
}

static enum moon_err open_one(struct moon_master *master,
                              struct moon_listener *to, char *text)
{
    struct moon_takeover *takeover = &master->takeover;
    for (uint32_t i = 0; i < takeover->inventory.socket_count; i++) {
        struct moon_inventory_socket *from = &takeover->inventory.sockets[i];
        if (from->fd < 0 || strcmp(from->wantedz, to->wantedz) != 0)
            continue;
        takeover->sockets |= 1u << i;
        return take(master, from, to, text);
    }
    return moon_listen_open(&to->address, BACKLOG, &to->fd, text, ERROR_MAX);
}

bool moon_master_open_listeners(struct moon_master *master,
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
        *l = (struct moon_listener){.fd = -1};
        if (moon_address_parse(moon_strz(config->listen.items[i]), &l->address,
                               text, sizeof(text)) != MOON_OK ||
            !may_listen(master, &l->address, error)) {
            moon_buf_addz(error, text);
            return false;
        }
        note_wanted(l);
        if (open_one(master, l, text) != MOON_OK) {
            moon_buf_addz(error, text);
            return false;
        }
        master->listener_count++;
        moon_log(MOON_LOG_INFO, "listening on %s", l->address.textz);
    }
    return true;
}

/* ---- the admin endpoints' ---- */

static bool find_admin(struct moon_master *master, struct moon_listener *out,
                       struct moon_buf *error)
{
    const struct moon_config *config = master->fixed->config;
    const struct moon_inventory_socket *given =
        &master->takeover.inventory.admin;
    char text[ERROR_MAX] = "";
    struct moon_buf wanted = {0};
    if (given->fd >= 0 && given->managed)
        moon_buf_addz(&wanted, given->wantedz);
    else if (config->adminz[0] != '\0')
        moon_buf_addz(&wanted, config->adminz);
    else
        moon_buf_printf(&wanted, "unix:%s/admin.sock", master->node_dirz);
    if (wanted.failed)
        (void)snprintf(text, sizeof(text), "out of memory");
    bool ok = !wanted.failed &&
              moon_address_parse(moon_buf_str(&wanted), &out->address, text,
                                 sizeof(text)) == MOON_OK;
    moon_buf_deinit(&wanted);
    note_wanted(out);
    if (!ok) {
        moon_buf_printf(error, "admin: %s", text);
    } else if (out->address.pathz[0] == '\0' &&
               config->admin_tokenz[0] == '\0') {
        moon_buf_addz(error, "admin on a TCP address needs admin_token "
                             "(MOONSHINE_ADMIN_TOKEN or _FILE)");
        ok = false;
    }
    return ok;
}

bool moon_master_open_admin(struct moon_master *master, struct moon_listener *l,
                            struct moon_buf *error)
{
    if (!find_admin(master, l, error))
        return false;
    struct moon_takeover *takeover = &master->takeover;
    struct moon_inventory_socket *given = &takeover->inventory.admin;
    char text[ERROR_MAX] = "";
    enum moon_err err;
    bool is_given = given->fd >= 0 && strcmp(given->wantedz, l->wantedz) == 0;
    if (l->address.mode == 0)
        l->address.mode = 0600; /* for its user, whatever folder it is in */
    if (is_given)
        err = take(master, given, l, text);
    else
        err = moon_listen_open(&l->address, ADMIN_BACKLOG, &l->fd, text,
                               sizeof(text));
    if (err != MOON_OK) {
        moon_buf_printf(error, "admin: %s", text);
        return false;
    }
    if (is_given)
        takeover->taken |= MOON_TAKEN_ADMIN;
    return true;
}

/* ---- closing ---- */

/* Others accept from it when we do not. */
static bool is_shared(const struct moon_listener *l)
{
    return l->managed || l->borrowed || l->passed;
}

uint32_t moon_master_shared_sockets(const struct moon_master *master)
{
    uint32_t bits = 0;
    for (uint32_t i = 0; i < master->listener_count; i++)
        bits |= is_shared(&master->listeners[i]) ? 1u << i : 0;
    return bits;
}

void moon_master_share_sockets(struct moon_master *master)
{
    const struct moon_takeover *takeover = &master->takeover;
    bool others = (takeover->active && !takeover->left) ||
                  master->upgrade.phase != MOON_UPGRADE_NONE;
    moon_shm_set32(&moon_master_side(master)->shared,
                   others ? UINT32_MAX : moon_master_shared_sockets(master));
}

void moon_master_hide_listeners(struct moon_master *master)
{
    for (uint32_t i = 0; i < master->listener_count; i++) {
        struct moon_listener *l = &master->listeners[i];
        if (l->address.pathz[0] != '\0' && !is_shared(l) && !l->hidden)
            (void)unlink(l->address.pathz);
        l->hidden = true;
    }
}

void moon_master_close_listeners(struct moon_master *master)
{
    moon_master_hide_listeners(master);
    for (uint32_t i = 0; i < master->listener_count; i++)
        (void)close(master->listeners[i].fd);
    master->listener_count = 0;
}
