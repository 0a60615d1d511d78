/* What the files of the test driver share: the loop, and lines of output.
 *
 * The driver (redis_driver.c) reads commands from its standard input, a line
 * each, and writes what happens as JSON, a line each, so that a test can stand
 * in for the rest of Moonshine. */
#ifndef MOON_TESTS_REDIS_DRIVER_H
#define MOON_TESTS_REDIS_DRIVER_H

#include "base/buf.h"
#include "state/redis.h"

extern uv_loop_t driver_loop;

/* ---- redis_output.c ---- */

/* "TIMEOUT" for MOON_ETIMEOUT, "OK". */
const char *driver_err_name(enum moon_err err);
void driver_add_reply(struct moon_buf *to, const struct redisReply *reply);
/* Writes the line, and frees it. */
void driver_say(struct moon_buf *line);
/* Holds the loop up, as a request that computes for long. */
void driver_stall(uint64_t ms);

/* ---- redis_load.c: many users at once, each of whom checks its answers ----
 */

struct load;

struct load_options {
    uint32_t users;
    uint64_t ops;    /* in all; 0: until it is stopped */
    uint64_t max_ms; /* at most; 0: no limit */
    uint32_t seed;
    bool lossy;  /* a write that was acknowledged may be gone */
    bool gentle; /* no cancels, no stalls, no tight deadlines */
};

/* Says {"event": "load", "name": ...} with its counts when it is over. */
struct load *load_start(const char *namez, struct moon_redis *redis,
                        const struct load_options *options);
/* Finishes what is under way, and ends. */
void load_stop(struct load *load);
void load_stop_all(void);
struct load *load_find(const char *namez);

/* ---- redis_bench.c ---- */

/* SETs of one key; says {"event": "bench"} when it is over. */
void bench_run(struct moon_redis *redis, uint64_t ops, uint32_t batch,
               uint32_t value_bytes);

#endif
