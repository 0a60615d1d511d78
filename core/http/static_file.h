/* Opens a file below a root for sending, never outside it.
 *
 * Used by c:send_file and app:static. Symbolic links may lead anywhere below
 * the root, not out of it (openat2 with RESOLVE_BENEATH, or a checked fallback
 * where the kernel lacks it). Dot-files, devices, FIFOs are NOT_FOUND.
 * Blocking: regular local files only. */
#ifndef MOON_HTTP_STATIC_FILE_H
#define MOON_HTTP_STATIC_FILE_H

#include "base/errcode.h"
#include "http/negotiate.h"
#include "http/request.h"
#include "http/response.h"

struct moon_static_file {
    int fd; /* owned by the caller after MOON_OK */
    uint64_t size;
    time_t mtime;
    char etag[56]; /* strong, from inode, size and mtime in ns, quoted */
    uint8_t etag_len;
};

/* `root_fd` is a directory; `path` relative to it, decoded, may be empty or
 * end in '/' to mean `index` (empty: no index). A directory without the slash
 * gives MOON_EAGAIN: redirect to the path with one. */
MOON_MUST_CHECK enum moon_err moon_static_open(int root_fd,
                                               struct moon_str path,
                                               struct moon_str index,
                                               struct moon_static_file *out);

struct moon_static_plan {
    int status; /* 200, 206, 304, 412 or 416 */
    uint64_t from, length;
};
/* Evaluates If-Match, If-Unmodified-Since, If-None-Match, If-Modified-Since,
 * If-Range and Range in the order of RFC 9110 section 13.2.2 and sets ETag,
 * Last-Modified, Accept-Ranges and Content-Range on res. */
MOON_MUST_CHECK enum moon_err moon_static_plan(
    const struct moon_static_file *file, const struct moon_request *req,
    struct moon_response *res, struct moon_arena *arena,
    struct moon_static_plan *out);

#endif
