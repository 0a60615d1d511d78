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

static void count_trip(void *ud, size_t limit)
{
    size_t *seen = ud;
    seen[0]++;
    seen[1] = limit;
}

static void *grow(struct moon_memory *mem, size_t size)
{
    return moon_memory_alloc(mem, NULL, 0, size);
}

static void give_back(struct moon_memory *mem, void *ptr, size_t size)
{
    (void)moon_memory_alloc(mem, ptr, size, 0);
}

/* Blocks of all sizes keep their bytes through growing and shrinking. */
static void test_blocks(void **state)
{
    (void)state;
    struct moon_memory mem;
    moon_memory_init(&mem, 0, 0);
    enum { COUNT = 3000 };
    static unsigned char *blocks[COUNT];
    static size_t sizes[COUNT];
    size_t sum = 0;
    unsigned seed = 7;
    for (int round = 0; round < 40000; round++) {
        size_t i = (size_t)rand_r(&seed) % COUNT;
        size_t size = (size_t)rand_r(&seed) % (round % 3 == 0 ? 3000 : 600);
        for (size_t at = 0; at < sizes[i]; at++)
            assert_int_equal(blocks[i][at], (unsigned char)i);
        blocks[i] = moon_memory_alloc(&mem, blocks[i], sizes[i], size);
        assert_true(size == 0 || blocks[i] != NULL);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        sum += size - sizes[i];
        sizes[i] = size;
        if (size > 0)
            memset(blocks[i], (int)i, size);
        assert_int_equal(mem.used, sum);
    }
    for (size_t i = 0; i < COUNT; i++) {
        blocks[i] = moon_memory_alloc(&mem, blocks[i], sizes[i], 0);
        sizes[i] = 0;
    }
    assert_int_equal(mem.used, 0);
    assert_null(mem.slabs.spare);
}

static void test_slice_cap(void **state)
{
    (void)state;
    size_t seen[2] = {0, 0};
    struct moon_memory mem;
    moon_memory_init(&mem, 10 * MIB, 20 * MIB);
    mem.on_trip = count_trip;
    mem.on_trip_ud = seen;
    moon_memory_begin_slice(&mem, MIB);
    void *a = grow(&mem, MIB - 16);
    assert_int_equal(seen[0], 0);
    void *b = grow(&mem, 64);
    void *c = grow(&mem, 64);
    assert_int_equal(seen[0], 1); /* once a slice */
    assert_int_equal(seen[1], MIB);
    moon_memory_begin_slice(&mem, 4 * MIB);
    void *d = grow(&mem, 5 * MIB);
    assert_int_equal(seen[0], 2);
    assert_int_equal(seen[1], 4 * MIB);
    moon_memory_begin_slice(&mem, 9 * MIB); /* the VM has room for less */
    void *e = grow(&mem, 5 * MIB);
    assert_int_equal(seen[0], 3);
    assert_int_equal(seen[1], 10 * MIB);
    /* A full VM does not fail the next slice for a little more. */
    moon_memory_begin_slice(&mem, 4 * MIB);
    void *f = grow(&mem, MOON_MEMORY_SLACK);
    assert_int_equal(seen[0], 3);
    void *g = grow(&mem, 16);
    assert_int_equal(seen[0], 4);
    assert_int_equal(seen[1], 10 * MIB);
    /* However many slices there are, the hard cap stays where it is. */
    for (int i = 0; i < 100; i++) {
        moon_memory_begin_slice(&mem, SIZE_MAX);
        assert_true(mem.check_at <= mem.hard_limit);
    }
    give_back(&mem, a, MIB - 16);
    give_back(&mem, b, 64);
    give_back(&mem, c, 64);
    give_back(&mem, d, 5 * MIB);
    give_back(&mem, e, 5 * MIB);
    give_back(&mem, f, MOON_MEMORY_SLACK);
    give_back(&mem, g, 16);
    assert_int_equal(mem.used, 0);
}

static void test_hard_cap(void **state)
{
    (void)state;
    struct moon_memory mem;
    moon_memory_init(&mem, 8 * MIB, 16 * MIB);
    void *most = grow(&mem, 16 * MIB - 4096);
    assert_non_null(most);
    assert_null(grow(&mem, 8200));
    assert_null(grow(&mem, (size_t)1 << 40));
    assert_int_equal(mem.used, 16 * MIB - 4096);
    /* Small, a string table, a shrink: never refused there. */
    void *small = grow(&mem, 4096), *more = grow(&mem, 100);
    assert_non_null(small);
    assert_non_null(more);
    void *table = grow(&mem, MIB);
    assert_non_null(table);
    assert_null(grow(&mem, MIB + 8));
    assert_null(grow(&mem, 16 * MIB));
    table = moon_memory_alloc(&mem, table, MIB, MIB / 2);
    assert_non_null(table);
    assert_null(moon_memory_alloc(&mem, table, MIB / 2, MIB));
    give_back(&mem, table, MIB / 2);
    give_back(&mem, more, 100);
    give_back(&mem, small, 4096);
    give_back(&mem, most, 16 * MIB - 4096);
    assert_int_equal(mem.used, 0);
}

static int cycle_ended(lua_State *L);

static void arm_cycle(lua_State *L)
{
    (void)lua_newuserdata(L, 1);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, cycle_ended);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
}

static struct vm *paced;
static size_t cycles;

static int cycle_ended(lua_State *L)
{
    if (paced == NULL)
        return 0;
    cycles++;
    moon_memory_pace(&paced->memory, L);
    arm_cycle(L);
    return 0;
}

/* An application that holds two thirds of its cap serves small requests
 * without any of them being blamed for the garbage of the others. */
static void test_garbage_is_nobodys_fault(void **state)
{
    (void)state;
    struct vm vm;
    vm_create(&vm, watch, true, 12 * MIB, 16 * MIB);
    paced = &vm;
    cycles = 0;
    arm_cycle(vm.L);
    assert_int_equal(vm_run(&vm,
                            "kept = {} for i = 1, 100000 do kept[i] = {i} end",
                            0, SIZE_MAX),
                     0);
    lua_gc(vm.L, LUA_GCCOLLECT, 0);
    assert_true(vm.memory.used > 7 * MIB);
    vm.memory.peak = 0;
    for (int i = 0; i < 3000; i++) {
        if (vm_run(&vm,
                   "local t = {} for i = 1, 200 do t[i] = {i, tostring(i)}"
                   " end",
                   0, 4 * MIB) != 0)
            fail_msg("slice %d: %s", i, vm.message);
    }
    assert_true(vm.memory.peak <= 12 * MIB);
    assert_true(cycles > 10);
    paced = NULL;
    vm_destroy(&vm);
}

static size_t resident(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    unsigned long size = 0, pages = 0;
    assert_int_equal(fscanf(file, "%lu %lu", &size, &pages), 2);
    assert_int_equal(fclose(file), 0);
    return pages * 4096;
}

static void test_pages_go_back(void **state)
{
    (void)state;
    /* Sanitizers keep freed memory to themselves. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip();
#endif
    size_t before = resident();
    struct vm vm;
    vm_create(&vm, watch, true, 0, 0);
    static const char *const fill[] = {
        "local t = {} for i = 1, 4e5 do t[i] = {i} end kept = {} for i = 1, "
        "4e5, 4000 do kept[#kept + 1] = t[i] end",
        "local t = {} for i = 1, 4e5 do t[i] = 'some text ' .. i end",
        "local t = {} for i = 1, 2e4 do t[i] = ('x'):rep(1000) .. i end",
    };
    for (int i = 0; i < 30; i++)
        assert_int_equal(vm_run(&vm, fill[i % 3], 0, SIZE_MAX), 0);
    size_t full = resident();
    lua_gc(vm.L, LUA_GCCOLLECT, 0);
    moon_memory_release_pages();
    size_t collected = resident();
    vm_destroy(&vm);
    moon_memory_release_pages();
    size_t after = resident();
    print_message("resident KiB: before %zu, full %zu, collected %zu with %zu "
                  "in use at the peak, closed %zu\n",
                  before >> 10, full >> 10, collected >> 10,
                  vm.memory.peak >> 10, after >> 10);
    assert_true(after < before + 4 * MIB);
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
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_slice_cap),
        cmocka_unit_test(test_hard_cap),
        cmocka_unit_test(test_garbage_is_nobodys_fault),
        cmocka_unit_test(test_pages_go_back),
        cmocka_unit_test(test_hogs_compiled),
        cmocka_unit_test(test_hogs_interpreted),
        cmocka_unit_test(test_many_hogs),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
