/* A request body on its way into an unlinked file of temp_dir, written on the
 * thread pool so that a slow disk holds up nobody else.
 *
 * The connection adds bytes and watches how many wait; it stops reading while
 * too many do. One write runs at a time, what is added meanwhile is the next.
 * Loop thread only. The kernel removes the file with its last descriptor:
 * after the request, after a disconnect, and after a crash. */
#ifndef MOON_NET_SPOOL_H
#define MOON_NET_SPOOL_H

#include "base/compiler.h"
#include "base/errcode.h"
#include "base/str.h"

#include <uv.h>

struct moon_spool;

/* A write (or the opening) ended, well or not. On the loop, never from inside
 * a call of this module. */
typedef void moon_spool_progress(void *ctx);

/* Begins to open the file. `dirz` is copied. NULL: no memory. */
MOON_MUST_CHECK struct moon_spool *moon_spool_create(
    uv_loop_t *loop, const char *dirz, moon_spool_progress *progress,
    void *ctx);

/* Copies `piece`; MOON_ENOMEM, or MOON_ESYS once the file has failed. */
MOON_MUST_CHECK enum moon_err moon_spool_add(struct moon_spool *spool,
                                             struct moon_str piece);

/* Bytes added and not yet written. */
size_t moon_spool_pending(const struct moon_spool *spool);
/* Bytes of memory that it holds. */
size_t moon_spool_memory(const struct moon_spool *spool);
/* MOON_OK: the file is open and all is in it; MOON_EAGAIN: progress will be
 * reported; MOON_ESYS: it failed, which was logged. */
enum moon_err moon_spool_state(const struct moon_spool *spool);

/* Ends it. What is being written is finished and dropped; progress is not
 * reported any more. With `fd` not NULL (only when the state is MOON_OK) the
 * descriptor, at offset 0 by pread, is transferred to the caller. */
void moon_spool_end(struct moon_spool *spool, int *fd);

#endif
