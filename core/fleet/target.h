/* A node as others reach it: its admin address, by name or as given.
 *
 * Blocking, for commands; a node of this machine is looked up in the run
 * directory, where each has a folder of its own with its admin socket. */
#ifndef MOON_FLEET_TARGET_H
#define MOON_FLEET_TARGET_H

#include "base/buf.h"
#include "base/compiler.h"
#include "base/errcode.h"
#include "net/listen.h"

enum { MOON_TARGET_NAME = 80, MOON_TARGETS_MAX = 256 };

struct moon_target {
    struct moon_address address;
    char namez[MOON_TARGET_NAME]; /* of the node, or the address */
};

struct moon_targets {
    uint32_t count;
    struct moon_target items[MOON_TARGETS_MAX];
};

/* "10.0.0.1:9000", "unix:/path"; told in `error` if it is none. */
MOON_MUST_CHECK enum moon_err moon_target_at(struct moon_str text,
                                             struct moon_target *target,
                                             struct moon_buf *error);
/* The node of that name, if it answers. MOON_ENOT_FOUND: none does; `error`
 * names those that run. */
MOON_MUST_CHECK enum moon_err moon_target_named(const char *run_dirz,
                                                struct moon_str name,
                                                struct moon_target *target,
                                                struct moon_buf *error);
/* Those of the run directory that answer, by name. */
void moon_targets_running(const char *run_dirz, struct moon_targets *to);
/* Their names with `betweenz` between two. */
void moon_targets_names(const struct moon_targets *targets,
                        const char *betweenz, struct moon_buf *out);
/* "a,b,10.0.0.1:9000": what has a colon or a slash is an address. A name of
 * which no node answers is an error, unless `missing_too`. */
MOON_MUST_CHECK enum moon_err moon_targets_parse(const char *run_dirz,
                                                 struct moon_str list,
                                                 bool missing_too,
                                                 struct moon_targets *to,
                                                 struct moon_buf *error);

#endif
