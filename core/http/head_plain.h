/* A GET head as nearly all are, read in one pass: complete in the buffer, of
 * HTTP/1.1, without a body, each field line "Name: value" with one space and
 * visible ASCII.
 *
 * Only a shortcut: whatever is unusual or wrong, and whatever bears on framing
 * other than by Connection, is left to llhttp, which then begins at the first
 * byte. Both give the same result, so what is found still does not depend on
 * splits: a head in two pieces always goes by llhttp. Part of http_in. */
#ifndef MOON_HTTP_HEAD_PLAIN_H
#define MOON_HTTP_HEAD_PLAIN_H

#include "http/head_parse.h"

/* Reads base[from, to) into a request that was just reset: at most
 * `most_fields` fields, which fit. The offset behind the head; 0: not plain,
 * and `req` is as it was but for what is behind its fields. */
uint32_t moon_head_plain(struct moon_request *req, uint32_t most_fields,
                         const char *base, size_t from, size_t to);

#endif
