/* Memory that master, workers and a next binary share: named extents in one
 * large sparse mapping. What is never touched costs nothing.
 *
 * The master creates it before it forks and keeps the descriptor for an
 * upgrade; whoever needs an extent asks for it by name, at any time, and the
 * first one makes it. An extent stays until the node ends, whatever becomes of
 * the process that made it. Its layout number keeps old and new binaries
 * apart: another layout or size is another extent. What an extent holds is
 * written by processes that run foreign code: the master checks what it reads.
 * Any thread of any process; nothing here waits for longer than a directory
 * look-up. */
#ifndef MOON_STATE_REGION_H
#define MOON_STATE_REGION_H

#include "base/compiler.h"
#include "base/errcode.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

enum { MOON_EXTENT_NAME = 48, MOON_EXTENTS_MAX = 256 };

struct moon_region;

/* *fd (close on exec) is the caller's; with fd NULL the region is this
 * process' own, for a probe or a test. Tries smaller sizes where the system
 * allows no large one; MOON_ENOMEM if even the least fails. */
MOON_MUST_CHECK enum moon_err moon_region_create(struct moon_region **out,
                                                 int *fd);
/* Maps one that another process made; MOON_EPROTO: of another layout. */
MOON_MUST_CHECK enum moon_err moon_region_open(int fd,
                                               struct moon_region **out);
/* Unmaps; every pointer into it dies. NULL is fine. */
void moon_region_close(struct moon_region *region);

/* Fills a new extent, which is zero; called under the region's lock. If its
 * maker dies meanwhile it is called again, on what that one left. */
typedef void moon_region_init(void *extent, size_t size, void *ctx);

/* The extent of that name, layout and size: 64-byte aligned, valid until the
 * region is closed. NULL: no room, or too many; the caller does without or
 * fails. `init` may be NULL. */
MOON_MUST_CHECK void *moon_region_extent(struct moon_region *region,
                                         const char *namez, uint32_t layout,
                                         size_t size, moon_region_init *init,
                                         void *ctx);
/* The same if it is there already, else NULL. With size 0 any size, told in
 * *found_size (may be NULL). */
void *moon_region_find(struct moon_region *region, const char *namez,
                       uint32_t layout, size_t size, size_t *found_size);

/* A process-shared mutex whose owner may die. Lock returns false when the last
 * owner died inside: the caller must mend what the mutex protects, and holds
 * it. Neither can fail otherwise. */
void moon_robust_init(pthread_mutex_t *mutex);
bool moon_robust_lock(pthread_mutex_t *mutex);
void moon_robust_unlock(pthread_mutex_t *mutex);

#endif
