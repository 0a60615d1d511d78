/* The only place for compiler extensions. Everything else is plain C11. */
#ifndef MOON_BASE_COMPILER_H
#define MOON_BASE_COMPILER_H

#include <stdint.h>

#define MOON_MUST_CHECK __attribute__((warn_unused_result))
#define MOON_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define MOON_NORETURN __attribute__((noreturn))
#define MOON_UNUSED __attribute__((unused))
#define MOON_LIKELY(x) __builtin_expect(!!(x), 1)
#define MOON_UNLIKELY(x) __builtin_expect(!!(x), 0)
/* A slow path, which no caller takes in. */
#define MOON_COLD __attribute__((cold, noinline))
/* As often as others, but not taken in: its stack is not its callers'. */
#define MOON_APART __attribute__((noinline))
/* Exported from the executable so that LuaJIT's FFI finds it (ffi.C). */
#define MOON_ABI __attribute__((visibility("default"), used))

/* Lowest set bit of a value that is not 0. */
#define MOON_CTZ64(x) __builtin_ctzll(x)
/* Eight bytes, unaligned; the first is the lowest of the result. */
static inline uint64_t moon_load_le64(const char *from)
{
    uint64_t word;
    __builtin_memcpy(&word, from, sizeof(word));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* As moon_load_le64, of four bytes. */
static inline uint32_t moon_load_le32(const char *from)
{
    uint32_t word;
    __builtin_memcpy(&word, from, sizeof(word));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap32(word);
#endif
    return word;
}

/* The other way round. */
static inline void moon_store_le64(char *to, uint64_t word)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    __builtin_memcpy(to, &word, sizeof(word));
}

/* Sixteen bytes that are worked on at once. */
typedef uint8_t moon_bytes16 __attribute__((vector_size(16)));

/* From a member of a struct to the struct. */
#define MOON_CONTAINER(ptr, type, member) \
    ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* For exact arithmetic on what two 64-bit numbers make. */
typedef unsigned __int128 moon_u128;

/* The address sanitizer maps far more than it uses: caps on memory would end
 * the process. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MOON_SANITIZED 1
#elif defined(__has_feature) /* clang's way of saying it */
#define MOON_SANITIZED \
    (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define MOON_SANITIZED 0
#endif

/* Memory that goes from one request to the next without being freed: between
 * them nobody may touch it, which the address sanitizer is told. */
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define MOON_POISON(ptr, size) ASAN_POISON_MEMORY_REGION((ptr), (size))
#define MOON_UNPOISON(ptr, size) ASAN_UNPOISON_MEMORY_REGION((ptr), (size))
#else
#define MOON_POISON(ptr, size) ((void)0)
#define MOON_UNPOISON(ptr, size) ((void)0)
#endif

#define MOON_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif
