/* The memory budget: accounting, caps, and hogs that must each be ended by an
 * error while the VM and the process go on. MOON_HOGS=N runs N hogs more. */
#include "vm_support.h"

#include <stdlib.h>

#define MIB ((size_t)1 << 20)

static const char *const hogs[] = {
    "local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end",
    "local s = 'x' while true do s = s .. s end",
    "local t = {} while true do t[#t + 1] = {} end",
    "local t = {} for i = 1, 1e12 do t[i] = i end",
    "local t = {} for i = 1, 1e12 do t['k' .. i] = i end",
    "local t = {} while true do t[#t + 1] = function() return t end end",
    "local t = {} while true do t = {t, {}} end",
    "return ('x'):rep(1e9)",
    "local t = {} while true do t[#t + 1] = ('y'):rep(1e6) .. #t end",
    "local t = {} while true do pcall(function() while true do t[#t + 1] = "
    "{1, 2, 3} end end) end",
    "local t = {} while true do pcall(function() t[#t + 1] = ('z'):rep(2e6 + "
    "#t) end) end",
    "local t = {} while true do t[#t + 1] = coroutine.create(function() end) "
    "end",
    "local t = {} local function f(n) t[n] = {n} return f(n + 1) end f(1)",
    "local function f(...) return f(1, ...) end f()",
    "local ffi = require 'ffi' local t = {} while true do t[#t + 1] = "
    "ffi.new('char[?]', 1e5) end",
    "local ffi = require 'ffi' local t = {} while true do t[#t + 1] = "
    "ffi.new('int64_t', 1) end",
    "local t = {} while true do t[#t + 1] = load('return ' .. #t) end",
    "local t = {} for i = 1, 1e9 do t[i] = tostring(i) .. 'abc' end",
    "local t, s = {}, ('ab'):rep(50) while true do t[#t + 1] = s:sub(1, 50) "
    ".. #t for i = 1, 10 do t[#t + 1] = s:upper() .. #t end end",
    "local b = require 'string.buffer'.new() while true do b:put('abcdefgh') "
    "end",
    "local t = {} while true do t[#t + 1] = newproxy(true) end",
    "return table.concat(setmetatable({}, nil), ('x'):rep(1e8)) .. ('x'):rep("
    "3e8)",
    "local f = coroutine.wrap(function() local t = {} while true do t[#t + 1] "
    "= {} end end) f()",
    "local t = {} while true do xpcall(function() while true do t[#t + 1] = {} "
    "end end, function() while true do t[#t + 1] = {} end end) end",
    "local s = {} while true do s[#s + 1] = ('%d %s'):format(#s, ('q'):rep("
    "200)) end",
    "local t = {} while true do for w in ('a b c d'):gmatch('%a') do t[#t + 1] "
    "= w .. #t end end",
};

static struct moon_budget *budget;
static struct moon_watch *watch;

static bool ended_by_memory(const struct vm *vm)
{
    return strstr(vm->message, "memory limit of") != NULL ||
           strstr(vm->message, "not enough memory") != NULL ||
           strstr(vm->message, "string length overflow") != NULL ||
           strstr(vm->message, "table overflow") != NULL ||
           strstr(vm->message, "stack overflow") != NULL;
}

static bool verbose;

static void run_hog(struct vm *vm, size_t which, size_t allowance)
{
    vm->memory.peak = vm->memory.used;
    int status = vm_run(vm, hogs[which], 20000, allowance);
    if (verbose)
        print_message("%2zu: %.0f ms, peak %zu KiB: %s\n", which, vm->ran_ms,
                      vm->memory.peak >> 10, vm->message);
    if (status == 0 || !ended_by_memory(vm))
        fail_msg("%s: status %d: %s", hogs[which], status, vm->message);
    assert_true(vm->memory.peak <= vm->memory.hard_limit * 3 / 2);
    /* What the gate leaves to the collector and to the builder thread. */
    lua_gc(vm->L, LUA_GCCOLLECT, 0);
    assert_int_equal(vm_run(vm, "return 1 + 1", 20000, MIB), 0);
    assert_string_equal(vm->message, "2");
}

static void run_hogs(bool jit)
{
    struct vm vm;
    vm_create(&vm, watch, jit, 48 * MIB, 64 * MIB);
    for (size_t i = 0; i < MOON_COUNT(hogs); i++)
        run_hog(&vm, i, 24 * MIB);
    vm_destroy(&vm);
}

static void test_hogs_compiled(void **state)
{
    (void)state;
    run_hogs(true);
}

static void test_hogs_interpreted(void **state)
{
    (void)state;
    run_hogs(false);
}

/* For a throw-away run: tight caps, so that refusals happen too, and a fresh VM
 * now and then, as the worker would have. */
static void test_many_hogs(void **state)
{
    (void)state;
    const char *wanted = getenv("MOON_HOGS");
    long many = wanted != NULL ? atol(wanted) : 0;
    unsigned seed = wanted != NULL ? (unsigned)many : 1;
    verbose = false;
    for (long done = 0; done < many;) {
        struct vm vm;
        size_t soft = 12 * MIB;
        size_t hard = soft + (size_t)rand_r(&seed) % (8 * MIB);
        vm_create(&vm, watch, rand_r(&seed) % 8 != 0, soft, hard);
        for (int i = 0; i < 20 && done < many; i++, done++)
            run_hog(&vm, (size_t)rand_r(&seed) % MOON_COUNT(hogs),
                    rand_r(&seed) % 2 == 0 ? 6 * MIB : SIZE_MAX);
        vm_destroy(&vm);
    }
}

static int set_up(void **state)
{
    (void)state;
    verbose = getenv("MOON_VERBOSE") != NULL;
    if (moon_budget_create(&budget) != MOON_OK)
        return -1;
    watch = moon_budget_watch(budget, NULL);
    return watch == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    moon_budget_unwatch(watch);
    moon_budget_destroy(budget);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hogs_compiled),
        cmocka_unit_test(test_hogs_interpreted),
        cmocka_unit_test(test_many_hogs),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
