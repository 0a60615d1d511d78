/* Is an LMDB file sound? Reads it without LMDB, which trusts every page and
 * dies on what it cannot follow.
 *
 * Needed because commits are not flushed one by one: after a power failure any
 * page may be an older one than its parent says. Walks everything that the
 * newest meta page reaches: page headers, nodes, the order of keys, pages used
 * twice, the free list. What a value means is the visitor's to judge. The file
 * must not be written to meanwhile. Blocking, for as long as it takes to read
 * the file; memory is one bit per page. */
#ifndef MOON_STATE_LMDB_CHECK_H
#define MOON_STATE_LMDB_CHECK_H

#include "base/compiler.h"
#include "base/errcode.h"
#include "base/str.h"

/* One entry of a named database. `data` is its value, or the part of a long one
 * that is on its first page; borrowed for the call. */
typedef void moon_lmdb_visit(void *ctx, struct moon_str db, struct moon_str key,
                             struct moon_str data);

enum { MOON_LMDB_CHECK_WHY = 96 };

/* MOON_OK; MOON_ENOT_FOUND: the file is empty, as LMDB leaves it when it was
 * interrupted in making it; MOON_EPROTO: it is damaged, or not ours, and `why`
 * says where; MOON_ENOMEM; MOON_ESYS: it cannot be read. */
MOON_MUST_CHECK enum moon_err moon_lmdb_check(int fd, moon_lmdb_visit *visit,
                                              void *ctx,
                                              char why[MOON_LMDB_CHECK_WHY]);

/* How large a map its last writer had; 0 if it cannot tell. */
uint64_t moon_lmdb_map_bytes(int fd);

#endif
