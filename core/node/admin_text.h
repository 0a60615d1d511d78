/* What the admin endpoints say: status as JSON and as a table, the list of
 * requests, metrics for Prometheus. Reads the master's state; appends to a
 * buffer. */
#ifndef MOON_NODE_ADMIN_TEXT_H
#define MOON_NODE_ADMIN_TEXT_H

#include "node/master_internal.h"

enum moon_disk_state { MOON_DISK_UNKNOWN, MOON_DISK_SAME, MOON_DISK_DIFFERS };

struct moon_disk_news {
    enum moon_disk_state state;
    struct moon_str what; /* "app.lua changed" */
};

void moon_admin_status_json(const struct moon_master *master,
                            const struct moon_disk_news *disk,
                            struct moon_buf *out);
void moon_admin_status_table(const struct moon_master *master,
                             const struct moon_disk_news *disk,
                             struct moon_buf *out);
/* "3d 4h", "12m 5s": the two largest units. */
void moon_admin_add_duration(struct moon_buf *out, uint64_t ms);
/* upgrade_text.c: members of the status object; lines of the table, if there is
 * anything to say. */
void moon_upgrade_json(const struct moon_master *master, struct moon_buf *out);
void moon_upgrade_lines(const struct moon_master *master, struct moon_buf *out);
/* admin_quarantine.c: routes that are shut off, likewise; how many. */
void moon_quarantine_json(const struct moon_master *master,
                          struct moon_buf *out);
void moon_quarantine_lines(const struct moon_master *master,
                           struct moon_buf *out);
uint32_t moon_quarantine_count(const struct moon_master *master);
void moon_admin_metrics(const struct moon_master *master, struct moon_buf *out);

/* `lines` as workers send them: tab-separated, one request each. */
void moon_admin_requests_json(struct moon_str lines, struct moon_buf *out);
void moon_admin_requests_table(struct moon_str lines, struct moon_buf *out);

#endif
