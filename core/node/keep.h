/* The committed snapshots that a node keeps on disk, newest first: what a
 * rollback returns to, and what a start falls back on when the code on disk
 * fails.
 *
 * STATE_DIR/snapshots/NODE/ holds at most three, named by a growing number. The
 * newest is always what was committed last: a rollback removes the one it
 * leaves. Files are complete before they get their name (fsync, rename); until
 * then they are temporary ones of their `owner`, the master's process id. The
 * file `app` says which application they are of: another one that takes the
 * node's name over must neither fall back on them nor be rolled back to them.
 * Blocking, but short; `begin` and `write` run in the probe, the rest in the
 * master. */
#ifndef MOON_NODE_KEEP_H
#define MOON_NODE_KEEP_H

#include "base/buf.h"
#include "base/compiler.h"
#include "base/errcode.h"

#include <sys/types.h>

enum { MOON_KEEP_COUNT = 3 };

/* Makes the directory; *fd is it. `error` gets a sentence. */
MOON_MUST_CHECK enum moon_err moon_keep_open(const char *state_dirz,
                                             const char *namez, int *fd,
                                             struct moon_buf *error);
/* The nth newest (from 0), for reading. MOON_ENOT_FOUND past the last. */
MOON_MUST_CHECK enum moon_err moon_keep_get(int dir_fd, uint32_t nth,
                                            int *archive_fd);
uint32_t moon_keep_count(int dir_fd);
/* The owner's temporary file, empty. */
MOON_MUST_CHECK enum moon_err moon_keep_begin(int dir_fd, pid_t owner,
                                              int *temp_fd);
/* Copies an archive into it; on disk when it returns. */
MOON_MUST_CHECK enum moon_err moon_keep_write(int temp_fd, int archive_fd);
/* The temporary file becomes the newest; those past MOON_KEEP_COUNT go. */
MOON_MUST_CHECK enum moon_err moon_keep_commit(int dir_fd, pid_t owner);
void moon_keep_abort(int dir_fd, pid_t owner);
/* At start: removes what other owners, now dead, have left. */
void moon_keep_clean(int dir_fd, pid_t owner);
/* Removes the newest `count` (a rollback has left them). */
void moon_keep_drop(int dir_fd, uint32_t count);
/* Whether what is kept is of the application at this path. */
bool moon_keep_is_of(int dir_fd, const char *appz);
/* It is from now on: what is kept of another one goes. */
MOON_MUST_CHECK enum moon_err moon_keep_claim(int dir_fd, const char *appz);

#endif
