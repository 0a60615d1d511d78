/* A dictionary in shared memory: text to text, number or boolean, with a time
 * to live, bounded, for all workers of a node.
 *
 * It is cut into parts, each with a mutex, an index and a ring. An entry is
 * written at the head of its part's ring and never moved; what the head runs
 * over is forgotten, oldest first, unless it was read lately: reading an entry
 * that is about to be run over writes it again at the head. So there is no
 * list to mend and nothing to free, and a process that is killed in the middle
 * of an operation leaves at most one entry that nothing leads to. Any thread of
 * any process. */
#ifndef MOON_STATE_DICT_H
#define MOON_STATE_DICT_H

#include "base/buf.h"
#include "base/errcode.h"
#include "state/region.h"

enum {
    MOON_DICT_MIN_BYTES = 64 * 1024,
    MOON_DICT_KEY_MAX = 4096, /* bytes of a key */
};

enum moon_dict_type {
    MOON_DICT_NONE,
    MOON_DICT_STRING,
    MOON_DICT_NUMBER,
    MOON_DICT_BOOLEAN,
};

struct moon_dict_value {
    enum moon_dict_type type;
    struct moon_str text; /* string */
    double number;        /* number; boolean: 0 or 1 */
};

struct moon_dict;

/* The dictionary of that name and size in a region, made if need be (another
 * size is another dictionary). Owned by the caller. NULL: no room. */
MOON_MUST_CHECK struct moon_dict *moon_dict_open(struct moon_region *region,
                                                 const char *namez,
                                                 size_t bytes);
void moon_dict_close(struct moon_dict *dict); /* NULL is fine */

/* Times are milliseconds of one clock for all processes, handed in. */

/* MOON_ENOT_FOUND, or the value; text is copied to the end of `text`, which
 * the value borrows. */
MOON_MUST_CHECK enum moon_err moon_dict_get(struct moon_dict *dict,
                                            struct moon_str key,
                                            uint64_t now_ms,
                                            struct moon_buf *text,
                                            struct moon_dict_value *value);
/* MOON_ETOO_BIG: larger than an eighth of a part. With `only_new` it answers
 * MOON_EEXISTS if the key is there. ttl_ms 0: for ever. */
MOON_MUST_CHECK enum moon_err moon_dict_set(struct moon_dict *dict,
                                            struct moon_str key,
                                            const struct moon_dict_value *value,
                                            uint64_t ttl_ms, bool only_new,
                                            uint64_t now_ms);
/* Adds to a number, which keeps its time to live; *result is the new one. A
 * key that is not there is made with `*initial` plus `by` and ttl_ms, or
 * (initial NULL) answers MOON_ENOT_FOUND. MOON_EINVAL: it is no number. */
MOON_MUST_CHECK enum moon_err moon_dict_incr(struct moon_dict *dict,
                                             struct moon_str key, double by,
                                             const double *initial,
                                             uint64_t ttl_ms, uint64_t now_ms,
                                             double *result);
/* Was it there? */
bool moon_dict_delete(struct moon_dict *dict, struct moon_str key,
                      uint64_t now_ms);
/* Removes it if its text is this (a lock that is still ours). */
bool moon_dict_delete_if(struct moon_dict *dict, struct moon_str key,
                         struct moon_str text, uint64_t now_ms);

#endif
