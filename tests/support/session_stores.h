/* Session stores by URL, for the programs that try them: the one place that
 * knows them all.
 *
 *   lmdb:DIR      files that stay
 *   memory:       a directory of its own; prepare turns it into memory:DIR,
 *                 which other processes can open, too
 *   redis..., memcached:...  a server that runs */
#ifndef MOON_TESTS_SESSION_STORES_H
#define MOON_TESTS_SESSION_STORES_H

#include "state/session_store.h"

#include <uv.h>

enum { STORE_URL = 1024 };

/* The URL that every process is given; once, by the first one. False: it says
 * why on stderr. */
bool store_prepare(const char *urlz, char prepared[STORE_URL]);
void store_release(const char *preparedz);

/* False: it says why on stderr. */
bool store_open(uv_loop_t *loop, const char *preparedz,
                struct moon_session_store **store);

#endif
