#include "lua_program.h"

enum { DEPTH = 5, BLOCK = 5, VARIABLES = 4 };

struct program {
    struct fuzz_bytes *bytes;
    struct moon_buf *out;
    int depth;
    int labels; /* each has a name of its own */
};

static void block(struct program *p);
static void expression(struct program *p);

static void put(struct program *p, const char *z)
{
    moon_buf_addz(p->out, z);
}

static uint32_t choose(struct program *p, uint32_t below)
{
    return fuzz_below(p->bytes, below);
}

static void variable(struct program *p)
{
    static const char *const names[VARIABLES] = {"a", "b", "c", "while_"};
    put(p, names[choose(p, VARIABLES)]);
}

/* Between tokens: what a careless scanner would read as code. */
static void space(struct program *p)
{
    static const char *const spaces[] = {" ",
                                         "\n",
                                         "\r\n",
                                         " --while true do\n",
                                         " --[[ for\n do ]] ",
                                         " --[==[ ]] repeat\n ]==] ",
                                         "\t",
                                         " --[ function(\n"};
    uint32_t which = choose(p, 24);
    put(p, which < MOON_COUNT(spaces) ? spaces[which] : " ");
}

static void literal(struct program *p)
{
    static const char *const literals[] = {"1",
                                           "0x1p4",
                                           "1e1",
                                           "nil",
                                           "true",
                                           "'do end'",
                                           "\"while \\\" \"",
                                           "[[ for\n in ]]",
                                           "[==[ ]] ]==]",
                                           "...",
                                           "'\\\n goto'",
                                           "'\\z\n  function'",
                                           "{}",
                                           "12LL",
                                           "line()",
                                           "'x'"};
    put(p, literals[choose(p, MOON_COUNT(literals))]);
}

static void function_body(struct program *p)
{
    put(p, "(a, ...)");
    space(p);
    if (choose(p, 3) > 0)
        put(p, "tick() ");
    else
        put(p, "if fuel() then return end ");
    block(p);
    if (choose(p, 2) == 0) {
        put(p, " return ");
        expression(p);
    }
    space(p);
    put(p, "end");
}

static void call(struct program *p)
{
    static const char *const heads[] = {"say",
                                        "select('#', ...)  == say",
                                        "pcall(say, ...) == log",
                                        "('x'):rep",
                                        "pcall",
                                        "tick",
                                        "g.f",
                                        "g:f",
                                        "f"};
    static const char *const arguments[] = {"(a)", "'s'",    "[[t]]",
                                            "{}",  "(3, b)", "(...)"};
    put(p, heads[choose(p, MOON_COUNT(heads))]);
    put(p, arguments[choose(p, MOON_COUNT(arguments))]);
}

static void table(struct program *p)
{
    put(p, "({");
    expression(p);
    space(p);
    put(p, ", k = ");
    expression(p);
    put(p, "; [1] = 2})");
}

static void expression(struct program *p)
{
    static const char *const operators[] = {" + ",  "..",   " and ", " or ",
                                            " == ", " ~= ", " - ",   "< "};
    if (p->depth >= DEPTH) {
        variable(p);
        return;
    }
    p->depth++;
    switch (choose(p, 9)) {
    case 0:
        put(p, "(function");
        function_body(p);
        put(p, ")");
        break;
    case 1:
        put(p, "say(");
        expression(p);
        put(p, operators[choose(p, MOON_COUNT(operators))]);
        expression(p);
        put(p, ")");
        break;
    case 2:
        call(p);
        break;
    case 3:
        table(p);
        put(p, choose(p, 2) == 0 ? ".k" : "[1]");
        break;
    case 4:
        put(p, "not ");
        expression(p);
        break;
    case 5:
        literal(p);
        break;
    default:
        variable(p);
        break;
    }
    p->depth--;
}

static void local_function(struct program *p)
{
    static const char *const heads[] = {"local function f", "function g.f",
                                        "function g:f", "f = function"};
    put(p, heads[choose(p, MOON_COUNT(heads))]);
    function_body(p);
    put(p, "\nlog(pcall(f, a, b))");
}

static void loop(struct program *p)
{
    switch (choose(p, 5)) {
    case 0:
        put(p, "while tick() do");
        break;
    case 1:
        put(p, "for a = 1, 3 do");
        break;
    case 2:
        put(p, "for a, b in ipairs {1, 2} do");
        break;
    case 3:
        put(p, "for a = 2, 1, -1 do");
        break;
    default:
        put(p, "repeat local done = tick()");
        block(p);
        put(p, " until not done");
        return;
    }
    space(p);
    block(p);
    if (choose(p, 4) == 0)
        put(p, " do break end");
    if (choose(p, 4) == 0)
        put(p, " break");
    put(p, " end");
}

static void jump(struct program *p)
{
    int label = p->labels++;
    switch (choose(p, 3)) {
    case 0: /* backwards */
        moon_buf_printf(p->out, "do ::l%d::", label);
        block(p);
        moon_buf_printf(p->out, " if tick() then goto l%d end end", label);
        break;
    case 1: /* to the end of a loop's body */
        moon_buf_printf(p->out, "for c = 1, 3 do if c == 2 then goto l%d end",
                        label);
        block(p);
        moon_buf_printf(p->out, " ::l%d:: end", label);
        break;
    default: /* forwards, over a block */
        moon_buf_printf(p->out, "do if a then goto l%d end do", label);
        block(p);
        moon_buf_printf(p->out, " end ::l%d:: end", label);
        break;
    }
}

static void coroutine(struct program *p)
{
    put(p, "do local co = coroutine.wrap(function(a, ...)");
    block(p);
    put(p, " b = coroutine.yield(a)");
    block(p);
    put(p, " return b end) log(pcall(co, 1)) log(pcall(co, 2)) end");
}

static void assignment(struct program *p)
{
    put(p, choose(p, 2) == 0 ? "local " : "");
    variable(p);
    space(p);
    put(p, "= ");
    expression(p);
}

static void branch(struct program *p)
{
    put(p, "if ");
    expression(p);
    space(p);
    put(p, "then");
    block(p);
    if (choose(p, 2) == 0) {
        put(p, " elseif tick() then");
        block(p);
        put(p, " else");
        block(p);
    }
    put(p, " end");
}

static void statement(struct program *p)
{
    switch (choose(p, 10)) {
    case 0:
    case 1:
        loop(p);
        break;
    case 2:
        jump(p);
        break;
    case 3:
        local_function(p);
        break;
    case 4:
        coroutine(p);
        break;
    case 5:
        branch(p);
        break;
    case 6:
        put(p, "do ");
        block(p);
        put(p, " return ");
        expression(p);
        put(p, " end");
        break;
    case 7:
        put(p, "log(line(), ");
        expression(p);
        put(p, ")");
        break;
    default:
        assignment(p);
        break;
    }
    /* A semicolon, so that no statement that begins with a parenthesis can be
     * taken for the arguments of this one. */
    put(p, choose(p, 4) == 0 ? ";\n" : "; ");
}

static void block(struct program *p)
{
    put(p, " ");
    if (p->depth >= DEPTH || fuzz_left(p->bytes) == 0)
        return;
    p->depth++;
    uint32_t count = choose(p, BLOCK);
    for (uint32_t i = 0; i < count; i++)
        statement(p);
    p->depth--;
}

void lua_program_write(struct fuzz_bytes *bytes, struct moon_buf *out)
{
    struct program p = {.bytes = bytes, .out = out};
    put(&p, "local a, b, c, while_ = 1, 'b', {}, ...\n"
            "local g, f = {f = say}, say\n");
    while (fuzz_left(bytes) > 0 && out->len < 20000) {
        statement(&p);
        put(&p, "\n");
    }
    put(&p, "log(line(), a, b, c)");
}
