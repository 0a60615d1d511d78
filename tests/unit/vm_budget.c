/* Hostile scripts against the CPU watchdog: each must end with the cpu error,
 * compiled and interpreted, and leave a VM that works. */
#include "vm_support.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define LIMIT_MS 40

/* TSan hands a signal on only at its own calls, and compiled code has none. */
#ifdef __SANITIZE_THREAD__
#define NEEDS_PROMPT_SIGNALS() skip()
#else
#define NEEDS_PROMPT_SIGNALS() (void)0
#endif

struct script {
    const char *name, *source;
};

static const struct script scripts[] = {
    {"while", "while true do end"},
    {"for", "for i = 1, 1e15 do end"},
    {"for with work", "local t = {} for i = 1, 1e15 do t[i % 64] = i end"},
    {"short loops in a function",
     "local sin = math.sin local function f() local x = 0 for i = 1, 900 do "
     "x = x + sin(i) end return x end while true do f() end"},
    {"short loops three deep",
     "local function f(t) local s = 0 for i = 1, 99 do s = s + t[i] end return "
     "s end local function g(t) local s = 0 for i = 1, 99 do s = s + f(t) end "
     "return s end local t = {} for i = 1, 99 do t[i] = i end while true do "
     "g(t) end"},
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
    NEEDS_PROMPT_SIGNALS();
    run_scripts(true);
}

static void test_hostile_interpreted(void **state)
{
    (void)state;
    NEEDS_PROMPT_SIGNALS();
    run_scripts(false);
}

static void test_names_the_place(void **state)
{
    (void)state;
    NEEDS_PROMPT_SIGNALS();
    struct vm vm;
    vm_create(&vm, watch, true, 0, 0);
    assert_int_not_equal(
        vm_run(&vm,
               "local n = 0\nlocal function f()\n  while true do\n    n = n "
               "+ 1\n  end\nend\nwhile true do\n  pcall(f)\nend",
               LIMIT_MS, SIZE_MAX),
        0);
    if (strcmp(vm.message, "test.lua:3: cpu limit of 40 ms exceeded") != 0 &&
        strcmp(vm.message, "test.lua:4: cpu limit of 40 ms exceeded") != 0)
        fail_msg("%s", vm.message);
    /* Inside the framework it is the application's line that helps. */
    assert_int_not_equal(
        vm_run(&vm,
               "local wait = loadstring('while true do end', "
               "'=moonshine/wait.lua')\nlocal function f()\n  wait()\nend\nf() "
               "return 1",
               LIMIT_MS, SIZE_MAX),
        0);
    assert_string_equal(vm.message, "test.lua:3: cpu limit of 40 ms exceeded");
    vm_destroy(&vm);
}

/* Slices that end about when they are condemned: the next slice must never
 * be hit by what was meant for the last. */
static void test_no_slice_pays_for_another(void **state)
{
    (void)state;
    NEEDS_PROMPT_SIGNALS();
    struct vm vm;
    vm_create(&vm, watch, true, 0, 0);
    const char *busy = "local stop = os.clock() + 0.0195 "
                       "repeat local now = os.clock() until now > stop";
    size_t stopped = 0;
    for (int i = 0; i < 40; i++) {
        if (vm_run(&vm, busy, 1, SIZE_MAX) != 0)
            stopped++;
        for (int j = 0; j < 200; j++) {
            if (vm_run(&vm, "local n = 0 for i = 1, 50 do n = n + i end", 1000,
                       SIZE_MAX) != 0)
                fail_msg("an innocent slice: %s", vm.message);
        }
    }
    assert_true(stopped > 0);
    vm_destroy(&vm);
}

static void test_no_limit(void **state)
{
    (void)state;
    struct vm vm;
    vm_create(&vm, watch, true, 0, 0);
    assert_int_equal(vm_run(&vm,
                            "local stop = os.clock() + 0.1 repeat until "
                            "os.clock() > stop",
                            0, SIZE_MAX),
                     0);
    vm_destroy(&vm);
}

/* A slice that sleeps burns no CPU. */
static void test_sleep_is_not_cpu(void **state)
{
    (void)state;
    struct vm vm;
    vm_create(&vm, watch, true, 0, 0);
    assert_int_equal(
        vm_run(&vm,
               "local ffi = require 'ffi' ffi.cdef 'int poll(void *, "
               "unsigned long, int)' ffi.C.poll(nil, 0, 150)",
               LIMIT_MS, SIZE_MAX),
        0);
    vm_destroy(&vm);
}

/* After more than a second without a slice the watchdog sleeps. */
static void test_wakes_up(void **state)
{
    (void)state;
    NEEDS_PROMPT_SIGNALS();
    struct vm vm;
    vm_create(&vm, watch, true, 0, 0);
    struct timespec step = {.tv_nsec = 5000000};
    for (int i = 0; i < 2000 && atomic_load(watch->asleep) == 0; i++)
        nanosleep(&step, NULL);
    assert_int_equal(atomic_load(watch->asleep), 1);
    alarm(20);
    assert_int_not_equal(vm_run(&vm, "while true do end", LIMIT_MS, SIZE_MAX),
                         0);
    alarm(0);
    vm_destroy(&vm);
}

/* A suspended coroutine that was cancelled raises when it is resumed, and
 * does so through pcall, from inside a coroutine of its own, too. */
static void test_cancel_suspended(void **state)
{
    (void)state;
    static const char *const waiting[] = {
        "coroutine.yield()",
        "while true do pcall(coroutine.yield) end",
        "pcall(function() pcall(coroutine.yield) error('x') end) return 1",
        "local f = coroutine.wrap(function() while true do coroutine.yield() "
        "end end) f() coroutine.yield() while true do pcall(f) end",
    };
    struct vm vm;
    vm_create(&vm, watch, true, 0, 0);
    for (size_t i = 0; i < MOON_COUNT(waiting); i++) {
        lua_State *co = lua_newthread(vm.L);
        assert_int_equal(vm_load(&vm, co, waiting[i]), 0);
        assert_int_equal(lua_resume(co, 0), LUA_YIELD);
        moon_budget_trip(co, &vm.trap, MOON_TRIP_TIMEOUT, 1500);
        moon_budget_trip(co, &vm.trap, MOON_TRIP_CANCELLED, 0);
        moon_budget_enter(watch, co, &vm.trap, LIMIT_MS);
        int status = lua_resume(co, 0);
        moon_budget_leave(watch);
        assert_int_equal(vm.trap.word, MOON_TRIP_TIMEOUT);
        moon_budget_clear(vm.L, &vm.trap);
        assert_int_equal(status, LUA_ERRRUN);
        if (strstr(lua_tostring(co, -1), "timeout of 1500 ms exceeded") == NULL)
            fail_msg("%zu: %s", i, lua_tostring(co, -1));
        lua_settop(vm.L, 0);
        assert_int_equal(vm_run(&vm, "return 2", LIMIT_MS, SIZE_MAX), 0);
    }
    vm_destroy(&vm);
}

static void test_texts(void **state)
{
    (void)state;
    static const struct {
        struct moon_trap trap;
        const char *text;
    } cases[] = {
        {{.word = MOON_TRIP_CPU, .limit = 250}, "cpu limit of 250 ms exceeded"},
        {{.word = MOON_TRIP_MEMORY, .limit = 64 << 20},
         "memory limit of 64 MiB exceeded"},
        {{.word = MOON_TRIP_MEMORY, .limit = 64 << 10},
         "memory limit of 64 KiB exceeded"},
        {{.word = MOON_TRIP_TIMEOUT, .limit = 30000},
         "timeout of 30000 ms exceeded"},
        {{.word = MOON_TRIP_CANCELLED, .limit = 0}, "cancelled"},
    };
    for (size_t i = 0; i < MOON_COUNT(cases); i++) {
        char text[80];
        moon_budget_text(&cases[i].trap, text, sizeof(text));
        assert_string_equal(text, cases[i].text);
    }
}

/* Another thread builds a VM under its own, shorter limit meanwhile. */
static void *build(void *arg)
{
    struct vm *vm = arg;
    struct moon_slice slice = {0};
    struct moon_watch *own = moon_budget_watch(budget, &slice);
    if (own == NULL)
        return NULL;
    vm->watch = own;
    int status = vm_run(vm,
                        "while true do pcall(function() while true do end "
                        "end) end",
                        LIMIT_MS / 2, SIZE_MAX);
    bool fine = status != 0 && atomic_load(&slice.seq) == 2;
    moon_budget_unwatch(own);
    return fine ? vm : NULL;
}

static void test_second_thread(void **state)
{
    (void)state;
    NEEDS_PROMPT_SIGNALS();
    for (int i = 0; i < 6; i++) {
        struct vm mine, other;
        vm_create(&mine, watch, true, 0, 0);
        vm_create(&other, NULL, true, 0, 0);
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, build, &other), 0);
        assert_int_not_equal(
            vm_run(&mine, "while true do end", LIMIT_MS, SIZE_MAX), 0);
        void *result = NULL;
        assert_int_equal(pthread_join(thread, &result), 0);
        assert_ptr_equal(result, &other);
        assert_non_null(strstr(other.message, "cpu limit of 20 ms exceeded"));
        assert_non_null(strstr(mine.message, "cpu limit of 40 ms exceeded"));
        vm_destroy(&mine);
        vm_destroy(&other);
    }
}

static size_t lines_seen;

static void see_line(lua_State *L, lua_Debug *ar)
{
    (void)L;
    lines_seen += ar->event == LUA_HOOKLINE;
}

/* A hook on lines gives way to the trap's, and comes back after it. */
static void test_rest_hook(void **state)
{
    (void)state;
    NEEDS_PROMPT_SIGNALS();
    struct vm vm;
    vm_create(&vm, watch, false, 0, 0);
    moon_budget_set_rest(vm.L, &vm.trap, see_line);
    for (size_t i = 0; i < MOON_COUNT(scripts); i++) {
        lines_seen = 0;
        assert_int_equal(
            vm_run(&vm, "local a = 1\na = 2\nreturn a", LIMIT_MS, SIZE_MAX), 0);
        assert_int_equal(lines_seen, 3);
        assert_int_not_equal(vm_run(&vm, scripts[i].source, LIMIT_MS, SIZE_MAX),
                             0);
        if (strstr(vm.message, "cpu limit of 40 ms exceeded") == NULL)
            fail_msg("%s: %s", scripts[i].name, vm.message);
    }
    vm_destroy(&vm);
}

/* The signal from elsewhere, with nothing condemned, does nothing. */
static void test_stray_signal(void **state)
{
    (void)state;
    struct vm vm;
    vm_create(&vm, watch, true, 0, 0);
    assert_int_equal(raise(MOON_BUDGET_SIGNAL), 0);
    assert_int_equal(vm_run(&vm, "return 1", LIMIT_MS, SIZE_MAX), 0);
    vm_destroy(&vm);
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
        cmocka_unit_test(test_names_the_place),
        cmocka_unit_test(test_no_slice_pays_for_another),
        cmocka_unit_test(test_no_limit),
        cmocka_unit_test(test_sleep_is_not_cpu),
        cmocka_unit_test(test_wakes_up),
        cmocka_unit_test(test_cancel_suspended),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_second_thread),
        cmocka_unit_test(test_rest_hook),
        cmocka_unit_test(test_stray_signal),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
