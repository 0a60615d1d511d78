/* What all fuzz targets share: checks, bytes as choices, and copies that end
 * where a sanitizer looks.
 *
 * A target is LLVMFuzzerTestOneInput in a file of its own. It states what must
 * hold with FUZZ_CHECK, keeps nothing from one input to the next, and does the
 * same for the same bytes, always. */
#ifndef MOON_TESTS_FUZZ_H
#define MOON_TESTS_FUZZ_H

#include "base/buf.h"
#include "base/compiler.h"
#include "base/log.h"
#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* Before the first input; a target may have one. */
int LLVMFuzzerInitialize(int *argc, char ***argv);

static MOON_UNUSED MOON_NORETURN void fuzz_fail(const char *file, int line,
                                                const char *what)
{
    (void)fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
    abort();
}

#define FUZZ_CHECK(holds) \
    ((holds) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #holds))

static inline struct moon_str fuzz_str(const uint8_t *data, size_t size)
{
    return moon_str((const char *)data, size);
}

/* A block of its own, exactly as long: owned by the caller. A read behind the
 * end, or before the start, shows. */
static MOON_UNUSED struct moon_str fuzz_copy(struct moon_str bytes)
{
    char *copy = malloc(bytes.len > 0 ? bytes.len : 1);
    FUZZ_CHECK(copy != NULL);
    if (bytes.len > 0)
        memcpy(copy, bytes.ptr, bytes.len);
    return moon_str(copy, bytes.len);
}

static inline void fuzz_free(struct moon_str copy)
{
    free((void *)(uintptr_t)copy.ptr);
}

/* Is `part` within `whole`? An empty one may be anywhere. */
static MOON_UNUSED bool fuzz_within(struct moon_str part, struct moon_str whole)
{
    uintptr_t from = (uintptr_t)part.ptr, base = (uintptr_t)whole.ptr;
    return part.len == 0 || (from >= base && part.len <= whole.len &&
                             from - base <= whole.len - part.len);
}

static inline bool fuzz_swallow(void *ctx, enum moon_log_level level,
                                struct moon_str message,
                                const struct moon_log_field *fields,
                                size_t count)
{
    (void)ctx;
    (void)level;
    (void)message;
    (void)fields;
    (void)count;
    return true;
}

/* For targets that log what goes wrong, which is all the time. */
static MOON_UNUSED void fuzz_be_quiet(void)
{
    moon_log_set_tap(fuzz_swallow, NULL);
}

/* Random numbers that only depend on the seed. */
static inline uint32_t fuzz_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

/* A seed made of bytes, so that an input that changes is cut elsewhere. */
static MOON_UNUSED uint64_t fuzz_seed(struct moon_str bytes)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < bytes.len; i++)
        hash = (hash ^ (unsigned char)bytes.ptr[i]) * 1099511628211u;
    return hash;
}

/* Bytes as choices, for targets that build what they try. At the end all
 * choices are 0. */
struct fuzz_bytes {
    const uint8_t *at, *end;
};

static inline struct fuzz_bytes fuzz_bytes(const uint8_t *data, size_t size)
{
    return (struct fuzz_bytes){data, size > 0 ? data + size : data};
}

static inline size_t fuzz_left(const struct fuzz_bytes *bytes)
{
    return (size_t)(bytes->end - bytes->at);
}

static inline uint8_t fuzz_byte(struct fuzz_bytes *bytes)
{
    return bytes->at < bytes->end ? *bytes->at++ : 0;
}

/* 0 to below - 1; at most 256 choices. */
static inline uint32_t fuzz_below(struct fuzz_bytes *bytes, uint32_t below)
{
    return fuzz_byte(bytes) % below;
}

/* All up to the next `end`, which is skipped, or all that is left. */
static MOON_UNUSED struct moon_str fuzz_until(struct fuzz_bytes *bytes,
                                              char end)
{
    struct moon_str left = fuzz_str(bytes->at, fuzz_left(bytes));
    struct moon_str rest = MOON_STR_NONE;
    struct moon_str piece = moon_str_cut(left, end, &rest);
    bytes->at = piece.len < left.len ? bytes->at + piece.len + 1 : bytes->end;
    return piece;
}

#endif
