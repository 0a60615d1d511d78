/* A request target for the log: what a client sends to prove who it is often
 * stands in the query, and logs are read by more people than may have it. */
#ifndef MOON_HTTP_MASKED_QUERY_H
#define MOON_HTTP_MASKED_QUERY_H

#include "base/arena.h"

/* The target with "***" for each value whose name sounds like a secret (token,
 * password, key, code, ...; however it is written or escaped). The target
 * itself if there is none, else a copy in the arena; when memory is out, only
 * what is before the query. */
struct moon_str moon_masked_query(struct moon_str target,
                                  struct moon_arena *arena);

#endif
