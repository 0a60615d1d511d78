/* Operations that are under way, and several processes at once. */
#include "session_cases.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- operations under way ---- */

/* Begins a save, lets some get on their way, and gives it up. All that it
 * borrowed is gone then. */
static void give_up(const struct moon_session_key *key, int round)
{
    struct call *call = malloc(sizeof(*call));
    char *value = malloc(16);
    struct moon_session_change *change = malloc(sizeof(*change));
    if (call == NULL || value == NULL || change == NULL)
        abort();
    (void)snprintf(value, 16, "%d", round);
    struct moon_session_field own = field("a", value);
    *change = change_of(&own, 1, NOW);
    struct moon_session_op *op = begin_call(call, 10000);
    if (store->ops->save(store, op, key, change) == MOON_EAGAIN) {
        if (round % 3 == 0)
            (void)uv_run(&loop, UV_RUN_NOWAIT);
        if (call->fired == 0)
            store->ops->cancel(store, op);
    }
    memset(value, 'x', 16);
    free(change);
    free(value);
    free(call);
}

void cancelled_ones_say_nothing(void)
{
    enum { ROUNDS = 100 };
    struct moon_session_key key;
    struct moon_session_field fields[] = {field("a", "1")};
    random_key(&key);
    create_session(&key, fields, 1);
    for (int i = 0; i < ROUNDS && !case_is_wrong(); i++) {
        struct moon_session_record *record;
        give_up(&key, i);
        CHECK_ERR(touch(&key, NOW + i), MOON_OK); /* is done after it */
        CHECK_ERR(load(&key, NOW, &record), MOON_OK);
        CHECK(value_of(record, "a").len < 4);
        free(record);
    }
    CHECK_ERR(remove_one(&key), MOON_OK);
}

void deadlines_hold(void)
{
    struct moon_session_key key;
    struct moon_session_record *record;
    struct moon_session_field fields[] = {field("a", "1")};
    random_key(&key);
    create_session(&key, fields, 1);
    struct call call;
    struct moon_session_change change = change_of(fields, 1, NOW);
    struct moon_session_op *op = begin_call(&call, 0);
    CHECK_ERR(end_call(&call, store->ops->save(store, op, &key, &change)),
              MOON_ETIMEOUT);
    CHECK(op->why[0] != '\0');
    /* What has no time left ends, one way or the other, and once. */
    for (int i = 0; i < 50; i++) {
        op = begin_call(&call, (uint64_t)i % 3);
        enum moon_err err =
            end_call(&call, store->ops->save(store, op, &key, &change));
        CHECK(err == MOON_OK || err == MOON_ETIMEOUT);
    }
    CHECK_ERR(load(&key, NOW, &record), MOON_OK);
    free(record);
    CHECK_ERR(remove_one(&key), MOON_OK);
}

/* Operations at the same time may be done in any order, but once it is gone it
 * is gone. */
void a_removal_wins(void)
{
    enum { ROUNDS = 200 };
    struct moon_session_record *record;
    struct moon_session_field fields[] = {field("a", "1")};
    for (int i = 0; i < ROUNDS && !case_is_wrong(); i++) {
        struct moon_session_key key;
        struct call saving, removing, late;
        random_key(&key);
        create_session(&key, fields, 1);
        struct moon_session_change change = change_of(fields, 1, NOW);
        struct moon_session_op *op = begin_call(&saving, 10000);
        enum moon_err saved = store->ops->save(store, op, &key, &change);
        op = begin_call(&removing, 10000);
        enum moon_err removed = store->ops->remove(store, op, &key);
        op = begin_call(&late, 10000);
        enum moon_err saved_late = store->ops->save(store, op, &key, &change);
        saved = end_call(&saving, saved);
        CHECK(saved == MOON_OK || saved == MOON_ENOT_FOUND);
        CHECK_ERR(end_call(&removing, removed), MOON_OK);
        saved_late = end_call(&late, saved_late);
        CHECK(saved_late == MOON_OK || saved_late == MOON_ENOT_FOUND);
        CHECK_ERR(load(&key, NOW, &record), MOON_ENOT_FOUND);
        CHECK_ERR(save(&key, &change, NULL), MOON_ENOT_FOUND);
    }
}

/* ---- several processes ---- */

enum { MERGES = 1000, COUNTERS = 8, COUNTS = 100, RACES = 30, SETTERS = 4 };

static int number_in(const struct moon_session_record *record,
                     const char *namez)
{
    struct moon_str value = value_of(record, namez);
    char text[16] = "";
    if (value.ptr == NULL || value.len >= sizeof(text))
        return -1;
    memcpy(text, value.ptr, value.len);
    return atoi(text);
}

/* Saves its field again and again; both fields are there each time. */
static void child_merge(const struct moon_session_key *key, int me, int rounds)
{
    const char *mine = me == 0 ? "first" : "second";
    const char *other = me == 0 ? "second" : "first";
    int last = 0;
    uint64_t last_version = 0;
    for (int i = 1; i <= rounds && !case_is_wrong(); i++) {
        struct moon_session_record *record;
        char text[16];
        uint64_t version = 0;
        (void)snprintf(text, sizeof(text), "%d", i);
        struct moon_session_field own = field(mine, text);
        struct moon_session_change change = change_of(&own, 1, NOW);
        CHECK_ERR(save(key, &change, &version), MOON_OK);
        CHECK(version > last_version);
        CHECK_ERR(load(key, NOW, &record), MOON_OK);
        CHECK(record != NULL && record->version >= version);
        CHECK(number_in(record, mine) == i);
        CHECK(number_in(record, other) >= last);
        last = number_in(record, other);
        last_version = version;
        free(record);
    }
}

void two_processes_merge(void)
{
    struct moon_session_key key;
    struct moon_session_record *record;
    struct moon_session_field fields[] = {field("first", "0"),
                                          field("second", "0")};
    random_key(&key);
    create_session(&key, fields, 2);
    pid_t pids[] = {start_child("merge", &key, 0, MERGES),
                    start_child("merge", &key, 1, MERGES)};
    wait_children(pids, 2);
    CHECK_ERR(load(&key, NOW, &record), MOON_OK);
    CHECK(number_in(record, "first") == MERGES);
    CHECK(number_in(record, "second") == MERGES);
    CHECK(record != NULL && record->version == 1 + 2 * MERGES);
    free(record);
    CHECK_ERR(remove_one(&key), MOON_OK);
}

/* Adds one, however often it takes. */
static void child_count(const struct moon_session_key *key, int me, int rounds)
{
    unsigned seed = (unsigned)me;
    for (int i = 0; i < rounds && !case_is_wrong();) {
        struct moon_session_record *record;
        CHECK_ERR(load(key, NOW, &record), MOON_OK);
        if (record == NULL)
            return;
        char text[16];
        (void)snprintf(text, sizeof(text), "%d", number_in(record, "n") + 1);
        struct moon_session_field own = field("n", text);
        struct moon_session_change change = change_of(&own, 1, NOW);
        change.if_version = record->version;
        free(record);
        enum moon_err err = save(key, &change, NULL);
        if (err == MOON_OK)
            i++;
        else if (err == MOON_EEXISTS)
            (void)usleep((useconds_t)(rand_r(&seed) % 2000));
        else
            CHECK_ERR(err, MOON_OK);
    }
}

void no_increment_is_lost(void)
{
    struct moon_session_key key;
    struct moon_session_record *record;
    struct moon_session_field fields[] = {field("n", "0")};
    pid_t pids[COUNTERS];
    random_key(&key);
    create_session(&key, fields, 1);
    for (int i = 0; i < COUNTERS; i++)
        pids[i] = start_child("count", &key, i, COUNTS);
    wait_children(pids, COUNTERS);
    CHECK_ERR(load(&key, NOW, &record), MOON_OK);
    CHECK(number_in(record, "n") == COUNTERS * COUNTS);
    free(record);
    CHECK_ERR(remove_one(&key), MOON_OK);
}

/* Saves until it is gone; never brings it back. */
static void child_save(const struct moon_session_key *key, int ms)
{
    uint64_t until_ms = moon_clock_ms() + (uint64_t)ms;
    struct moon_session_field own = field("a", "again");
    struct moon_session_change change = change_of(&own, 1, NOW);
    enum moon_err err = MOON_OK;
    while (err == MOON_OK && moon_clock_ms() < until_ms)
        err = save(key, &change, NULL);
    CHECK_ERR(err, MOON_ENOT_FOUND);
    for (int i = 0; i < 100; i++)
        CHECK_ERR(save(key, &change, NULL), MOON_ENOT_FOUND);
}

void a_removal_wins_over_other_processes(void)
{
    struct moon_session_key key;
    struct moon_session_record *record = NULL;
    struct moon_session_field fields[] = {field("a", "1")};
    pid_t pids[SETTERS];
    random_key(&key);
    create_session(&key, fields, 1);
    for (int i = 0; i < SETTERS; i++)
        pids[i] = start_child("save", &key, i, 20000);
    /* Once all are at it. */
    uint64_t until_ms = moon_clock_ms() + 20000;
    uint64_t version = 0;
    while (version < 500 && moon_clock_ms() < until_ms && !case_is_wrong()) {
        CHECK_ERR(load(&key, NOW, &record), MOON_OK);
        version = record == NULL ? 0 : record->version;
        free(record);
        (void)usleep(1000);
    }
    CHECK_ERR(remove_one(&key), MOON_OK);
    wait_children(pids, SETTERS);
    CHECK_ERR(load(&key, NOW, &record), MOON_ENOT_FOUND);
}

/* Whoever creates it first wins. */
static void child_create(const struct moon_session_key *key, int me)
{
    char text[16];
    (void)snprintf(text, sizeof(text), "%d", me);
    struct moon_session_field own = field("winner", text);
    struct moon_session_change change = change_of(&own, 1, NOW);
    change.create = true;
    enum moon_err err = save(key, &change, NULL);
    if (err != MOON_EEXISTS)
        CHECK_ERR(err, MOON_OK);
    struct moon_session_record *record;
    CHECK_ERR(load(key, NOW, &record), MOON_OK);
    CHECK((number_in(record, "winner") == me) == (err == MOON_OK));
    free(record);
}

void one_of_several_creates_it(void)
{
    struct moon_session_key key;
    struct moon_session_record *record;
    pid_t pids[COUNTERS];
    random_key(&key);
    for (int i = 0; i < COUNTERS; i++)
        pids[i] = start_child("create", &key, i, 0);
    wait_children(pids, COUNTERS);
    CHECK_ERR(load(&key, NOW, &record), MOON_OK);
    CHECK(record != NULL && record->version == 1);
    free(record);
    CHECK_ERR(remove_one(&key), MOON_OK);
}

bool run_child(const char *namez, const struct moon_session_key *key, int a,
               int b)
{
    if (strcmp(namez, "merge") == 0)
        child_merge(key, a, b);
    else if (strcmp(namez, "count") == 0)
        child_count(key, a, b);
    else if (strcmp(namez, "save") == 0)
        child_save(key, b);
    else if (strcmp(namez, "create") == 0)
        child_create(key, a);
    else
        return false;
    return true;
}
