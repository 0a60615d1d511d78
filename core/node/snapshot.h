/* Takes the code of an application off the disk, all of it at one moment: the
 * archive that a generation is built from.
 *
 * In it: config.lua, every .lua file, everything under views/. Not in it: names
 * that start with a dot, node_modules, static files (they are served from
 * disk). All is read through one directory descriptor, so a link `current ->
 * releases/42` that moves meanwhile cannot mix two releases; when a file
 * changes while others are read, everything is read again. Blocking, so it runs
 * in a child of the master. */
#ifndef MOON_NODE_SNAPSHOT_H
#define MOON_NODE_SNAPSHOT_H

#include "base/archive.h"

enum {
    MOON_SNAPSHOT_FILES = 10000,
    MOON_SNAPSHOT_BYTES = 64 * 1024 * 1024,
};

struct moon_snapshot_source {
    const char *app_dirz;  /* as given: links are followed now */
    const char *app_filez; /* must be there, relative to it */
    const char *configz;   /* read as "config.lua" instead; NULL: none */
};

/* *fd: the archive; real_dir: the directory that was read, without links. On
 * failure `error` is a sentence for the user. */
MOON_MUST_CHECK enum moon_err moon_snapshot_take(
    const struct moon_snapshot_source *source, int *fd,
    struct moon_buf *real_dir, struct moon_buf *error);

/* A new archive with all of `base` and these outside files (names, each with
 * its NUL, one after the other; absolute or relative to `dirz`), each under the
 * name that it has here. A file that is gone again is an error. */
MOON_MUST_CHECK enum moon_err moon_snapshot_extend(
    const struct moon_archive *base, const char *dirz, struct moon_str names,
    int *fd, struct moon_buf *error);

/* Is what lies on disk now something else than `archive`, outside files
 * included? `what` then says how: "app.lua changed". */
bool moon_snapshot_differs(const struct moon_snapshot_source *source,
                           const struct moon_archive *archive,
                           struct moon_buf *what);

#endif
