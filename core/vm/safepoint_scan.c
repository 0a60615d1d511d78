#include "vm/safepoint_scan.h"

#include "vm/safepoint_lexer.h"

#include <stdlib.h>

/* LuaJIT itself refuses blocks nested deeper than 200. */
#define MAX_DEPTH 256

enum frame_kind {
    FRAME_FUNCTION,
    FRAME_BLOCK,     /* do, then, else */
    FRAME_LOOP_HEAD, /* behind while or for, before its do */
    FRAME_LOOP,
    FRAME_REPEAT,
};

struct frame {
    enum frame_kind kind;
    size_t function; /* its place */
    size_t labels;   /* how many were visible when the block opened */
};

struct scanner {
    struct moon_scan *scan;
    struct moon_lexer lexer;
    const char *start; /* of the source */
    struct moon_token previous, token;
    struct moon_buf labels; /* of struct moon_str, those visible now */
    struct frame frames[MAX_DEPTH];
    size_t depth;
};

static struct frame *top(struct scanner *s)
{
    return &s->frames[s->depth - 1];
}

static void advance(struct scanner *s)
{
    s->previous = s->token;
    s->token = moon_lexer_next(&s->lexer);
}

static bool is(const struct moon_token *token, const char *z)
{
    return (token->kind == MOON_TOKEN_KEYWORD ||
            token->kind == MOON_TOKEN_SYMBOL) &&
           moon_str_eq(token->text, moon_strz(z));
}

static void add_place(struct scanner *s, enum moon_place_kind kind,
                      const char *at)
{
    struct moon_place place = {.offset = (size_t)(at - s->start), .kind = kind};
    moon_buf_add(&s->scan->places, &place, sizeof(place));
}

static void add_loop(struct scanner *s, const char *at)
{
    add_place(s, MOON_PLACE_LOOP, at);
    if (s->scan->places.failed)
        return;
    size_t function = top(s)->function;
    moon_scan_at(s->scan, function)->has_loop = true;
    s->scan->has_loop = true;
    if (function > 0)
        s->scan->has_entry = true;
}

static enum moon_err push(struct scanner *s, enum frame_kind kind)
{
    if (s->depth == MAX_DEPTH)
        return MOON_ETOO_BIG;
    size_t function = s->depth > 0 ? top(s)->function : 0;
    if (kind == FRAME_FUNCTION)
        function = moon_scan_count(s->scan) - 1;
    s->frames[s->depth++] =
        (struct frame){kind, function, s->labels.len / sizeof(struct moon_str)};
    return MOON_OK;
}

static enum moon_err pop(struct scanner *s)
{
    if (s->depth <= 1)
        return MOON_EPROTO;
    s->labels.len = top(s)->labels * sizeof(struct moon_str);
    s->depth--;
    return MOON_OK;
}

static const char *after(const struct moon_token *token)
{
    return token->text.ptr + token->text.len;
}

/* At `function`: past its name and parameters, up to the closing bracket. */
static enum moon_err open_function(struct scanner *s)
{
    while (!is(&s->token, "(")) {
        advance(s);
        if (s->token.kind != MOON_TOKEN_NAME && !is(&s->token, ".") &&
            !is(&s->token, ":") && !is(&s->token, "("))
            return MOON_EPROTO;
    }
    while (!is(&s->token, ")")) {
        advance(s);
        if (s->token.kind != MOON_TOKEN_NAME && !is(&s->token, ",") &&
            !is(&s->token, "...") && !is(&s->token, ")"))
            return MOON_EPROTO;
    }
    add_place(s, MOON_PLACE_FUNCTION, after(&s->token));
    return push(s, FRAME_FUNCTION);
}

/* Whether the token ends an operand, so that a name behind it begins a new
 * statement and a bracket behind it is a call. */
static bool ends_operand(const struct moon_token *token)
{
    switch (token->kind) {
    case MOON_TOKEN_NAME:
    case MOON_TOKEN_STRING:
    case MOON_TOKEN_NUMBER:
        return true;
    case MOON_TOKEN_SYMBOL:
        return is(token, ")") || is(token, "]") || is(token, "}") ||
               is(token, "...");
    case MOON_TOKEN_KEYWORD:
        return is(token, "end") || is(token, "nil") || is(token, "true") ||
               is(token, "false");
    default:
        return false;
    }
}

static bool begins_statement(const struct moon_token *previous)
{
    return ends_operand(previous) || previous->kind == MOON_TOKEN_END ||
           is(previous, ";") || is(previous, "do") || is(previous, "then") ||
           is(previous, "else") || is(previous, "repeat") ||
           is(previous, "break") || is(previous, "::");
}

/* A call; what merely looks like one costs a counter and harms nothing. */
static bool is_call(const struct scanner *s)
{
    const struct moon_token *before = &s->previous;
    if (s->token.kind != MOON_TOKEN_STRING && !is(&s->token, "(") &&
        !is(&s->token, "{"))
        return false;
    return ends_operand(before) && before->kind != MOON_TOKEN_NUMBER &&
           before->kind != MOON_TOKEN_KEYWORD && !is(before, "...");
}

static void on_call(struct scanner *s)
{
    moon_scan_at(s->scan, top(s)->function)->has_call = true;
    if (top(s)->function > 0)
        s->scan->has_entry = true;
}

/* At `goto` that begins a statement and is followed by a label's name. */
static void on_goto(struct scanner *s, struct moon_str label)
{
    const struct moon_str *labels = (const void *)s->labels.ptr;
    size_t i = s->labels.len / sizeof(*labels);
    size_t floor = 0; /* labels of outer functions are out of reach */
    for (size_t depth = s->depth; depth > 0; depth--) {
        if (s->frames[depth - 1].kind == FRAME_FUNCTION) {
            floor = s->frames[depth - 1].labels;
            break;
        }
    }
    while (i-- > floor) {
        if (moon_str_eq(labels[i], label)) {
            add_loop(s, s->token.text.ptr);
            return;
        }
    }
}

static enum moon_err on_name(struct scanner *s)
{
    if (is(&s->previous, "::")) {
        struct moon_str label = s->token.text;
        struct moon_lexer ahead = s->lexer;
        struct moon_token next = moon_lexer_next(&ahead);
        if (is(&next, "::")) {
            moon_buf_add(&s->labels, &label, sizeof(label));
            return s->labels.failed ? MOON_ENOMEM : MOON_OK;
        }
    }
    if (moon_str_eq(s->token.text, MOON_STR("goto")) &&
        begins_statement(&s->previous)) {
        struct moon_lexer ahead = s->lexer;
        struct moon_token next = moon_lexer_next(&ahead);
        if (next.kind == MOON_TOKEN_NAME)
            on_goto(s, next.text);
    }
    return MOON_OK;
}

static enum moon_err on_do(struct scanner *s)
{
    if (top(s)->kind != FRAME_LOOP_HEAD)
        return push(s, FRAME_BLOCK);
    top(s)->kind = FRAME_LOOP;
    add_loop(s, after(&s->token));
    return MOON_OK;
}

static enum moon_err on_else(struct scanner *s)
{
    if (top(s)->kind != FRAME_BLOCK)
        return MOON_EPROTO;
    s->labels.len = top(s)->labels * sizeof(struct moon_str);
    return MOON_OK;
}

static enum moon_err on_keyword(struct scanner *s)
{
    const struct moon_token *token = &s->token;
    if (is(token, "function"))
        return open_function(s);
    if (is(token, "while") || is(token, "for"))
        return push(s, FRAME_LOOP_HEAD);
    if (is(token, "do"))
        return on_do(s);
    if (is(token, "if"))
        return push(s, FRAME_BLOCK);
    if (is(token, "else") || is(token, "elseif"))
        return on_else(s);
    if (is(token, "repeat")) {
        enum moon_err err = push(s, FRAME_REPEAT);
        if (err == MOON_OK)
            add_loop(s, after(token));
        return err;
    }
    if (is(token, "until"))
        return top(s)->kind == FRAME_REPEAT ? pop(s) : MOON_EPROTO;
    if (is(token, "end")) {
        enum frame_kind kind = top(s)->kind;
        return kind == FRAME_REPEAT || kind == FRAME_LOOP_HEAD ? MOON_EPROTO
                                                               : pop(s);
    }
    return MOON_OK;
}

static enum moon_err on_token(struct scanner *s)
{
    if (is_call(s))
        on_call(s);
    switch (s->token.kind) {
    case MOON_TOKEN_ERROR:
        return MOON_EPROTO;
    case MOON_TOKEN_NAME:
        return on_name(s);
    case MOON_TOKEN_KEYWORD:
        return on_keyword(s);
    default:
        return MOON_OK;
    }
}

enum moon_err moon_scan_source(struct moon_scan *scan, struct moon_str source)
{
    *scan = (struct moon_scan){0};
    struct scanner *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return MOON_ENOMEM;
    s->scan = scan;
    s->start = source.ptr;
    moon_lexer_init(&s->lexer, source);
    add_place(s, MOON_PLACE_FUNCTION, s->lexer.at);
    enum moon_err err = push(s, FRAME_FUNCTION);
    advance(s);
    s->previous = (struct moon_token){0}; /* MOON_TOKEN_END: start of text */
    while (err == MOON_OK && s->token.kind != MOON_TOKEN_END) {
        if (scan->places.failed)
            err = MOON_ENOMEM;
        else
            err = on_token(s);
        advance(s);
    }
    if (err == MOON_OK && scan->places.failed)
        err = MOON_ENOMEM;
    if (err == MOON_OK && s->depth != 1)
        err = MOON_EPROTO;
    moon_buf_deinit(&s->labels);
    free(s);
    return err;
}

void moon_scan_deinit(struct moon_scan *scan)
{
    moon_buf_deinit(&scan->places);
}
