/* What status and metrics say of routes that are shut off. What is told of them
 * stands in memory that workers write. */
#include "node/admin_text.h"

#include "base/clock.h"
#include "state/quarantine_table.h"

typedef unsigned long long ull;

struct printer {
    struct moon_buf *out;
    uint64_t now_ms;
    double wall_s;
    uint32_t count;
};

static struct printer start(struct moon_buf *out)
{
    return (struct printer){
        .out = out, .now_ms = moon_clock_ms(), .wall_s = moon_clock_wall()};
}

static uint64_t since_ms(const struct printer *p,
                         const struct moon_quarantine_cell *cell)
{
    return p->now_ms > cell->since_ms ? p->now_ms - cell->since_ms : 0;
}

static bool is_probing(const struct moon_quarantine_cell *cell)
{
    return cell->state == MOON_QUARANTINE_PROBING;
}

static uint64_t next_ms(const struct printer *p,
                        const struct moon_quarantine_cell *cell)
{
    return !is_probing(cell) && cell->next_ms > p->now_ms
               ? cell->next_ms - p->now_ms
               : 0;
}

static void add_member(struct moon_buf *out, const char *namez,
                       const char *text, size_t size)
{
    moon_buf_printf(out, "\"%s\":", namez);
    moon_buf_add_json(out, moon_quarantine_text(text, size));
    moon_buf_add_char(out, ',');
}

static void add_json(void *ctx, const struct moon_quarantine_cell *cell)
{
    struct printer *p = ctx;
    moon_buf_addz(p->out, p->count++ > 0 ? ",{" : "{");
    add_member(p->out, "route", cell->route, sizeof(cell->route));
    add_member(p->out, "kind", cell->kind, sizeof(cell->kind));
    add_member(p->out, "place", cell->place, sizeof(cell->place));
    add_member(p->out, "message", cell->message, sizeof(cell->message));
    moon_buf_printf(
        p->out,
        "\"failures\":%u,\"since\":%.3f,\"next_try_ms\":%llu,\"probing\":%s}",
        (unsigned)cell->row, p->wall_s - (double)since_ms(p, cell) / 1e3,
        (ull)next_ms(p, cell), is_probing(cell) ? "true" : "false");
}

static uint64_t serving(const struct moon_master *master)
{
    return moon_shm_get(&moon_master_side(master)->generation);
}

void moon_quarantine_json(const struct moon_master *master,
                          struct moon_buf *out)
{
    struct printer p = start(out);
    moon_buf_addz(out, ",\"quarantined\":[");
    (void)moon_quarantine_list(master->region, serving(master), add_json, &p);
    moon_buf_add_char(out, ']');
}

/* For a terminal. */
static void add_plain(struct moon_buf *out, const char *text, size_t size)
{
    moon_buf_add_shown(out, moon_quarantine_text(text, size));
}

static void add_line(void *ctx, const struct moon_quarantine_cell *cell)
{
    struct printer *p = ctx;
    moon_buf_addz(p->out, p->count++ > 0 ? "             " : "quarantine   ");
    add_plain(p->out, cell->route, sizeof(cell->route));
    moon_buf_addz(p->out, " is shut off for ");
    moon_admin_add_duration(p->out, since_ms(p, cell));
    if (is_probing(cell)) {
        moon_buf_addz(p->out, ", being tried");
    } else {
        moon_buf_addz(p->out, ", next try in ");
        moon_admin_add_duration(p->out, next_ms(p, cell));
    }
    moon_buf_printf(p->out, ": %u failures in a row, ", (unsigned)cell->row);
    add_plain(p->out, cell->kind, sizeof(cell->kind));
    moon_buf_addz(p->out, cell->place[0] != '\0' ? " at " : "");
    add_plain(p->out, cell->place, sizeof(cell->place));
    moon_buf_addz(p->out, ": ");
    add_plain(p->out, cell->message, sizeof(cell->message));
    moon_buf_add_char(p->out, '\n');
}

void moon_quarantine_lines(const struct moon_master *master,
                           struct moon_buf *out)
{
    struct printer p = start(out);
    (void)moon_quarantine_list(master->region, serving(master), add_line, &p);
}

uint32_t moon_quarantine_count(const struct moon_master *master)
{
    return moon_quarantine_list(master->region, serving(master), NULL, NULL);
}
