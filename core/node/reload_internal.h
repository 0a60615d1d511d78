/* Between reload.c (the transaction), reload_request.c (who asks for one, and
 * what it falls back on) and dev_broken.c. Private to them. */
#ifndef MOON_NODE_RELOAD_INTERNAL_H
#define MOON_NODE_RELOAD_INTERNAL_H

#include "node/master_internal.h"

void moon_reload_begin(struct moon_master *master, enum moon_reload_kind kind);
/* Starts workers on reload.release, which has no routes: they show an error. */
void moon_reload_start_broken(struct moon_master *master);

/* At start: serve the newest kept snapshot instead; false if there is none. */
bool moon_reload_try_fallback(struct moon_master *master, struct moon_str why);
/* Same bytes as the newest one that is kept? Then it need not be kept again,
 * or three reloads of the same would push out what one can go back to. */
bool moon_reload_is_newest_kept(struct moon_master *master,
                                const struct moon_release *release);
uint64_t moon_reload_load_timeout(const struct moon_master *master);

/* What a worker said before it died at start. */
void moon_reload_note_start_error(struct moon_master *master,
                                  struct moon_str text);
struct moon_str moon_reload_start_error(const struct moon_master *master);

#endif
