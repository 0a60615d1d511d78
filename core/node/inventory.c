#include "node/inventory.h"

#include <stdio.h>

/* A reader of another format cannot know what it would get wrong. */
static const char format[] = "moonshine-inventory 1";

void moon_inventory_init(struct moon_inventory *inventory)
{
    *inventory = (struct moon_inventory){0};
    inventory->channel_fd = inventory->shm_fd = -1;
    inventory->region_fd = inventory->pid_fd = -1;
    inventory->admin.fd = -1;
    for (uint32_t i = 0; i < MOON_LISTEN_MAX; i++)
        inventory->sockets[i].fd = -1;
}

/* ---- writing ---- */

static void end_entry(struct moon_buf *out)
{
    moon_buf_add_char(out, '\0');
}

static void write_fd(struct moon_buf *out, const char *namez, int fd)
{
    if (fd < 0)
        return;
    moon_buf_printf(out, "%s %d", namez, fd);
    end_entry(out);
}

static void write_socket(struct moon_buf *out, const char *namez,
                         const struct moon_inventory_socket *socket)
{
    if (socket->fd < 0)
        return;
    moon_buf_printf(out, "%s %d %s %s", namez, socket->fd,
                    socket->managed ? "managed" : "own", socket->wantedz);
    end_entry(out);
}

void moon_inventory_write(const struct moon_inventory *inventory,
                          struct moon_buf *out)
{
    moon_buf_addz(out, format);
    end_entry(out);
    moon_buf_printf(out, "version %s", inventory->versionz);
    end_entry(out);
    moon_buf_printf(out, "pid %d", inventory->pid);
    end_entry(out);
    moon_buf_printf(out, "generation %llu",
                    (unsigned long long)inventory->generation);
    end_entry(out);
    moon_buf_printf(out, "slots %u %u %u", inventory->slot_first,
                    inventory->slot_count, inventory->side);
    end_entry(out);
    write_fd(out, "channel", inventory->channel_fd);
    write_fd(out, "shm", inventory->shm_fd);
    write_fd(out, "region", inventory->region_fd);
    if (inventory->pid_fd >= 0) {
        moon_buf_printf(out, "pidfile %d %s", inventory->pid_fd,
                        inventory->pid_pathz);
        end_entry(out);
    }
    if (inventory->memory_dirz[0] != '\0') {
        moon_buf_printf(out, "memory %s", inventory->memory_dirz);
        end_entry(out);
    }
    write_socket(out, "admin", &inventory->admin);
    for (uint32_t i = 0; i < inventory->socket_count; i++)
        write_socket(out, "listen", &inventory->sockets[i]);
}

/* ---- reading ---- */

static bool take_number(struct moon_str *values, uint64_t max, uint64_t *out)
{
    struct moon_str word = moon_str_cut(*values, ' ', values);
    return moon_str_to_u64(word, out) && *out <= max;
}

static bool take_fd(struct moon_str *values, int *fd)
{
    uint64_t number;
    if (!take_number(values, INT_MAX, &number))
        return false;
    *fd = (int)number;
    return true;
}

static bool take_text(struct moon_str values, char *to, size_t size)
{
    if (values.len == 0 || values.len >= size)
        return false;
    memcpy(to, values.ptr, values.len);
    to[values.len] = '\0';
    return true;
}

static bool take_socket(struct moon_str values,
                        struct moon_inventory_socket *socket)
{
    if (!take_fd(&values, &socket->fd))
        return false;
    struct moon_str whose = moon_str_cut(values, ' ', &values);
    socket->managed = moon_str_eq(whose, MOON_STR("managed"));
    return take_text(values, socket->wantedz, sizeof(socket->wantedz));
}

static bool take_listen(struct moon_str values,
                        struct moon_inventory *inventory)
{
    return inventory->socket_count < MOON_LISTEN_MAX &&
           take_socket(values, &inventory->sockets[inventory->socket_count++]);
}

static bool take_slots(struct moon_str values, struct moon_inventory *inventory)
{
    uint64_t first, count, side;
    if (!take_number(&values, UINT32_MAX / 2, &first) ||
        !take_number(&values, UINT32_MAX / 2, &count) ||
        !take_number(&values, 1, &side))
        return false;
    inventory->slot_first = (uint32_t)first;
    inventory->slot_count = (uint32_t)count;
    inventory->side = (uint32_t)side;
    return true;
}

static bool take_entry(struct moon_str name, struct moon_str values,
                       struct moon_inventory *to)
{
    if (moon_str_eq(name, MOON_STR("version")))
        return take_text(values, to->versionz, sizeof(to->versionz));
    if (moon_str_eq(name, MOON_STR("pid")))
        return take_fd(&values, &to->pid);
    if (moon_str_eq(name, MOON_STR("generation")))
        return take_number(&values, UINT64_MAX - 1, &to->generation);
    if (moon_str_eq(name, MOON_STR("slots")))
        return take_slots(values, to);
    if (moon_str_eq(name, MOON_STR("channel")))
        return take_fd(&values, &to->channel_fd);
    if (moon_str_eq(name, MOON_STR("shm")))
        return take_fd(&values, &to->shm_fd);
    if (moon_str_eq(name, MOON_STR("region")))
        return take_fd(&values, &to->region_fd);
    if (moon_str_eq(name, MOON_STR("pidfile")))
        return take_fd(&values, &to->pid_fd) &&
               take_text(values, to->pid_pathz, sizeof(to->pid_pathz));
    if (moon_str_eq(name, MOON_STR("memory")))
        return take_text(values, to->memory_dirz, sizeof(to->memory_dirz));
    if (moon_str_eq(name, MOON_STR("admin")))
        return take_socket(values, &to->admin);
    if (moon_str_eq(name, MOON_STR("listen")))
        return take_listen(values, to);
    return true; /* of a version that knows more */
}

enum moon_err moon_inventory_read(struct moon_str bytes,
                                  struct moon_inventory *inventory,
                                  struct moon_buf *error)
{
    moon_inventory_init(inventory);
    struct moon_str first = moon_str_cut(bytes, '\0', &bytes);
    if (!moon_str_eq(first, moon_strz(format))) {
        moon_buf_printf(error,
                        "the inventory begins with \"%.*s\", not with "
                        "\"%s\": these versions cannot hand over",
                        first.len > 40 ? 40 : (int)first.len, first.ptr,
                        format);
        return MOON_EPROTO;
    }
    while (bytes.len > 0) {
        struct moon_str values;
        struct moon_str entry = moon_str_cut(bytes, '\0', &bytes);
        struct moon_str name = moon_str_cut(entry, ' ', &values);
        if (!take_entry(name, values, inventory)) {
            moon_buf_printf(error, "the inventory has a wrong entry: \"%.*s\"",
                            entry.len > 80 ? 80 : (int)entry.len, entry.ptr);
            return MOON_EPROTO;
        }
    }
    if (inventory->channel_fd < 0) {
        moon_buf_addz(error, "the inventory names no channel");
        return MOON_EPROTO;
    }
    return MOON_OK;
}
