/* Files of app:static that are kept open for a moment, since the same few are
 * asked for again and again: such a one costs an fstat instead of an open, a
 * read and a close.
 *
 * What is kept serves for MOON_OPEN_FILES_MS after it was opened, and only
 * while fstat finds the file unchanged: one that is written, replaced, removed
 * or forbidden is opened anew at once. A directory that is moved, or a link
 * that is turned, shows when that time is over.
 *
 * Belongs to the one whose root_fds these are; one thread; never waits for
 * more than the disk. */
#ifndef MOON_HTTP_OPEN_FILES_H
#define MOON_HTTP_OPEN_FILES_H

#include "http/static_file.h"

struct moon_open_files;

enum {
    MOON_OPEN_FILES_MS = 1000,
    MOON_OPEN_FILES_MAX = 64,          /* descriptors that it holds at most */
    MOON_OPEN_FILES_BYTES = 16 * 1024, /* of a file that is kept in memory */
};

/* A file to send: all of it in `bytes`, borrowed until the next call, and then
 * file.fd is -1; or, with bytes.ptr NULL, file.fd, which is the caller's. */
struct moon_open_file {
    struct moon_static_file file;
    struct moon_str bytes;
};

struct moon_open_files *moon_open_files_create(void); /* NULL: no memory */
void moon_open_files_destroy(struct moon_open_files *files); /* NULL is fine */

/* As moon_static_open. now_ms: any clock that does not go back. */
MOON_MUST_CHECK enum moon_err moon_open_files_get(struct moon_open_files *files,
                                                  uint64_t now_ms, int root_fd,
                                                  struct moon_str path,
                                                  struct moon_str index,
                                                  struct moon_open_file *out);

/* Closes what serves no more. */
void moon_open_files_sweep(struct moon_open_files *files, uint64_t now_ms);

#endif
