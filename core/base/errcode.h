/* Every way in which a fallible function of the core can fail, in one list.
 *
 * 0 is success, all others are negative. HTTP status codes and Lua result
 * counts are separate vocabularies and never convert to these implicitly.
 * Codes of libuv, errno or llhttp are mapped where they arise; an unknown one
 * becomes MOON_ESYS and is logged, never asserted on. */
#ifndef MOON_BASE_ERRCODE_H
#define MOON_BASE_ERRCODE_H

#define MOON_ERR_MAP(X)                     \
    X(-1, NOMEM, "out of memory")           \
    X(-2, SYS, "system call failed")        \
    X(-3, INVAL, "invalid argument")        \
    X(-4, TOO_BIG, "larger than its limit") \
    X(-5, NOT_FOUND, "not found")           \
    X(-6, EXISTS, "exists already")         \
    X(-7, AGAIN, "not now, try again")      \
    X(-8, TIMEOUT, "timed out")             \
    X(-9, CANCELED, "cancelled")            \
    X(-10, CLOSED, "closed by the peer")    \
    X(-11, PROTO, "malformed input")        \
    X(-12, DENIED, "not permitted")         \
    X(-13, FULL, "no room left")            \
    X(-14, LUA, "the application failed")   \
    X(-15, UNSUPPORTED, "not supported")

enum moon_err {
    MOON_OK = 0,
#define X(code, name, text) MOON_E##name = (code),
    MOON_ERR_MAP(X)
#undef X
};

/* Text of a code, static storage; "unknown error" for anything else. */
const char *moon_err_text(enum moon_err err);

/* The code that fits a value of errno; MOON_ESYS if none does. */
enum moon_err moon_err_from_errno(int sys);

#endif
