/* Tokens of LuaJIT source, as far as instrumentation needs them.
 *
 * Follows LuaJIT's own lexer (identifiers may hold any byte above 127, numbers
 * take suffixes, `goto` is a name to this file) without decoding any value.
 * Borrowed text, no allocation, any thread; a text that LuaJIT would refuse
 * gives MOON_TOKEN_ERROR or tokens that its compiler refuses later. */
#ifndef MOON_VM_SAFEPOINT_LEXER_H
#define MOON_VM_SAFEPOINT_LEXER_H

#include "base/str.h"

enum moon_token_kind {
    MOON_TOKEN_END,
    MOON_TOKEN_ERROR,
    MOON_TOKEN_NAME,    /* `goto` included */
    MOON_TOKEN_KEYWORD, /* any other reserved word */
    MOON_TOKEN_NUMBER,
    MOON_TOKEN_STRING,
    MOON_TOKEN_SYMBOL, /* one to three bytes of punctuation */
};

struct moon_token {
    enum moon_token_kind kind;
    struct moon_str text;
};

struct moon_lexer {
    const char *at, *end;
};

/* Positions the lexer behind a byte order mark and a `#` first line. */
void moon_lexer_init(struct moon_lexer *lexer, struct moon_str source);

struct moon_token moon_lexer_next(struct moon_lexer *lexer);

#endif
