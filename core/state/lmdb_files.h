/* The files of a session store in its directory:
 *
 *   sessions.mdb               the sessions
 *   sessions.mdb-lock          LMDB's own locks
 *   sessions.mdb-guard         who may open and mend them (lmdb_guard.h)
 *   sessions.mdb.corrupt-TIME  what was found damaged, the last three
 *
 * Blocking, but short. Results are 0 or an errno. */
#ifndef MOON_STATE_LMDB_FILES_H
#define MOON_STATE_LMDB_FILES_H

#include "base/compiler.h"
#include "base/errcode.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define MOON_LMDB_DATA "sessions.mdb"
#define MOON_LMDB_LOCK "sessions.mdb-lock"
#define MOON_LMDB_GUARD "sessions.mdb-guard"

enum { MOON_LMDB_ASIDE_COUNT = 3, MOON_LMDB_ASIDE_NAME = 64 };

/* Which file a name stands for, whatever happens to the name. */
struct moon_lmdb_file_id {
    dev_t dev;
    ino_t ino;
};

/* Makes the directory for this user alone, if its parent is there; *fd is the
 * caller's. */
MOON_MUST_CHECK int moon_lmdb_dir_open(const char *dirz, int *fd);
/* All zero if there is no such file. */
struct moon_lmdb_file_id moon_lmdb_file_id(int dir_fd, const char *namez);
bool moon_lmdb_file_is(int dir_fd, const char *namez,
                       struct moon_lmdb_file_id id);

/* Moves data and lock away, so that both begin anew; `namez` is what the data
 * is called now. Older ones than the last MOON_LMDB_ASIDE_COUNT go. */
MOON_MUST_CHECK int moon_lmdb_set_aside(int dir_fd,
                                        char namez[MOON_LMDB_ASIDE_NAME]);
/* The lock file with all its blocks on disk: LMDB would make a sparse one and
 * write to it through a mapping, which kills the process when the disk is full.
 * Only while nobody uses it. */
MOON_MUST_CHECK int moon_lmdb_prepare_lock(int dir_fd);

/* For sessions that end with the node: names a directory in memory or, if that
 * is not possible, in `temp_dirz`, that nobody can guess. The store makes it;
 * whoever named it removes it, when all that used it have gone. */
enum { MOON_LMDB_PRIVATE_DIR = 256 };
MOON_MUST_CHECK enum moon_err moon_lmdb_private_dir_name(
    const char *temp_dirz, char to[MOON_LMDB_PRIVATE_DIR]);
void moon_lmdb_private_dir_remove(const char *dirz);

#endif
