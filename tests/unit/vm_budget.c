/* Hostile scripts against the CPU watchdog: each must end with the cpu error,
 * compiled and interpreted, and leave a VM that works. */
#include "vm_support.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define LIMIT_MS 40

struct script {
    const char *name, *source;
};

static const struct script scripts[] = {
    {"while", "while true do end"},
    {"for", "for i = 1, 1e15 do end"},
    {"for with work", "local t = {} for i = 1, 1e15 do t[i % 64] = i end"},
    {"repeat", "local n = 0 repeat n = n + 1 until n < 0"},
    {"generic for", "for _ in function() return 1 end do end"},
    {"next", "local t = {1} while true do for k, v in pairs(t) do end end"},
    {"goto", "::again:: goto again"},
    {"goto in a block",
     "local n = 0 ::again:: do n = n + 1 if n > 0 then goto again end end"},
    {"goto continue",
     "local i = 0 while true do i = i + 1\n"
     "if i % 2 == 0 then goto continue end i = i + 2 ::continue:: end"},
    {"tail recursion", "local function f() return f() end f()"},
    {"tail recursion with work",
     "local function f(a, b) return f(b, (a + b) % 1000) end f(0, 1)"},
    {"mutual tail recursion",
     "local g local function f() return g() end function g() return f() end "
     "f()"},
    {"method tail recursion",
     "local o = {} function o:f() return self:f() end o:f()"},
    {"exponential recursion",
     "local function fib(n) if n < 2 then return n end "
     "return fib(n - 1) + fib(n - 2) end return fib(90)"},
    {"recursion by __index",
     "local t = setmetatable({}, {__index = function(t, k) if k < 2 then "
     "return k end return t[k - 1] + t[k - 2] end}) return t[90]"},
    {"recursion by __concat",
     "local mt = {} local u = setmetatable({}, mt) local n = 0 "
     "mt.__concat = function(a, b) n = n + 1 if n > 60 then n = n - 1 return 1 "
     "end local x = a .. b x = a .. b n = n - 1 return x end return u .. u"},
    {"tail recursion by __call",
     "local o = setmetatable({}, {__call = function(s) return s() end}) o()"},
    {"pcall in a loop",
     "while true do pcall(function() while true do end end) end"},
    {"nested pcall", "local function f() while true do pcall(f) end end f()"},
    {"pcall of pcall",
     "while true do pcall(pcall, pcall, function() while true do end end) end"},
    {"xpcall with an endless handler",
     "local function spin() while true do end end\n"
     "while true do xpcall(spin, spin) end"},
    {"xpcall whose handler recurses",
     "local function f() return f() end while true do xpcall(f, f) end"},
    {"coroutine.wrap",
     "local f = coroutine.wrap(function() while true do end end) f()"},
    {"coroutine in pcall",
     "while true do pcall(coroutine.wrap(function() while true do\n"
     "pcall(function() while true do end end) end end)) end"},
    {"coroutine that yields",
     "local f = coroutine.wrap(function() while true do coroutine.yield() end "
     "end) while true do f() end"},
    {"coroutines without end",
     "while true do coroutine.resume(coroutine.create(function() while true "
     "do end end)) end"},
    {"load", "load('while true do end')()"},
    {"loadstring", "while true do pcall(loadstring('while true do end')) end"},
    {"load from a reader",
     "local n = 0 load(function() n = n + 1 return n == 1 and "
     "'while true do end' or nil end)()"},
    {"reader that spins", "load(function() while true do end end)"},
    {"a chunk that calls itself", "f = loadstring('return f()') f()"},
    {"chunks that load chunks", "s = 'return loadstring(s)()' loadstring(s)()"},
    {"setfenv", "setfenv(1, {}) while true do end"},
    {"sort", "while true do table.sort({3, 2, 1, 5, 4}, function(a, b) return "
             "a < b end) end"},
    {"gsub", "local s = ('x'):rep(1000) while true do s:gsub('.', function() "
             "end) end"},
    {"finalizer",
     "local p = newproxy(true) getmetatable(p).__gc = function() while true do "
     "end end p = nil collectgarbage() collectgarbage()"},
    {"tostring",
     "local o = setmetatable({}, {__tostring = function() while true do end "
     "end}) while true do pcall(tostring, o) end"},
    {"ffi", "local ffi = require 'ffi' local p = ffi.new('int[1]') "
            "while p[0] == 0 do end"},
    {"error in a loop", "while true do pcall(error, {}) end"},
    {"string building", "while true do local s = '' for i = 1, 50 do s = s .. "
                        "i end end"},
};

static struct moon_budget *budget;
static struct moon_watch *watch;

/* A script that nothing stops would hang the suite: name it and die. */
static const char *running;

static void on_alarm(int sig)
{
    (void)sig;
    (void)!write(2, "not stopped: ", 13);
    (void)!write(2, running, strlen(running));
    (void)!write(2, "\n", 1);
    _exit(99);
}

static void run_scripts(bool jit)
{
    double worst_ms = 0;
    for (size_t i = 0; i < MOON_COUNT(scripts); i++) {
        struct vm vm;
        vm_create(&vm, watch, jit, 0, 0);
        running = scripts[i].name;
        alarm(20);
        int status = vm_run(&vm, scripts[i].source, LIMIT_MS, SIZE_MAX);
        if (status == 0 ||
            strstr(vm.message, "cpu limit of 40 ms exceeded") == NULL)
            fail_msg("%s: status %d, %s", running, status, vm.message);
        if (vm.ran_ms > worst_ms)
            worst_ms = vm.ran_ms;
        assert_int_equal(vm_run(&vm, "return 1 + 1", LIMIT_MS, SIZE_MAX), 0);
        assert_string_equal(vm.message, "2");
        vm_destroy(&vm);
    }
    alarm(0);
    print_message("worst: stopped at %.1f ms of %d\n", worst_ms, LIMIT_MS);
}

static void test_hostile_compiled(void **state)
{
    (void)state;
    run_scripts(true);
}

static void test_hostile_interpreted(void **state)
{
    (void)state;
    run_scripts(false);
}

static int set_up(void **state)
{
    (void)state;
    (void)signal(SIGALRM, on_alarm);
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
        cmocka_unit_test(test_hostile_compiled),
        cmocka_unit_test(test_hostile_interpreted),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
