/* Reads that survive a damaged or vanishing file.
 *
 * Where LMDB finds a page that cannot be, it aborts the process; where a page
 * of the mapped file is no longer there (truncated, or the disk fails), the
 * kernel sends SIGBUS. Inside a fence a read ends with MDB_CORRUPTED instead:
 * it holds no locks, and its transaction can be ended as any other. A write
 * cannot be left like that, and the process does end; but before it the file is
 * marked, so that whoever opens it next checks it, and no successor dies of the
 * same page.
 *
 * Installs a handler of SIGBUS, which passes on what is not ours. Any thread;
 * one fence at a time in each. */
#ifndef MOON_STATE_LMDB_FENCE_H
#define MOON_STATE_LMDB_FENCE_H

#include "base/compiler.h"

#include <lmdb.h>

/* Marks the file. Also called in a signal handler. */
struct moon_lmdb_mark {
    void (*suspect)(void *ctx);
    void *ctx;
};

/* Once for each environment, before it is opened; `mark` is borrowed until it
 * is closed. */
void moon_lmdb_fence_set(MDB_env *env, struct moon_lmdb_mark *mark);

/* What `run` returns, or MDB_CORRUPTED when it was cut short. It only reads;
 * what only it knows is lost then. */
MOON_MUST_CHECK int moon_lmdb_fenced(int (*run)(void *ctx), void *ctx);

/* Between these the thread writes. */
void moon_lmdb_fence_begin_write(struct moon_lmdb_mark *mark);
void moon_lmdb_fence_end_write(void);

#endif
