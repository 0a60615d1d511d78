#include "vm/safepoint_lexer.h"

#include "base/compiler.h"

static const char *const keywords[] = {
    "and", "break",    "do",     "else", "elseif", "end",   "false",
    "for", "function", "if",     "in",   "local",  "nil",   "not",
    "or",  "repeat",   "return", "then", "true",   "until", "while",
};

static bool is_digit(char ch)
{
    return ch >= '0' && ch <= '9';
}

static bool is_ident(char ch)
{
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
           is_digit(ch) || ch == '_' || ((unsigned char)ch & 0x80) != 0;
}

static bool is_eol(char ch)
{
    return ch == '\n' || ch == '\r';
}

static bool is_space(char ch)
{
    return ch == ' ' || (ch >= '\t' && ch <= '\r');
}

void moon_lexer_init(struct moon_lexer *lexer, struct moon_str source)
{
    lexer->at = source.ptr;
    lexer->end = source.ptr + source.len;
    if (moon_str_starts(source, MOON_STR("\xef\xbb\xbf")))
        lexer->at += 3;
    if (lexer->at == lexer->end || *lexer->at != '#')
        return;
    while (lexer->at < lexer->end && !is_eol(*lexer->at))
        lexer->at++;
    if (lexer->at == lexer->end)
        return;
    char first = *lexer->at++;
    if (lexer->at < lexer->end && is_eol(*lexer->at) && *lexer->at != first)
        lexer->at++;
}

static char peek(const struct moon_lexer *lexer, size_t ahead)
{
    return (size_t)(lexer->end - lexer->at) > ahead ? lexer->at[ahead] : '\0';
}

/* At `[`: length of `[==[`, 0 if it is not the start of a long bracket. */
static size_t long_open(const struct moon_lexer *lexer)
{
    size_t level = 1;
    while (peek(lexer, level) == '=')
        level++;
    return peek(lexer, level) == '[' ? level + 1 : 0;
}

/* Behind the long bracket that starts at `at` and is `open` bytes long. */
static bool skip_long(struct moon_lexer *lexer, size_t open)
{
    lexer->at += open;
    for (; lexer->at < lexer->end; lexer->at++) {
        if (*lexer->at != ']')
            continue;
        size_t level = 1;
        while (peek(lexer, level) == '=')
            level++;
        if (peek(lexer, level) == ']' && level + 1 == open) {
            lexer->at += open;
            return true;
        }
    }
    return false;
}

/* Spaces and comments; false for a comment without an end. */
static bool skip_blank(struct moon_lexer *lexer)
{
    while (lexer->at < lexer->end) {
        if (is_space(*lexer->at)) {
            lexer->at++;
        } else if (*lexer->at == '-' && peek(lexer, 1) == '-') {
            lexer->at += 2;
            size_t open = peek(lexer, 0) == '[' ? long_open(lexer) : 0;
            if (open > 0) {
                if (!skip_long(lexer, open))
                    return false;
            } else {
                while (lexer->at < lexer->end && !is_eol(*lexer->at))
                    lexer->at++;
            }
        } else {
            break;
        }
    }
    return true;
}

/* At a backslash inside a string. What follows matters only where it could
 * be taken for the end of the string or of the line. */
static void skip_escape(struct moon_lexer *lexer)
{
    char ch = peek(lexer, 1);
    lexer->at += lexer->end - lexer->at > 1 ? 2 : 1;
    if (ch == 'z') {
        while (lexer->at < lexer->end && is_space(*lexer->at))
            lexer->at++;
    } else if (is_eol(ch) && is_eol(peek(lexer, 0)) && peek(lexer, 0) != ch) {
        lexer->at++;
    }
}

static bool skip_string(struct moon_lexer *lexer)
{
    char quote = *lexer->at++;
    while (lexer->at < lexer->end) {
        if (*lexer->at == quote) {
            lexer->at++;
            return true;
        }
        if (is_eol(*lexer->at))
            return false;
        if (*lexer->at == '\\')
            skip_escape(lexer);
        else
            lexer->at++;
    }
    return false;
}

static void skip_number(struct moon_lexer *lexer)
{
    char exponent = 'e', last = *lexer->at++;
    if (last == '0' && (peek(lexer, 0) == 'x' || peek(lexer, 0) == 'X'))
        exponent = 'p';
    while (lexer->at < lexer->end) {
        char ch = *lexer->at;
        bool sign = (ch == '+' || ch == '-') && (last | 0x20) == exponent;
        if (!is_ident(ch) && ch != '.' && !sign)
            break;
        last = ch;
        lexer->at++;
    }
}

static enum moon_token_kind skip_symbol(struct moon_lexer *lexer)
{
    static const char *const longer[] = {
        "...", "..", "==", "~=", "<=", ">=", "::"};
    struct moon_str rest =
        moon_str(lexer->at, (size_t)(lexer->end - lexer->at));
    for (size_t i = 0; i < MOON_COUNT(longer); i++) {
        struct moon_str symbol = moon_strz(longer[i]);
        if (moon_str_starts(rest, symbol)) {
            lexer->at += symbol.len;
            return MOON_TOKEN_SYMBOL;
        }
    }
    char ch = *lexer->at++;
    return ch != '\0' && strchr("+-*/%^#<>=(){}[];:,.", ch) != NULL
               ? MOON_TOKEN_SYMBOL
               : MOON_TOKEN_ERROR;
}

static enum moon_token_kind skip_word(struct moon_lexer *lexer)
{
    const char *start = lexer->at;
    while (lexer->at < lexer->end && is_ident(*lexer->at))
        lexer->at++;
    struct moon_str word = moon_str(start, (size_t)(lexer->at - start));
    for (size_t i = 0; i < MOON_COUNT(keywords); i++) {
        if (moon_str_eq(word, moon_strz(keywords[i])))
            return MOON_TOKEN_KEYWORD;
    }
    return MOON_TOKEN_NAME;
}

static enum moon_token_kind skip_token(struct moon_lexer *lexer)
{
    char ch = *lexer->at;
    if (is_digit(ch) || (ch == '.' && is_digit(peek(lexer, 1)))) {
        skip_number(lexer);
        return MOON_TOKEN_NUMBER;
    }
    if (is_ident(ch))
        return skip_word(lexer);
    if (ch == '"' || ch == '\'')
        return skip_string(lexer) ? MOON_TOKEN_STRING : MOON_TOKEN_ERROR;
    size_t open = ch == '[' ? long_open(lexer) : 0;
    if (open > 0)
        return skip_long(lexer, open) ? MOON_TOKEN_STRING : MOON_TOKEN_ERROR;
    return skip_symbol(lexer);
}

struct moon_token moon_lexer_next(struct moon_lexer *lexer)
{
    bool fine = skip_blank(lexer);
    struct moon_token token = {MOON_TOKEN_END, moon_str(lexer->at, 0)};
    if (!fine) {
        token.kind = MOON_TOKEN_ERROR;
    } else if (lexer->at < lexer->end) {
        token.kind = skip_token(lexer);
        token.text.len = (size_t)(lexer->at - token.text.ptr);
    }
    return token;
}
