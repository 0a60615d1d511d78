/* What a program that tries a session store needs: its own loop, operations
 * that wait for their end, other processes, and lines that pytest reads.
 *
 * One store, one thread. Checks note the first thing that is wrong in a case
 * and let it go on. */
#ifndef MOON_TESTS_SESSION_HARNESS_H
#define MOON_TESTS_SESSION_HARNESS_H

#include "base/compiler.h"
#include "state/session_store.h"

#include <sys/types.h>
#include <uv.h>

extern uv_loop_t loop;
extern struct moon_session_store *store;
extern const char *store_urlz; /* prepared */

/* ---- cases ---- */

/* Prints "ok N - NAME", or "not ok" with what was wrong. */
void run_case(const char *namez, void (*run)(void));
/* Prints the plan; 0 if all was well, else 1. */
int finish_cases(void);

void note_wrong(const char *filez, int line, const char *fmt, ...)
    MOON_PRINTF(3, 4);
bool case_is_wrong(void);
/* For a program that runs no cases; 0 if nothing was wrong, else 1. */
int print_wrong(void);

#define CHECK(what)                                              \
    do {                                                         \
        if (!(what))                                             \
            note_wrong(__FILE__, __LINE__, "not so: %s", #what); \
    } while (0)
/* `got` is evaluated once. */
#define CHECK_ERR(got, wanted)                                                \
    do {                                                                      \
        enum moon_err err_ = (got);                                           \
        if (err_ != (wanted))                                                 \
            note_wrong(__FILE__, __LINE__, "%s: %s (%s), not %s", #got,       \
                       moon_err_text(err_), last_why, moon_err_text(wanted)); \
    } while (0)

/* ---- operations ---- */

extern char last_why[MOON_SESSION_WHY];

/* Wall clock when the program began; cases add to it. */
int64_t start_ms(void);
void random_key(struct moon_session_key *key);
/* One that a session of the other key may move to. */
void random_key_like(struct moon_session_key *key,
                     const struct moon_session_key *other);

/* An operation that is under way, or not yet. */
struct call {
    struct moon_session_op op;
    int fired;
};
/* Ready to be given to the store; its time is over in so many ms. */
struct moon_session_op *begin_call(struct call *call, uint64_t ms);
/* Runs the loop until it ended; what it ended with. `err` is what the store
 * returned. */
enum moon_err end_call(struct call *call, enum moon_err err);

/* Begin and end in one. */
enum moon_err load(const struct moon_session_key *key, int64_t now_ms,
                   struct moon_session_record **record);
enum moon_err save(const struct moon_session_key *key,
                   const struct moon_session_change *change, uint64_t *version);
enum moon_err move(const struct moon_session_key *from,
                   const struct moon_session_key *to,
                   const struct moon_session_change *change);
enum moon_err touch(const struct moon_session_key *key, int64_t now_ms);
enum moon_err remove_one(const struct moon_session_key *key);
enum moon_err list(struct moon_str subject, int64_t now_ms,
                   struct moon_session_list **out);
enum moon_err remove_all(struct moon_str subject, uint32_t *count);

/* One field, and a life of an hour without end. */
struct moon_session_change change_of(const struct moon_session_field *fields,
                                     uint32_t count, int64_t now_ms);
struct moon_session_field field(const char *namez, const char *valuez);
/* The value, ptr NULL if it is not there. */
struct moon_str value_of(const struct moon_session_record *record,
                         const char *namez);

/* ---- other processes ---- */

/* This program again: PROGRAM URL --child NAME KEY A B. */
pid_t start_child(const char *namez, const struct moon_session_key *key, int a,
                  int b);
/* All must end well. */
void wait_children(const pid_t *pids, int count);
bool parse_key(const char *hexz, struct moon_session_key *key);

/* Opens the store for this process; false: said why. close ends the loop. */
bool open_here(const char *preparedz);
void close_here(void);

#endif
