/* Instrumentation: where counters go, what stays as it was, and that programs
 * behave the same with and without. */
#include "vm_support.h"

#include <stdlib.h>

static char *instrumented(const char *source)
{
    struct moon_buf out = {0};
    bool changed = false;
    enum moon_err err =
        moon_safepoint_instrument(moon_strz(source), &out, &changed);
    if (err != MOON_OK) {
        moon_buf_deinit(&out);
        return NULL;
    }
    moon_buf_add_char(&out, '\0');
    return out.ptr;
}

static size_t count(const char *text, const char *what)
{
    size_t found = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at++)
        found++;
    return found;
}

/* How many counters of each kind a text gets. */
static void expect(const char *source, size_t locals, size_t shared)
{
    char *text = instrumented(source);
    if (text == NULL)
        fail_msg("refused: %s", source);
    if (count(text, "if __moon_n") != locals ||
        count(text, "if __moon_s") != shared)
        fail_msg("%zu and %zu expected: %s", locals, shared, text);
    assert_int_equal(count(text, "\n"), count(source, "\n"));
    free(text);
}

static void test_places(void **state)
{
    (void)state;
    expect("", 0, 0);
    expect("return 1", 0, 0);
    expect("f()", 0, 0);
    expect("while x do end", 1, 0);
    expect("for i = 1, 2 do end for k in f do end", 2, 0);
    expect("repeat local x = 1 until x", 1, 0);
    expect("do end if x then elseif y then else end", 0, 0);
    expect("while (function() while 1 do end end)() do end", 2, 1);
    expect("function a.b.c:d(x, ...) return x(...) end", 0, 1);
    expect("local function f(x) return x end", 0, 0);
    expect("return function() f'x' end, function() f{} end, "
           "function() f[[x]] end, function() a:b'c' end",
           0, 4);
    expect("return function() return ('x') end", 0, 0);
    expect("return function() return -(1) .. {} end", 0, 0);
    expect("::a:: goto a", 1, 0);
    expect("goto a ::a::", 0, 0);
    expect("do ::a:: end goto a ::a::", 0, 0);
    expect("::a:: do goto a end", 1, 0);
    expect("::a:: local f = function() goto a ::a:: end", 0, 0);
    expect("local goto = 1 ::b:: goto = 2 t.goto = 3 x = goto b = 4", 0, 0);
    expect("if x then ::a:: else goto a end ::a::", 0, 0);
}

static void test_lexing(void **state)
{
    (void)state;
    expect("-- while\n--[[ while\n]] --[==[ while ]] ]==] x = 1", 0, 0);
    expect("x = 'while \\' while' y = \"do \\\" \\\n do\"", 0, 0);
    expect("x = [[while do]] y = [=[ ]] while ]=]", 0, 0);
    expect("x = '\\z \n  while' y = '\\\r\n'", 0, 0);
    expect("#!/usr/bin/env while do\nwhile x do end", 1, 0);
    expect("# while", 0, 0);
    expect("\xef\xbb\xbfwhile x do end", 1, 0);
    expect("x = 0x1p-3 + 1e+5 + 0xffLL + 12ULL + 2i + .5 .. 'while'", 0, 0);
    expect("x = a[b[1]] y = 1 ..[[while]]", 0, 0);
    expect("\xc3\xa4while = 1", 0, 0);
    assert_null(instrumented("x = 'open"));
    assert_null(instrumented("x = [[open"));
    assert_null(instrumented("--[[ open"));
    assert_null(instrumented("end"));
    assert_null(instrumented("while x do"));
    assert_null(instrumented("x = !"));
    assert_null(instrumented("function 1() end"));
}

/* Programs whose text result must not depend on instrumentation, nor must the
 * line numbers in it. */
static const char *const programs[] = {
    "local s = 0 for i = 1, 35000 do s = s + i end return s",
    "local n, s = 0, '' while n < 3 do n = n + 1 s = s .. n end return s",
    "local s = '' for _, w in ipairs { 'a', 'b' } do s = s .. w end return s",
    "local i = 0 repeat local stop = i > 5 i = i + 1 until stop return i",
    "local s = 0 for i = 1, 10 do if i % 2 == 0 then goto continue end "
    "s = s + i ::continue:: end return s",
    "local i = 0 ::top:: i = i + 1 if i < 25000 then goto top end return i",
    "for i = 1, 3 do for j = 1, 3 do if j == 2 then goto done end end end "
    "::done:: return 'done'",
    "local function fib(n) return n < 2 and n or fib(n - 1) + fib(n - 2) end "
    "return fib(20)",
    "local function f(n) if n == 0 then return 'tail' end return f(n - 1) end "
    "return f(100000)",
    "local t = {} for i = 1, 3 do t[i] = function() return i end end "
    "return t[1]() .. t[2]() .. t[3]()",
    "local function v(...) return select('#', ...) .. (...) end "
    "return v(1, nil, nil)",
    "return select('#', ...)",
    "local o = {n = 0} function o:add(k) self.n = self.n + k return self end "
    "return o:add(1):add(2).n",
    "local f = coroutine.wrap(function(a) while true do a = coroutine.yield(a "
    ".. '!') end end) return f('x') .. f('y')",
    "local t = {} for k, v in pairs {a = 1} do t[#t + 1] = k .. v end "
    "return table.concat(t)",
    "local env = {} setfenv(1, env) local n = 0 for i = 1, 30000 do n = n + 1 "
    "end x = n return env.x",
    "while true do do break end end return 'out'",
    "for i = 1, 2 do return i end",
    "return (function() while true do return 'deep' end end)()",
    "local function f() end ;(f or print)() return 'semicolon'",
    "for i = 1, 1 do (function() x = i end)() end return x",
    "return #('\\z   \n  abc') .. [[\nlong]] .. 0x10 .. 1e2",
    "local ok, e = pcall(function()\n\n  for i = 1, 3 do\n    local x = nil\n"
    "    x.y = 1\n  end\nend) return e",
    "local ok, e = pcall(function()\n  local t = {}\n  while true do\n"
    "    t:missing()\n  end\nend) return e",
    "local ok, e = xpcall(function()\n  repeat\n    error('here')\n  until "
    "false\nend, debug.traceback) return (e:gsub('%[C%].*', ''))",
    "local function f()\n  error('level', 2)\nend\nlocal ok, e =\n"
    "pcall(function()\n  for i = 1, 2 do\n    f()\n  end\nend) return e",
    "local info = debug.getinfo(1, 'Sl') return info.what .. info.currentline "
    ".. info.linedefined",
    "local i = debug.getinfo(function(a)\n while a do a() end\nend, 'SL') "
    "return i.linedefined .. '-' .. i.lastlinedefined",
    "local ok, e = pcall(load, 5) return tostring(e)",
    "return select(2, load('x ='))",
    "return select(2, load('for', '@name'))",
    "return select(2, loadstring('\\n\\nwhile true do', '=name'))",
    "return load('return ...')(7)",
    "return load('return x', 'n', 't', {x = 'env'})()",
    "return select(2, load('return 1', 'n', 'b'))",
    "local p = {'return ', '4', '2'} local i = 0 return load(function() i = i "
    "+ 1 return p[i] end)()",
    "return select(2, load(function() error('reader') end))",
    "return select(2, load(function() error({}) end)) and 'table'",
    "return select(2, loadfile('/nonexistent.lua'))",
    "return select(2, pcall(dofile, '/nonexistent.lua'))",
    "local s = {} for l in ('a\\nb'):gmatch('[^\\n]+') do s[#s + 1] = l end "
    "return #s",
    "local a = {f = function(t) return function(u) return t[1] .. u end end} "
    "return a.f{'x'}'y'",
    "local s = 0 for i = 1, 300 do for j = 1, 300 do s = s + j end end "
    "return s",
};

static void run_all(bool plain, bool jit, char (*results)[512])
{
    for (size_t i = 0; i < MOON_COUNT(programs); i++) {
        struct vm vm;
        vm_create(&vm, NULL, jit, 0, 0);
        vm.plain = plain;
        if (plain)
            luaopen_base(vm.L); /* LuaJIT's own load and friends */
        if (vm_run(&vm, programs[i], 0, SIZE_MAX) != 0)
            fail_msg("%s: %s", programs[i], vm.message);
        (void)snprintf(results[i], sizeof(results[i]), "%s", vm.message);
        vm_destroy(&vm);
    }
}

static void compare(bool jit)
{
    static char with[MOON_COUNT(programs)][512];
    static char without[MOON_COUNT(programs)][512];
    run_all(true, jit, without);
    run_all(false, jit, with);
    for (size_t i = 0; i < MOON_COUNT(programs); i++) {
        if (strcmp(with[i], without[i]) != 0)
            fail_msg("%s\ngives %s\nnot   %s", programs[i], with[i],
                     without[i]);
    }
}

static void test_same_behaviour_compiled(void **state)
{
    (void)state;
    compare(true);
}

static void test_same_behaviour_interpreted(void **state)
{
    (void)state;
    compare(false);
}

/* Leaves the number of values; runs what was loaded. */
static void load_and_run(const char *source, bool reduced, const char *result)
{
    struct vm vm;
    vm_create(&vm, NULL, true, 0, 0);
    bool fell_back = !reduced;
    int status =
        moon_safepoint_load(vm.L, moon_strz(source), "@big.lua", &fell_back);
    if (status != 0)
        fail_msg("%s", lua_tostring(vm.L, -1));
    assert_int_equal(fell_back, reduced);
    assert_int_equal(lua_pcall(vm.L, 0, 1, 0), 0);
    assert_string_equal(lua_tostring(vm.L, -1), result);
    vm_destroy(&vm);
}

static void test_limits(void **state)
{
    (void)state;
    /* 199 and 200 locals around a loop, 60 upvalues in a function that calls:
     * what is legal without counters stays legal. */
    for (int locals = 196; locals <= 200; locals++) {
        struct moon_buf text = {0};
        for (int i = 1; i <= locals; i++)
            moon_buf_printf(&text, "local l%d = %d ", i, i);
        moon_buf_addz(&text, "while l1 < 9 do l1 = l1 + 1 end return l1");
        moon_buf_add_char(&text, '\0');
        load_and_run(text.ptr, locals > 199, "9");
        moon_buf_deinit(&text);
    }
    for (int upvalues = 58; upvalues <= 60; upvalues++) {
        struct moon_buf text = {0};
        moon_buf_addz(&text, "local l0 = tostring ");
        for (int i = 1; i < upvalues; i++)
            moon_buf_printf(&text, "local l%d = %d ", i, i);
        moon_buf_addz(&text, "return (function() while l1 < 5 do l1 = l1 + 1 "
                             "end return l0(l1");
        for (int i = 2; i < upvalues; i++)
            moon_buf_printf(&text, "+l%d-l%d", i, i);
        moon_buf_addz(&text, ") end)()");
        moon_buf_add_char(&text, '\0');
        load_and_run(text.ptr, upvalues > 59, "5");
        moon_buf_deinit(&text);
    }
}

static void expect_message(const char *source, size_t len, const char *message)
{
    struct vm vm;
    vm_create(&vm, NULL, true, 0, 0);
    bool fell_back = true;
    assert_int_not_equal(
        moon_safepoint_load(vm.L, moon_str(source, len), "@x.lua", &fell_back),
        0);
    assert_false(fell_back);
    assert_int_equal(lua_gettop(vm.L), 1);
    assert_string_equal(lua_tostring(vm.L, -1), message);
    vm_destroy(&vm);
}

static void test_messages(void **state)
{
    (void)state;
    const char *syntax = "while true do\n  x = = 1\nend";
    expect_message(syntax, strlen(syntax),
                   "x.lua:2: unexpected symbol near '='");
    const char *open = "while true do\n\n";
    expect_message(open, strlen(open),
                   "x.lua:3: 'end' expected (to close 'while' at line 1) near "
                   "'<eof>'");
    const char *binary = "\x1bLJ\x02";
    expect_message(binary, strlen(binary),
                   "attempt to load chunk with wrong mode");
    const char *hidden = "#!x\n\x1bLJ\x02";
    expect_message(hidden, strlen(hidden), "cannot load malformed bytecode");
}

static void test_deep_nesting(void **state)
{
    (void)state;
    struct moon_buf text = {0};
    for (int i = 0; i < 100000; i++)
        moon_buf_addz(&text, "do ");
    bool changed;
    struct moon_buf out = {0};
    assert_int_equal(
        moon_safepoint_instrument(moon_buf_str(&text), &out, &changed),
        MOON_ETOO_BIG);
    moon_buf_deinit(&text);
    moon_buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_lexing),
        cmocka_unit_test(test_same_behaviour_compiled),
        cmocka_unit_test(test_same_behaviour_interpreted),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_deep_nesting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
