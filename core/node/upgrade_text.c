/* What `status` says of upgrades, on either side of one. */
#include "node/admin_text.h"

#include "base/clock.h"

#include <unistd.h>

typedef unsigned long long ull;

struct half {
    int pid;
    const char *versionz;
};

/* The one that is under way, if any. */
struct view {
    bool any;
    struct half from, to;
    const char *statez;
    uint32_t connections; /* of the old workers, while those drain */
};

static uint32_t old_connections(const struct moon_master *master)
{
    const struct moon_inventory *old = &master->takeover.inventory;
    uint32_t sum = 0;
    for (uint32_t i = 0; i < old->slot_count; i++)
        if (old->slot_first + i < master->shm->slot_count)
            sum += moon_shm_get32(
                &master->shm->slots[old->slot_first + i].connections);
    return sum;
}

static const char *describe(enum moon_upgrade_phase phase)
{
    switch (phase) {
    case MOON_UPGRADE_STARTING:
        return "starting";
    case MOON_UPGRADE_LOADING:
        return "loading";
    case MOON_UPGRADE_GRANTED:
        return "taking over";
    case MOON_UPGRADE_ENDING:
        return "failed, ending";
    case MOON_UPGRADE_OVER:
        return "draining";
    case MOON_UPGRADE_NONE:
        break;
    }
    return "-";
}

static struct view look(const struct moon_master *master)
{
    const struct moon_upgrade *upgrade = &master->upgrade;
    const struct moon_takeover *takeover = &master->takeover;
    struct half self = {(int)getpid(), MOON_VERSION};
    if (upgrade->phase != MOON_UPGRADE_NONE)
        return (struct view){
            .any = true,
            .from = self,
            .to = {(int)upgrade->main, upgrade->versionz[0] != '\0'
                                           ? upgrade->versionz
                                           : "unknown"},
            .statez = describe(upgrade->phase),
        };
    if (moon_takeover_is_shared(master))
        return (struct view){
            .any = true,
            .from = {takeover->inventory.pid, takeover->inventory.versionz},
            .to = self,
            .statez = describe(MOON_UPGRADE_OVER),
            .connections = old_connections(master),
        };
    return (struct view){0};
}

static void add_half(struct moon_buf *out, const char *namez,
                     const struct half *half)
{
    moon_buf_printf(out, "\"%s\":{\"pid\":%d,\"version\":", namez, half->pid);
    moon_buf_add_json(out, moon_strz(half->versionz));
    moon_buf_addz(out, "},");
}

/* The last one that is over: whether this master failed to be replaced, or
 * replaced another one. */
static bool last(const struct moon_master *master, bool *ok, double *at,
                 struct moon_buf *text)
{
    const struct moon_upgrade *upgrade = &master->upgrade;
    const struct moon_takeover *takeover = &master->takeover;
    *ok = upgrade->last_text == NULL;
    *at = *ok ? takeover->took_at : upgrade->last_at;
    if (!*ok)
        moon_buf_addz(text, upgrade->last_text);
    else if (takeover->took_at > 0)
        moon_buf_printf(text, "from version %s to %s",
                        takeover->inventory.versionz, MOON_VERSION);
    return text->len > 0;
}

void moon_upgrade_json(const struct moon_master *master, struct moon_buf *out)
{
    struct view view = look(master);
    struct moon_buf text = {0};
    bool ok;
    double at;
    moon_buf_addz(out, ",\"upgrade\":");
    if (view.any) {
        moon_buf_add_char(out, '{');
        add_half(out, "from", &view.from);
        add_half(out, "to", &view.to);
        moon_buf_printf(out, "\"state\":\"%s\",\"connections\":%u}",
                        view.statez, view.connections);
    } else {
        moon_buf_addz(out, "null");
    }
    moon_buf_addz(out, ",\"last_upgrade\":");
    if (last(master, &ok, &at, &text)) {
        moon_buf_printf(
            out, "{\"ok\":%s,\"at\":%.3f,\"text\":", ok ? "true" : "false", at);
        moon_buf_add_json(out, moon_buf_str(&text));
        moon_buf_add_char(out, '}');
    } else {
        moon_buf_addz(out, "null");
    }
    moon_buf_deinit(&text);
    const struct moon_shm *shm = master->shm;
    moon_buf_printf(out, ",\"upgrades\":%llu,\"upgrades_failed\":%llu",
                    (ull)moon_shm_get(&shm->upgrades),
                    (ull)moon_shm_get(&shm->upgrades_failed));
}

void moon_upgrade_lines(const struct moon_master *master, struct moon_buf *out)
{
    struct view view = look(master);
    struct moon_buf text = {0};
    bool ok;
    double at;
    if (view.any) {
        moon_buf_printf(out, "upgrade      from %s (pid %d) to %s (pid %d): %s",
                        view.from.versionz, view.from.pid, view.to.versionz,
                        view.to.pid, view.statez);
        if (view.connections > 0)
            moon_buf_printf(out, ", %u connection%s", view.connections,
                            view.connections == 1 ? "" : "s");
        moon_buf_add_char(out, '\n');
    }
    if (last(master, &ok, &at, &text)) {
        double ago = moon_clock_wall() - at;
        moon_buf_printf(out, "last upgrade %s, ", ok ? "succeeded" : "failed");
        moon_admin_add_duration(out, ago > 0 ? (uint64_t)(ago * 1000) : 0);
        moon_buf_printf(out, " ago: %.*s\n", MOON_STR_ARG(moon_buf_str(&text)));
    }
    moon_buf_deinit(&text);
}
