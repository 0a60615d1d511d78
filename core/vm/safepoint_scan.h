/* Where the counters of a Lua text belong.
 *
 * One pass over the tokens with a stack of open blocks; no syntax tree. The
 * result is a list of places in source order that safepoint.c turns into text.
 * The scan is owned by the caller; any thread; fails on text that is not
 * Lua (MOON_EPROTO), too deeply nested (MOON_ETOO_BIG) or without memory. */
#ifndef MOON_VM_SAFEPOINT_SCAN_H
#define MOON_VM_SAFEPOINT_SCAN_H

#include "base/buf.h"
#include "base/compiler.h"
#include "base/errcode.h"
#include "base/str.h"

enum moon_place_kind {
    MOON_PLACE_FUNCTION, /* start of a function body; the first is the chunk */
    MOON_PLACE_LOOP,     /* loop body head, or before a backward goto */
};

struct moon_place {
    size_t offset; /* insert before this byte of the source */
    enum moon_place_kind kind;
    bool has_loop, has_call; /* of a function, nested ones not included */
};

struct moon_scan {
    struct moon_buf places; /* of struct moon_place */
    bool has_loop;          /* anywhere */
    bool has_entry;         /* a function below the chunk has either */
};

MOON_MUST_CHECK enum moon_err moon_scan_source(struct moon_scan *scan,
                                               struct moon_str source);
void moon_scan_deinit(struct moon_scan *scan);

static inline size_t moon_scan_count(const struct moon_scan *scan)
{
    return scan->places.len / sizeof(struct moon_place);
}

static inline struct moon_place *moon_scan_at(const struct moon_scan *scan,
                                              size_t index)
{
    return (struct moon_place *)(void *)scan->places.ptr + index;
}

#endif
