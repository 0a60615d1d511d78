/* Load on a session store:
 *
 *   session_load URL fill COUNT             makes sessions 0 to COUNT
 *   session_load URL load COUNT TIMES       reads some of them, so many times
 *   session_load URL save COUNT TIMES N     changes a field of some, N at once
 *
 * A session has five fields, 220 bytes in all. Prints how many a second and,
 * for saves, how long the slowest took. */
#include "session_harness.h"
#include "session_stores.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { AT_ONCE_MAX = 1024, CALL_MS = 60000 };

static struct moon_session_key key_of(uint32_t number)
{
    struct moon_session_key key;
    uint64_t state = number + 1;
    for (size_t i = 0; i < sizeof(key.bytes); i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        key.bytes[i] = (unsigned char)(state >> 56);
    }
    return key;
}

struct work {
    struct call call;
    struct moon_session_key key;
    struct moon_session_field fields[5];
    struct moon_session_change change;
    char value[32];
    uint64_t begun_ns;
};

static struct work works[AT_ONCE_MAX];
static uint32_t left, running, failed;
static uint64_t slowest_ns;
static unsigned seed;
static uint32_t session_count;
static bool makes;

static void next(struct work *work);

static void on_end(struct work *work, enum moon_err err)
{
    uint64_t ns = moon_clock_ns() - work->begun_ns;
    slowest_ns = ns > slowest_ns ? ns : slowest_ns;
    failed += err != MOON_OK;
    running--;
}

static void on_done(struct moon_session_op *op)
{
    struct work *work = op->ctx;
    on_end(work, op->err);
    next(work);
}

/* Begins the next operation, if one is left. */
static void next(struct work *work)
{
    while (left > 0) {
        uint32_t number =
            makes ? --left : (uint32_t)rand_r(&seed) % session_count;
        if (!makes)
            left--;
        work->key = key_of(number);
        (void)snprintf(work->value, sizeof(work->value), "%010u", left);
        work->change = change_of(work->fields, makes ? 5 : 1, start_ms());
        work->change.create = makes;
        struct moon_session_op *op = begin_call(&work->call, CALL_MS);
        op->done = on_done;
        op->ctx = work;
        running++;
        work->begun_ns = moon_clock_ns();
        enum moon_err err =
            store->ops->save(store, op, &work->key, &work->change);
        if (err == MOON_EAGAIN)
            return;
        on_end(work, err);
    }
}

static void run_saves(uint32_t at_once)
{
    for (uint32_t i = 0; i < at_once; i++) {
        struct work *work = &works[i];
        work->fields[0] = field("cart", "[1042,77,1042,9]");
        work->fields[1] = field("csrf", "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4");
        work->fields[2] = field("locale", "de-CH");
        work->fields[3] =
            field("profile", "{\"name\":\"Anna Example\",\"mail\":\"anna@"
                             "example.org\",\"roles\":[\"editor\",\"user\"],"
                             "\"since\":1700000000}");
        work->fields[4] = field("user", "4711");
        work->fields[0].value = moon_str(work->value, 10);
        next(work);
    }
    while (running > 0 && uv_run(&loop, UV_RUN_ONCE) != 0)
        ;
}

static void run_loads(void)
{
    for (; left > 0; left--) {
        struct call call;
        struct moon_session_key key =
            key_of((uint32_t)rand_r(&seed) % session_count);
        struct moon_session_op *op = begin_call(&call, CALL_MS);
        enum moon_err err =
            end_call(&call, store->ops->load(store, op, &key, start_ms()));
        failed += err != MOON_OK || op->record->field_count != 5;
        free(op->record);
    }
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        (void)fprintf(stderr, "session_load URL fill|load|save COUNT ...\n");
        return 2;
    }
    seed = (unsigned)getpid();
    session_count = (uint32_t)atoi(argv[3]);
    makes = strcmp(argv[2], "fill") == 0;
    left = makes ? session_count : (uint32_t)atoi(argv[4]);
    uint32_t times = left, at_once = makes ? 256 : 1;
    if (argc > 5)
        at_once = (uint32_t)atoi(argv[5]);
    if (session_count == 0 || at_once == 0 || at_once > AT_ONCE_MAX)
        return 2;
    if (!open_here(argv[1]))
        return 1;
    uint64_t begun_ns = moon_clock_ns();
    if (strcmp(argv[2], "load") == 0)
        run_loads();
    else
        run_saves(at_once);
    double seconds = (double)(moon_clock_ns() - begun_ns) / 1e9;
    close_here();
    (void)printf("%.0f a second, slowest %.1f ms, failed %u\n", times / seconds,
                 (double)slowest_ns / 1e6, failed);
    return failed == 0 ? 0 : 1;
}
