/* multipart/form-data bodies (RFC 7578, framing of RFC 2046 section 5.1).
 *
 * Works on the whole body in one piece of memory, which the caller keeps
 * until it is done (a spooled body is mapped); no I/O, no allocation. Strict:
 * lines end in CRLF, every part has a name, the closing delimiter is there,
 * and a part is not encoded (Content-Transfer-Encoding 7bit, 8bit, binary). */
#ifndef MOON_HTTP_MULTIPART_H
#define MOON_HTTP_MULTIPART_H

#include "base/compiler.h"
#include "base/errcode.h"
#include "base/str.h"

enum {
    MOON_BOUNDARY_MAX = 70,           /* RFC 2046 section 5.1.1 */
    MOON_PART_HEADERS = 16,           /* fields of one part */
    MOON_PART_HEADER_BYTES = 8 * 1024 /* all of them together */
};

struct moon_multipart {
    struct moon_str body;
    size_t at; /* behind the last delimiter found */
    bool started, ended;
    size_t delimiter_len;
    char delimiter[4 + MOON_BOUNDARY_MAX]; /* CRLF "--" boundary */
};

/* One part; all text is in the body as it was sent. */
struct moon_part {
    struct moon_str name;     /* raw: moon_part_text decodes it */
    struct moon_str filename; /* likewise; meant only if is_file */
    struct moon_str type; /* its Content-Type without parameters, or empty */
    struct moon_str data;
    bool is_file; /* it has a filename, maybe an empty one */
};

/* MOON_EPROTO, with a static sentence in *whyz, if `content_type` is not
 * multipart/form-data with a usable boundary. */
MOON_MUST_CHECK enum moon_err moon_multipart_init(struct moon_multipart *m,
                                                  struct moon_str content_type,
                                                  struct moon_str body,
                                                  const char **whyz);

/* MOON_OK and the next part; MOON_ENOT_FOUND after the last; MOON_EPROTO with
 * a static sentence in *whyz. */
MOON_MUST_CHECK enum moon_err moon_multipart_next(struct moon_multipart *m,
                                                  struct moon_part *part,
                                                  const char **whyz);

/* Decodes a name or file name into `to` (at least raw.len bytes): backslash
 * escapes of a quoted string, and the %22 %0D %0A that browsers write. Returns
 * the length. */
size_t moon_part_text(struct moon_str raw, char *to);

/* The last component of a decoded file name, in place: what some clients send
 * before it as a path is dropped, and so are control bytes. "." and ".." are
 * empty. */
struct moon_str moon_part_base_name(char *name, size_t len);

#endif
