/* One version of the application as the master knows it: the code, the
 * configuration that its config.lua gave, and where it came from.
 *
 * Counted: the master holds the serving one and the one in a transaction, a
 * worker the ones its generations were built from. Read-only after creation,
 * so a builder thread may read it; the count is atomic. */
#ifndef MOON_NODE_RELEASE_H
#define MOON_NODE_RELEASE_H

#include "base/archive.h"
#include "base/config.h"

#include <stdatomic.h>

struct moon_release {
    atomic_uint refs;
    uint64_t generation;
    struct moon_archive *archive;
    struct moon_config *config;
    int archive_fd, config_fd; /* owned; for sending to workers; or -1 */
    char *dirz;                /* absolute, without links */
    uint32_t routes;
    char code[33]; /* what it is (moon_archive_hash), once it is final */
    bool fallback; /* not from disk: a kept snapshot at start */
};

/* Maps and parses both; the descriptors become the release's (also on failure,
 * then closed). `error` is a sentence. */
MOON_MUST_CHECK enum moon_err moon_release_create(uint64_t generation,
                                                  int archive_fd, int config_fd,
                                                  struct moon_str dir,
                                                  struct moon_release **out,
                                                  struct moon_buf *error);
struct moon_release *moon_release_ref(struct moon_release *release);
void moon_release_unref(struct moon_release *release); /* NULL is fine */

#endif
