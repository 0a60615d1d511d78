/* What a head means, once llhttp has found its parts: the lines themselves are
 * checked again, then target, framing, Host and Connection are read.
 *
 * llhttp lets pass what other servers read differently (a line ended by CR or
 * LF alone, folded lines), so every line must be exactly one line here before
 * anything in it counts. Part of http_in. */
#ifndef MOON_HTTP_HEAD_CHECK_H
#define MOON_HTTP_HEAD_CHECK_H

#include "base/compiler.h"
#include "http/request.h"

struct moon_head_fault {
    uint16_t status; /* 0: none */
    const char *why; /* static */
};

/* The head is req->base[start, end), its target and field names are set; sets
 * all else. */
MOON_MUST_CHECK struct moon_head_fault moon_head_check(struct moon_request *req,
                                                       uint32_t start,
                                                       uint32_t end);

/* For a request line that llhttp refused because of what follows the target:
 * 505 for a well-formed foreign version, else 400. `len` bytes are known. */
struct moon_head_fault moon_head_version_fault(const char *after_target,
                                               size_t len);

#endif
