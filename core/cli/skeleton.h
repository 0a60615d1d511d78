/* A new application: the files of apps/new/, which are in the binary, written
 * into a directory of the user's.
 *
 * Blocking, one thread. Nothing that was there is ever changed: files are made
 * with O_EXCL, and only what was made is removed again after a failure. */
#ifndef MOON_CLI_SKELETON_H
#define MOON_CLI_SKELETON_H

#include "base/buf.h"
#include "base/str.h"

#include <stdbool.h>

struct moon_skeleton_file {
    const char *pathz; /* below the directory, at most one folder deep */
    struct moon_str bytes;
};
extern const struct moon_skeleton_file moon_skeleton[];
extern const size_t moon_skeleton_count;

/* Appends `text` with what stands for others in it: @NAME@, and @LIBRARY@ by
 * the path of a directory as a JSON string, or by nothing. */
void moon_skeleton_fill(struct moon_buf *out, struct moon_str text,
                        struct moon_str name, struct moon_str library);

/* True if a node, a systemd unit and an upstream of nginx can be called so:
 * letters, digits, '_' and '-', at most 64, not starting with '-'. */
bool moon_skeleton_name_ok(struct moon_str name);

/* Where the annotated Lua files are that belong to the program at `exe`: those
 * beside an installed one, else those of the tree it was built in. False, and
 * nothing in `out`, if there are none. */
bool moon_skeleton_library(struct moon_str exe, struct moon_buf *out);

/* What is in the way: the first name in the directory, in order, but for .git.
 * False if there is none. */
bool moon_skeleton_obstacle(int dir_fd, struct moon_buf *name);

/* Writes all files below the directory. False after a failure: what
 * it made is gone again, and `why` says what failed, and what could not be
 * removed. */
bool moon_skeleton_write(int dir_fd, struct moon_str name,
                         struct moon_str library, struct moon_buf *why);

#endif
