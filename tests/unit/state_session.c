/* A request's session over a store in memory that answers at once or later, and
 * fails when told to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <sodium.h>

#include "base/clock.h"
#include "state/session.h"

/* ---- the store: a few records, each of a few fields ---- */

enum { RECORDS = 8, FIELDS = 8, TEXT = 64 };

struct kept {
    bool used;
    struct moon_session_key key;
    uint64_t version;
    int64_t idle_ms, expires_ms, seen_ms;
    uint32_t count;
    char names[FIELDS][TEXT], values[FIELDS][TEXT], subject[TEXT];
};

struct fake {
    struct moon_session_store store;
    struct kept kept[RECORDS];
    bool later; /* answer from deliver() */
    enum moon_err fail;
    struct moon_session_op *waiting;
    int loads, saves, moves, removes, cancels;
};

static struct fake fake;

static enum moon_err answer(struct moon_session_op *op, enum moon_err err)
{
    op->err = fake.fail != MOON_OK ? fake.fail : err;
    if (!fake.later)
        return op->err;
    fake.waiting = op;
    return MOON_EAGAIN;
}

static void deliver(void)
{
    struct moon_session_op *op = fake.waiting;
    fake.waiting = NULL;
    assert_non_null(op);
    op->done(op);
}

static struct kept *find(const struct moon_session_key *key)
{
    for (int i = 0; i < RECORDS; i++) {
        if (fake.kept[i].used &&
            memcmp(&fake.kept[i].key, key, sizeof(*key)) == 0)
            return &fake.kept[i];
    }
    return NULL;
}

static int count_kept(void)
{
    int count = 0;
    for (int i = 0; i < RECORDS; i++)
        count += fake.kept[i].used;
    return count;
}

static enum moon_err fake_load(struct moon_session_store *store,
                               struct moon_session_op *op,
                               const struct moon_session_key *key,
                               int64_t now_ms)
{
    (void)store;
    (void)now_ms;
    fake.loads++;
    struct kept *kept = find(key);
    if (kept == NULL || fake.fail != MOON_OK)
        return answer(op, MOON_ENOT_FOUND);
    struct moon_session_record *r =
        calloc(1, sizeof(*r) + FIELDS * sizeof(r->fields[0]));
    assert_non_null(r);
    r->version = kept->version;
    r->idle_ms = kept->idle_ms;
    r->expires_ms = kept->expires_ms;
    r->seen_ms = kept->seen_ms;
    r->subject = moon_strz(kept->subject);
    r->field_count = kept->count;
    for (uint32_t i = 0; i < kept->count; i++)
        r->fields[i] = (struct moon_session_field){moon_strz(kept->names[i]),
                                                   moon_strz(kept->values[i])};
    op->record = r;
    return answer(op, MOON_OK);
}

static void put(char *to, struct moon_str text)
{
    assert_true(text.len < TEXT);
    memcpy(to, text.ptr, text.len);
    to[text.len] = '\0';
}

static void apply(struct kept *kept, const struct moon_session_change *change)
{
    if (change->clear)
        kept->count = 0;
    for (uint32_t i = 0; i < change->field_count; i++) {
        const struct moon_session_field *field = &change->fields[i];
        uint32_t at = 0;
        while (at < kept->count &&
               !moon_str_eq(moon_strz(kept->names[at]), field->name))
            at++;
        if (field->value.ptr == NULL) {
            if (at < kept->count) {
                kept->count--;
                memmove(kept->names[at], kept->names[kept->count], TEXT);
                memmove(kept->values[at], kept->values[kept->count], TEXT);
            }
            continue;
        }
        if (at == kept->count)
            kept->count++;
        put(kept->names[at], field->name);
        put(kept->values[at], field->value);
    }
    if (change->sets_subject)
        put(kept->subject, change->subject);
    kept->version++;
    kept->idle_ms = change->idle_ms;
    kept->expires_ms = change->expires_ms;
    kept->seen_ms = change->now_ms;
}

static enum moon_err fake_save(struct moon_session_store *store,
                               struct moon_session_op *op,
                               const struct moon_session_key *key,
                               const struct moon_session_change *change)
{
    (void)store;
    fake.saves++;
    struct kept *kept = find(key);
    if (fake.fail != MOON_OK)
        return answer(op, fake.fail);
    if (change->create) {
        assert_null(kept);
        for (kept = fake.kept; kept->used; kept++)
            continue;
        *kept = (struct kept){.used = true, .key = *key};
    }
    if (kept == NULL)
        return answer(op, MOON_ENOT_FOUND);
    if (change->if_version != 0 && change->if_version != kept->version)
        return answer(op, MOON_EEXISTS);
    apply(kept, change);
    op->version = kept->version;
    return answer(op, MOON_OK);
}

static enum moon_err fake_move(struct moon_session_store *store,
                               struct moon_session_op *op,
                               const struct moon_session_key *from,
                               const struct moon_session_key *to,
                               const struct moon_session_change *change)
{
    (void)store;
    fake.moves++;
    struct kept *kept = find(from);
    if (kept == NULL || fake.fail != MOON_OK)
        return answer(op, MOON_ENOT_FOUND);
    kept->key = *to;
    apply(kept, change);
    return answer(op, MOON_OK);
}

static enum moon_err fake_remove(struct moon_session_store *store,
                                 struct moon_session_op *op,
                                 const struct moon_session_key *key)
{
    (void)store;
    fake.removes++;
    struct kept *kept = find(key);
    if (kept != NULL && fake.fail == MOON_OK)
        kept->used = false;
    return answer(op, kept != NULL ? MOON_OK : MOON_ENOT_FOUND);
}

static void fake_cancel(struct moon_session_store *store,
                        struct moon_session_op *op)
{
    (void)store;
    assert_ptr_equal(op, fake.waiting);
    free(op->record);
    fake.waiting = NULL;
    fake.cancels++;
}

static struct moon_session_store_ops ops = {
    .namez = "fake",
    .load = fake_load,
    .save = fake_save,
    .move = fake_move,
    .remove = fake_remove,
    .cancel = fake_cancel,
};

/* ---- one request after the other, as one browser ---- */

static struct moon_arena arena;
static struct moon_session session;
static char cookie[MOON_SESSION_ID + 1];
static const struct moon_session_settings settings = {
    .idle_ms = 1800000, .absolute_ms = 43200000, .budget_ms = 250};
static int done_count;
static enum moon_err done_err;

static void on_done(void *ctx, enum moon_err err)
{
    (void)ctx;
    done_count++;
    done_err = err;
}

static enum moon_err settle(enum moon_err err)
{
    int before = done_count;
    if (err != MOON_EAGAIN)
        return err;
    while (done_count == before)
        deliver();
    return done_err;
}

static void begin(void)
{
    moon_arena_init(&arena, NULL, 0);
    moon_session_init(&session, &fake.store, &settings, &arena,
                      moon_strz(cookie));
    assert_int_equal(settle(moon_session_load(&session, on_done, NULL)),
                     MOON_OK);
}

/* Ends the request and takes the cookie as a browser would. */
static enum moon_err end(void)
{
    enum moon_err err = settle(moon_session_commit(&session, on_done, NULL));
    if (session.cookie == MOON_SESSION_COOKIE_SET)
        memcpy(cookie, session.id, MOON_SESSION_ID);
    else if (session.cookie == MOON_SESSION_COOKIE_END)
        cookie[0] = '\0';
    moon_session_deinit(&session);
    moon_arena_reset(&arena);
    return err;
}

static void set(const char *namez, const char *valuez)
{
    struct moon_str value = valuez == NULL ? MOON_STR_NONE : moon_strz(valuez);
    assert_int_equal(moon_session_set(&session, moon_strz(namez), value),
                     MOON_OK);
}

static void expect(const char *namez, const char *valuez)
{
    struct moon_str value;
    bool found = moon_session_get(&session, moon_strz(namez), &value);
    assert_int_equal(found, valuez != NULL);
    if (found)
        assert_true(moon_str_eq(value, moon_strz(valuez)));
}

static int fresh(void **state)
{
    fake = (struct fake){.store.ops = &ops, .later = *state != NULL};
    ops.wants_same_first_byte = false;
    memset(cookie, 0, sizeof(cookie));
    return 0;
}

static void nothing_is_stored_until_something_is_set(void **state)
{
    (void)state;
    begin();
    assert_int_equal(fake.loads, 0);
    expect("a", NULL);
    set("a", NULL);
    assert_false(moon_session_exists(&session));
    assert_int_equal(end(), MOON_OK);
    assert_int_equal(fake.saves, 0);
    assert_int_equal(cookie[0], '\0');
    begin();
    set("a", "1");
    expect("a", "1");
    assert_true(moon_session_exists(&session));
    assert_int_equal(end(), MOON_OK);
    assert_int_equal(strlen(cookie), MOON_SESSION_ID);
    assert_int_equal(count_kept(), 1);
    begin();
    expect("a", "1");
    assert_int_equal(end(), MOON_OK);
    assert_int_equal(fake.saves, 1);
    assert_int_equal(session.cookie, MOON_SESSION_COOKIE_NONE);
}

static void only_what_changed_is_saved(void **state)
{
    (void)state;
    begin();
    set("a", "1");
    set("b", "2");
    set("c", "3");
    (void)end();
    begin();
    set("a", "1"); /* as it is */
    set("x", NULL);
    assert_false(moon_session_is_dirty(&session));
    set("b", "new");
    set("c", NULL);
    expect("b", "new");
    expect("c", NULL);
    assert_int_equal(session.change_count, 2);
    struct moon_session_field field;
    assert_true(moon_session_at(&session, 0, &field));
    assert_true(moon_session_at(&session, 1, &field));
    assert_false(moon_session_at(&session, 2, &field));
    /* Back to what is stored: nothing to save for it. */
    set("b", "2");
    assert_int_equal(session.change_count, 1);
    (void)end();
    begin();
    expect("a", "1");
    expect("b", "2");
    expect("c", NULL);
    moon_session_clear(&session);
    expect("a", NULL);
    set("d", "4");
    (void)end();
    begin();
    expect("a", NULL);
    expect("d", "4");
    (void)end();
}

static void unknown_and_malformed_ids_are_not_adopted(void **state)
{
    (void)state;
    static const char *const ids[] = {
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", /* well-formed */
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB", /* bits left over */
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",  "AAAA",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA+/A",
    };
    for (size_t i = 0; i < MOON_COUNT(ids); i++) {
        (void)snprintf(cookie, sizeof(cookie), "%s", ids[i]);
        begin();
        assert_int_equal(fake.loads, 1); /* of the first */
        set("a", "1");
        (void)end();
        assert_string_not_equal(cookie, ids[i]);
        struct moon_session_key key;
        assert_true(moon_session_key_of(moon_strz(cookie), &key));
        assert_non_null(find(&key));
    }
}

/* Every byte in every place: only what libsodium decodes is an id, and of that
 * only ASCII, for it takes some bytes beyond. */
static void ids_are_base64url_of_256_bits(void **state)
{
    (void)state;
    for (size_t at = 0; at < MOON_SESSION_ID; at++) {
        for (int c = 0; c < 256; c++) {
            char id[] = "qZ09-_aAzZ5jI7sP2mB8xKc3VdLr1QnWt6HyGuEoMkE";
            unsigned char bytes[32];
            struct moon_session_key key;
            size_t len = 0;
            id[at] = (char)c;
            bool good =
                sodium_base642bin(
                    bytes, sizeof(bytes), id, MOON_SESSION_ID, NULL, &len, NULL,
                    sodium_base64_VARIANT_URLSAFE_NO_PADDING) == 0 &&
                len == sizeof(bytes) && c < 128;
            struct moon_str text = moon_str(id, MOON_SESSION_ID);
            assert_int_equal(moon_session_key_of(text, &key), good);
        }
    }
}

static void a_renewed_session_has_another_id(void **state)
{
    (void)state;
    for (int same = 0; same < 2; same++) {
        ops.wants_same_first_byte = same == 1;
        cookie[0] = '\0';
        begin();
        set("a", "1");
        (void)end();
        struct moon_session_key old, new;
        char old_id[sizeof(cookie)];
        strcpy(old_id, cookie);
        begin();
        moon_session_renew(&session);
        set("b", "2");
        (void)end();
        assert_string_not_equal(old_id, cookie);
        assert_true(moon_session_key_of(moon_strz(old_id), &old));
        assert_true(moon_session_key_of(moon_strz(cookie), &new));
        assert_null(find(&old));
        assert_true(!same || old.bytes[0] == new.bytes[0]);
        begin();
        expect("a", "1");
        expect("b", "2");
        (void)end();
    }
}

static void a_destroyed_session_is_gone(void **state)
{
    (void)state;
    begin();
    set("a", "1");
    (void)end();
    char old_id[sizeof(cookie)];
    strcpy(old_id, cookie);
    begin();
    moon_session_destroy(&session);
    expect("a", NULL);
    assert_false(moon_session_exists(&session));
    assert_int_equal(end(), MOON_OK);
    assert_int_equal(cookie[0], '\0');
    assert_int_equal(count_kept(), 0);
    /* What is set after it begins a new one. */
    begin();
    set("a", "1");
    (void)end();
    strcpy(old_id, cookie);
    begin();
    moon_session_destroy(&session);
    set("b", "2");
    assert_int_equal(end(), MOON_OK);
    assert_string_not_equal(old_id, cookie);
    assert_int_equal(count_kept(), 1);
    begin();
    expect("a", NULL);
    expect("b", "2");
    (void)end();
}

/* Logout while another request runs: that one saves nothing, brings nothing
 * back, and leaves the cookie alone, which may be a new one by now. */
static void what_is_gone_stays_gone(void **state)
{
    (void)state;
    begin();
    set("a", "1");
    (void)end();
    begin();
    fake.kept[0].used = false;
    set("b", "2");
    assert_int_equal(end(), MOON_ENOT_FOUND);
    assert_int_equal(session.cookie, MOON_SESSION_COOKIE_NONE);
    assert_int_equal(count_kept(), 0);
}

static void a_failing_store_is_no_missing_session(void **state)
{
    (void)state;
    begin();
    set("a", "1");
    (void)end();
    fake.fail = MOON_ETIMEOUT;
    moon_arena_init(&arena, NULL, 0);
    moon_session_init(&session, &fake.store, &settings, &arena,
                      moon_strz(cookie));
    assert_int_equal(settle(moon_session_load(&session, on_done, NULL)),
                     MOON_ETIMEOUT);
    assert_false(session.loaded);
    assert_true(session.has_id);
    fake.fail = MOON_OK;
    assert_int_equal(settle(moon_session_load(&session, on_done, NULL)),
                     MOON_OK);
    expect("a", "1");
    set("a", "2");
    fake.fail = MOON_ECLOSED;
    assert_int_equal(end(), MOON_ECLOSED);
    assert_int_equal(session.cookie, MOON_SESSION_COOKIE_NONE);
    fake.fail = MOON_OK;
    begin();
    expect("a", "1");
    (void)end();
}

static void compare_and_save_sees_the_others(void **state)
{
    (void)state;
    struct moon_session_field one = {MOON_STR("n"), MOON_STR("1")};
    begin();
    set("a", "1");
    (void)end();
    begin();
    assert_int_equal(
        settle(moon_session_compare_and_save(&session, &one, 1, on_done, NULL)),
        MOON_OK);
    assert_int_equal(settle(moon_session_reload(&session, on_done, NULL)),
                     MOON_OK);
    expect("n", "1");
    fake.kept[0].version++; /* somebody else */
    set("mine", "kept");
    assert_int_equal(
        settle(moon_session_compare_and_save(&session, &one, 1, on_done, NULL)),
        MOON_EEXISTS);
    assert_int_equal(settle(moon_session_reload(&session, on_done, NULL)),
                     MOON_OK);
    assert_int_equal(
        settle(moon_session_compare_and_save(&session, &one, 1, on_done, NULL)),
        MOON_OK);
    (void)end();
    begin();
    expect("mine", "kept");
    (void)end();
    /* One that does not exist is made. */
    cookie[0] = '\0';
    begin();
    assert_int_equal(
        settle(moon_session_compare_and_save(&session, &one, 1, on_done, NULL)),
        MOON_OK);
    assert_int_equal(session.cookie, MOON_SESSION_COOKIE_SET);
    (void)end();
    begin();
    expect("n", "1");
    (void)end();
}

static void a_remembered_session_keeps_its_cookie(void **state)
{
    (void)state;
    begin();
    set("a", "1");
    moon_session_remember(&session, 86400000);
    (void)end();
    assert_int_equal(session.keep_s, 86400);
    assert_true(fake.kept[0].idle_ms == MOON_SESSION_NEVER);
    begin();
    assert_false(moon_session_wants_touch(&session));
    moon_session_renew(&session);
    (void)end();
    assert_int_equal(session.cookie, MOON_SESSION_COOKIE_SET);
    assert_true(session.keep_s > 86300 && session.keep_s <= 86400);
}

static void touches_are_rare(void **state)
{
    (void)state;
    begin();
    set("a", "1");
    (void)end();
    begin();
    assert_false(moon_session_wants_touch(&session));
    (void)end();
    fake.kept[0].seen_ms -= 61000;
    begin();
    assert_true(moon_session_wants_touch(&session));
    set("a", "2");
    assert_false(moon_session_wants_touch(&session)); /* the save tells */
    (void)end();
}

static void what_is_too_much_is_refused(void **state)
{
    (void)state;
    static char big[MOON_SESSION_BYTES_MAX];
    begin();
    assert_int_equal(
        moon_session_set(&session, MOON_STR("a"), moon_str(big, sizeof(big))),
        MOON_EFULL);
    for (int i = 0; i < MOON_SESSION_FIELDS_MAX; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "f%d", i);
        set(name, "1");
    }
    assert_int_equal(moon_session_set(&session, MOON_STR("x"), MOON_STR("1")),
                     MOON_EFULL);
    set("f7", "2");
    moon_session_deinit(&session);
    moon_arena_reset(&arena);
}

static void a_request_may_end_at_any_time(void **state)
{
    (void)state;
    begin();
    set("a", "1");
    (void)end();
    fake.later = true;
    for (int when = 0; when < 2; when++) {
        moon_arena_init(&arena, NULL, 0);
        moon_session_init(&session, &fake.store, &settings, &arena,
                          moon_strz(cookie));
        assert_int_equal(moon_session_load(&session, on_done, NULL),
                         MOON_EAGAIN);
        if (when == 1) {
            deliver();
            set("a", "2");
            assert_int_equal(moon_session_commit(&session, on_done, NULL),
                             MOON_EAGAIN);
        }
        moon_session_deinit(&session);
        moon_arena_reset(&arena);
        assert_int_equal(fake.cancels, when + 1);
    }
}

#define BOTH(name)                                 \
    {#name, name, fresh, NULL, NULL},              \
    {                                              \
#name " (later)", name, fresh, NULL, &fake \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(nothing_is_stored_until_something_is_set),
        BOTH(only_what_changed_is_saved),
        BOTH(unknown_and_malformed_ids_are_not_adopted),
        cmocka_unit_test(ids_are_base64url_of_256_bits),
        BOTH(a_renewed_session_has_another_id),
        BOTH(a_destroyed_session_is_gone),
        BOTH(what_is_gone_stays_gone),
        BOTH(a_failing_store_is_no_missing_session),
        BOTH(compare_and_save_sees_the_others),
        BOTH(a_remembered_session_keeps_its_cookie),
        BOTH(touches_are_rare),
        BOTH(what_is_too_much_is_refused),
        {"a_request_may_end_at_any_time", a_request_may_end_at_any_time, fresh,
         NULL, NULL},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
