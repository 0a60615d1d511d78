#include "session_harness.h"

#include "base/clock.h"
#include "base/random.h"
#include "session_stores.h"
#include "state/redis.h"

#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CALL_MS = 30000 };

uv_loop_t loop;
struct moon_session_store *store;
const char *store_urlz;
char last_why[MOON_SESSION_WHY];

/* ---- cases ---- */

static int case_count, wrong_count;
static char wrong[512];

void note_wrong(const char *filez, int line, const char *fmt, ...)
{
    if (wrong[0] != '\0')
        return;
    const char *slash = strrchr(filez, '/');
    int n = snprintf(wrong, sizeof(wrong),
                     "%s:%d: ", slash != NULL ? slash + 1 : filez, line);
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(wrong + n, sizeof(wrong) - (size_t)n, fmt, args);
    va_end(args);
}

bool case_is_wrong(void)
{
    return wrong[0] != '\0';
}

int print_wrong(void)
{
    if (wrong[0] != '\0')
        (void)fprintf(stderr, "process %d: %s\n", (int)getpid(), wrong);
    return wrong[0] == '\0' ? 0 : 1;
}

/* A store may still tell its servers what nobody waits for. */
static bool is_quiet_soon(void)
{
    uint64_t until_ms = moon_clock_ms() + CALL_MS;
    while (uv_run(&loop, UV_RUN_NOWAIT) != 0 && moon_clock_ms() < until_ms)
        (void)usleep(100);
    return uv_loop_alive(&loop) == 0;
}

void run_case(const char *namez, void (*run)(void))
{
    wrong[0] = '\0';
    run();
    if (!is_quiet_soon())
        note_wrong(__FILE__, __LINE__, "something is still pending");
    if (wrong[0] == '\0')
        (void)printf("ok %d - %s\n", ++case_count, namez);
    else
        (void)printf("not ok %d - %s: %s\n", ++case_count, namez, wrong);
    wrong_count += wrong[0] != '\0';
    (void)fflush(stdout);
}

int finish_cases(void)
{
    (void)printf("1..%d\n", case_count);
    return wrong_count == 0 ? 0 : 1;
}

/* ---- operations ---- */

int64_t start_ms(void)
{
    static int64_t start;
    if (start == 0)
        start = (int64_t)(moon_clock_wall() * 1000);
    return start;
}

void random_key(struct moon_session_key *key)
{
    moon_random_bytes(key->bytes, sizeof(key->bytes));
}

void random_key_like(struct moon_session_key *key,
                     const struct moon_session_key *other)
{
    random_key(key);
    if (store->ops->wants_same_first_byte)
        key->bytes[0] = other->bytes[0];
}

static void on_done(struct moon_session_op *op)
{
    struct call *call = op->ctx;
    call->fired++;
}

struct moon_session_op *begin_call(struct call *call, uint64_t ms)
{
    *call = (struct call){.op = {.done = on_done,
                                 .ctx = call,
                                 .deadline_ms = moon_clock_ms() + ms}};
    return &call->op;
}

enum moon_err end_call(struct call *call, enum moon_err err)
{
    if (err != MOON_EAGAIN) {
        CHECK(call->fired == 0);
        CHECK(call->op.err == err);
    } else {
        uint64_t until_ms = moon_clock_ms() + 2 * CALL_MS;
        while (call->fired == 0 && moon_clock_ms() < until_ms &&
               uv_run(&loop, UV_RUN_ONCE) != 0)
            ;
        CHECK(call->fired == 1);
        err = call->fired == 1 ? call->op.err : MOON_ETIMEOUT;
    }
    (void)snprintf(last_why, sizeof(last_why), "%s", call->op.why);
    return err;
}

enum moon_err load(const struct moon_session_key *key, int64_t now_ms,
                   struct moon_session_record **record)
{
    struct call call;
    struct moon_session_op *op = begin_call(&call, CALL_MS);
    enum moon_err err =
        end_call(&call, store->ops->load(store, op, key, now_ms));
    *record = op->record;
    if (err == MOON_OK && op->record == NULL)
        note_wrong(__FILE__, __LINE__, "loaded no record");
    if (err != MOON_OK && op->record != NULL)
        note_wrong(__FILE__, __LINE__, "failed, but with a record");
    return err;
}

enum moon_err save(const struct moon_session_key *key,
                   const struct moon_session_change *change, uint64_t *version)
{
    struct call call;
    struct moon_session_op *op = begin_call(&call, CALL_MS);
    enum moon_err err =
        end_call(&call, store->ops->save(store, op, key, change));
    if (version != NULL)
        *version = op->version;
    return err;
}

enum moon_err move(const struct moon_session_key *from,
                   const struct moon_session_key *to,
                   const struct moon_session_change *change)
{
    struct call call;
    struct moon_session_op *op = begin_call(&call, CALL_MS);
    return end_call(&call, store->ops->move(store, op, from, to, change));
}

enum moon_err touch(const struct moon_session_key *key, int64_t now_ms)
{
    struct call call;
    struct moon_session_op *op = begin_call(&call, CALL_MS);
    return end_call(&call, store->ops->touch(store, op, key, now_ms));
}

enum moon_err remove_one(const struct moon_session_key *key)
{
    struct call call;
    struct moon_session_op *op = begin_call(&call, CALL_MS);
    return end_call(&call, store->ops->remove(store, op, key));
}

enum moon_err list(struct moon_str subject, int64_t now_ms,
                   struct moon_session_list **out)
{
    struct call call;
    struct moon_session_op *op = begin_call(&call, CALL_MS);
    enum moon_err err =
        end_call(&call, store->ops->list(store, op, subject, now_ms));
    *out = op->list;
    return err;
}

enum moon_err remove_all(struct moon_str subject, uint32_t *count)
{
    struct call call;
    struct moon_session_op *op = begin_call(&call, CALL_MS);
    enum moon_err err =
        end_call(&call, store->ops->remove_all(store, op, subject));
    *count = op->count;
    return err;
}

struct moon_session_change change_of(const struct moon_session_field *fields,
                                     uint32_t count, int64_t now_ms)
{
    return (struct moon_session_change){.now_ms = now_ms,
                                        .idle_ms = 3600 * 1000,
                                        .expires_ms = MOON_SESSION_NEVER,
                                        .fields = fields,
                                        .field_count = count};
}

struct moon_session_field field(const char *namez, const char *valuez)
{
    return (struct moon_session_field){
        moon_strz(namez), valuez == NULL ? MOON_STR_NONE : moon_strz(valuez)};
}

struct moon_str value_of(const struct moon_session_record *record,
                         const char *namez)
{
    struct moon_str found = MOON_STR_NONE;
    for (uint32_t i = 0; record != NULL && i < record->field_count; i++) {
        if (!moon_str_eq(record->fields[i].name, moon_strz(namez)))
            continue;
        if (found.ptr != NULL)
            note_wrong(__FILE__, __LINE__, "field %s is there twice", namez);
        found = record->fields[i].value;
    }
    return found;
}

/* ---- other processes ---- */

static void print_key(const struct moon_session_key *key, char *hexz)
{
    for (size_t i = 0; i < sizeof(key->bytes); i++)
        (void)sprintf(hexz + 2 * i, "%02x", key->bytes[i]);
}

bool parse_key(const char *hexz, struct moon_session_key *key)
{
    if (strlen(hexz) != 2 * sizeof(key->bytes))
        return false;
    for (size_t i = 0; i < sizeof(key->bytes); i++) {
        char two[3] = {hexz[2 * i], hexz[2 * i + 1], '\0'};
        key->bytes[i] = (unsigned char)strtoul(two, NULL, 16);
    }
    return true;
}

pid_t start_child(const char *namez, const struct moon_session_key *key, int a,
                  int b)
{
    char hex[2 * MOON_SESSION_KEY + 1], first[16], second[16];
    char program[] = "/proc/self/exe", option[] = "--child";
    char url[STORE_URL], name[64];
    pid_t pid = -1;
    print_key(key, hex);
    (void)snprintf(first, sizeof(first), "%d", a);
    (void)snprintf(second, sizeof(second), "%d", b);
    (void)snprintf(url, sizeof(url), "%s", store_urlz);
    (void)snprintf(name, sizeof(name), "%s", namez);
    char *argv[] = {program, url, option, name, hex, first, second, NULL};
    CHECK(posix_spawn(&pid, program, NULL, NULL, argv, environ) == 0);
    return pid;
}

void wait_children(const pid_t *pids, int count)
{
    for (int i = 0; i < count; i++) {
        int status = -1;
        CHECK(pids[i] > 0 && waitpid(pids[i], &status, 0) == pids[i]);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            note_wrong(__FILE__, __LINE__, "a process ended with 0x%x",
                       (unsigned)status);
    }
}

bool open_here(const char *preparedz)
{
    store_urlz = preparedz;
    (void)uv_loop_init(&loop);
    if (store_open(&loop, preparedz, &store))
        return true;
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&loop);
    return false;
}

void close_here(void)
{
    store->ops->close(store);
    moon_redis_close_all();
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    if (uv_loop_close(&loop) != 0) {
        (void)printf("Bail out! handles were left open\n");
        exit(1);
    }
}
