/* Sessions as bytes: what is written is read again, whatever is merged into it;
 * what is damaged is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "state/session_record.h"

enum { NOW = 1000000, FIELDS = 40, ROUNDS = 3000 };

static struct moon_session_field field(const char *namez, const char *valuez)
{
    return (struct moon_session_field){
        moon_strz(namez), valuez == NULL ? MOON_STR_NONE : moon_strz(valuez)};
}

static struct moon_session_change change_of(
    const struct moon_session_field *fields, uint32_t count)
{
    return (struct moon_session_change){.now_ms = NOW,
                                        .idle_ms = 500,
                                        .expires_ms = MOON_SESSION_NEVER,
                                        .fields = fields,
                                        .field_count = count};
}

/* What the change makes of the record in `buf`, in place of it. */
static void apply(struct moon_buf *buf, const struct moon_session_change *given)
{
    struct moon_session_view before, after, again;
    struct moon_buf out = {0};
    bool anew = buf->len == 0;
    if (!anew)
        assert_int_equal(moon_session_record_look(moon_buf_str(buf), &before),
                         MOON_OK);
    struct moon_session_change *change = moon_session_change_copy(given);
    assert_non_null(change);
    moon_session_record_write(&out, anew ? NULL : &before, change, &after);
    assert_false(out.failed);
    assert_int_equal(moon_session_record_look(moon_buf_str(&out), &again),
                     MOON_OK);
    /* What it says of itself is what is read. */
    assert_int_equal(after.version, anew ? 1 : before.version + 1);
    assert_int_equal(again.version, after.version);
    assert_int_equal(again.created_ms, after.created_ms);
    assert_int_equal(again.seen_ms, after.seen_ms);
    assert_int_equal(again.idle_ms, after.idle_ms);
    assert_int_equal(again.expires_ms, after.expires_ms);
    assert_int_equal(again.field_count, after.field_count);
    assert_true(moon_str_eq(again.subject, after.subject));
    assert_true(moon_str_eq(again.fields, after.fields));
    free(change);
    moon_buf_deinit(buf);
    *buf = out;
}

static struct moon_session_record *read_record(const struct moon_buf *buf)
{
    struct moon_session_view view;
    assert_int_equal(moon_session_record_look(moon_buf_str(buf), &view),
                     MOON_OK);
    struct moon_session_record *record = moon_session_record_copy(&view);
    assert_non_null(record);
    return record;
}

static void fields_merge_by_name(void **state)
{
    (void)state;
    struct moon_buf buf = {0};
    struct moon_session_field first[] = {field("b", "1"), field("d", "2"),
                                         field("a", ""), field("none", NULL)};
    struct moon_session_change change = change_of(first, 4);
    apply(&buf, &change);
    struct moon_session_record *r = read_record(&buf);
    assert_int_equal(r->version, 1);
    assert_int_equal(r->created_ms, NOW);
    assert_int_equal(r->field_count, 3);
    assert_true(moon_str_eq(r->fields[0].name, MOON_STR("a")));
    assert_int_equal(r->fields[0].value.len, 0);
    assert_non_null(r->fields[0].value.ptr); /* NULL would remove it */
    assert_true(moon_str_eq(r->fields[2].name, MOON_STR("d")));
    free(r);

    /* Of two with one name the last counts; names are told apart by length. */
    struct moon_session_field second[] = {field("c", "x"), field("d", NULL),
                                          field("c", "y"), field("aa", "z"),
                                          field("b", "new")};
    change = change_of(second, 5);
    change.now_ms = NOW + 9;
    change.sets_subject = true;
    change.subject = MOON_STR("me\0too");
    apply(&buf, &change);
    r = read_record(&buf);
    assert_int_equal(r->version, 2);
    assert_int_equal(r->created_ms, NOW);
    assert_int_equal(r->seen_ms, NOW + 9);
    assert_true(moon_str_eq(r->subject, MOON_STR("me\0too")));
    assert_int_equal(r->field_count, 4);
    assert_true(moon_str_eq(r->fields[1].name, MOON_STR("aa")));
    assert_true(moon_str_eq(r->fields[2].value, MOON_STR("new")));
    assert_true(moon_str_eq(r->fields[3].value, MOON_STR("y")));
    free(r);

    change = change_of(first, 1);
    change.clear = true;
    apply(&buf, &change);
    r = read_record(&buf);
    assert_int_equal(r->field_count, 1);
    assert_true(moon_str_eq(r->subject, MOON_STR("me\0too"))); /* stays */
    free(r);
    moon_buf_deinit(&buf);
}

/* Against the simplest model: one value per name. */
static void any_changes_merge(void **state)
{
    (void)state;
    static char names[FIELDS][8];
    int model[FIELDS]; /* -1: not there */
    struct moon_buf buf = {0};
    unsigned seed = 1;
    for (int i = 0; i < FIELDS; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "%d", i * i);
        model[i] = -1;
    }
    for (int round = 0; round < ROUNDS; round++) {
        struct moon_session_field fields[FIELDS];
        static char values[FIELDS][16];
        uint32_t count = (uint32_t)rand_r(&seed) % FIELDS;
        bool clear = buf.len > 0 && rand_r(&seed) % 50 == 0;
        for (int i = 0; i < FIELDS && clear; i++)
            model[i] = -1;
        for (uint32_t i = 0; i < count; i++) {
            int which = rand_r(&seed) % FIELDS;
            model[which] = rand_r(&seed) % 3 == 0 ? -1 : round;
            (void)snprintf(values[i], sizeof(values[i]), "%d", round);
            fields[i] =
                field(names[which], model[which] < 0 ? NULL : values[i]);
        }
        struct moon_session_change change = change_of(fields, count);
        change.clear = clear;
        apply(&buf, &change);

        struct moon_session_record *r = read_record(&buf);
        uint32_t expected = 0;
        for (int i = 0; i < FIELDS; i++)
            expected += model[i] >= 0;
        assert_int_equal(r->field_count, expected);
        for (uint32_t i = 0; i < r->field_count; i++) {
            int at = 0;
            while (at < FIELDS &&
                   !moon_str_eq(moon_strz(names[at]), r->fields[i].name))
                at++;
            assert_true(at < FIELDS);
            char text[16];
            (void)snprintf(text, sizeof(text), "%d", model[at]);
            assert_true(moon_str_eq(r->fields[i].value, moon_strz(text)));
        }
        free(r);
    }
    moon_buf_deinit(&buf);
}

static struct moon_buf sample(void)
{
    struct moon_buf buf = {0};
    struct moon_session_field fields[] = {
        field("cart", "[1,2,3]"), field("user", "somebody"), field("x", "")};
    struct moon_session_change change = change_of(fields, 3);
    change.sets_subject = true;
    change.subject = MOON_STR("subject");
    apply(&buf, &change);
    return buf;
}

static void damage_is_recognised(void **state)
{
    (void)state;
    struct moon_buf buf = sample();
    struct moon_session_view view;
    /* Each bit, each length; on the heap, where a sanitizer sees the ends. */
    for (size_t bit = 0; bit < buf.len * 8; bit++) {
        char *copy = malloc(buf.len);
        assert_non_null(copy);
        memcpy(copy, buf.ptr, buf.len);
        copy[bit / 8] = (char)(copy[bit / 8] ^ (1 << bit % 8));
        assert_int_not_equal(
            moon_session_record_look(moon_str(copy, buf.len), &view), MOON_OK);
        free(copy);
    }
    for (size_t len = 0; len < buf.len; len++) {
        char *copy = malloc(len + 1);
        assert_non_null(copy);
        memcpy(copy, buf.ptr, len);
        assert_int_equal(moon_session_record_look(moon_str(copy, len), &view),
                         MOON_EPROTO);
        free(copy);
    }
    moon_buf_add_char(&buf, 'x');
    assert_int_equal(moon_session_record_look(moon_buf_str(&buf), &view),
                     MOON_EPROTO);
    moon_buf_deinit(&buf);
}

static void other_formats_are_told_apart(void **state)
{
    (void)state;
    struct moon_buf buf = sample();
    struct moon_session_view view;
    bool has_subject;
    assert_int_equal(
        moon_session_record_peek(moon_buf_str(&buf), &view, &has_subject),
        MOON_OK);
    assert_true(has_subject);
    assert_int_equal(view.seen_ms, NOW);
    buf.ptr[0] = 2;
    assert_int_equal(moon_session_record_look(moon_buf_str(&buf), &view),
                     MOON_EUNSUPPORTED);
    buf.ptr[0] = 0;
    assert_int_equal(moon_session_record_look(moon_buf_str(&buf), &view),
                     MOON_EPROTO);
    moon_buf_deinit(&buf);
}

static void a_touch_keeps_the_rest(void **state)
{
    (void)state;
    struct moon_buf buf = sample(), touched = {0};
    struct moon_session_view before, after;
    assert_int_equal(moon_session_record_look(moon_buf_str(&buf), &before),
                     MOON_OK);
    moon_session_record_write_seen(&touched, moon_buf_str(&buf), NOW + 77);
    assert_int_equal(moon_session_record_look(moon_buf_str(&touched), &after),
                     MOON_OK);
    assert_int_equal(after.seen_ms, NOW + 77);
    assert_int_equal(after.version, before.version);
    assert_int_equal(after.created_ms, before.created_ms);
    assert_true(moon_str_eq(after.fields, before.fields));
    moon_buf_deinit(&buf);
    moon_buf_deinit(&touched);
}

static void deadlines(void **state)
{
    (void)state;
    struct {
        int64_t seen, idle, expires, deadline;
    } cases[] = {
        {100, 50, MOON_SESSION_NEVER, 150},
        {100, 50, 120, 120},
        {100, MOON_SESSION_NEVER, 120, 120},
        {100, MOON_SESSION_NEVER, MOON_SESSION_NEVER, MOON_SESSION_NEVER},
        {100, MOON_SESSION_NEVER - 50, MOON_SESSION_NEVER, MOON_SESSION_NEVER},
        {-100, 50, MOON_SESSION_NEVER, -50},
        {100, 0, MOON_SESSION_NEVER, 100},
        {MOON_SESSION_NEVER, 50, MOON_SESSION_NEVER, MOON_SESSION_NEVER},
    };
    for (size_t i = 0; i < MOON_COUNT(cases); i++) {
        struct moon_session_view view = {.seen_ms = cases[i].seen,
                                         .idle_ms = cases[i].idle,
                                         .expires_ms = cases[i].expires};
        struct moon_session_record record = {.seen_ms = cases[i].seen,
                                             .idle_ms = cases[i].idle,
                                             .expires_ms = cases[i].expires};
        int64_t deadline = moon_session_view_deadline(&view);
        assert_int_equal(deadline, cases[i].deadline);
        assert_true(moon_session_view_is_over(&view, deadline));
        assert_false(moon_session_view_is_over(&view, deadline - 1));
        if (cases[i].seen >= 0 && cases[i].seen < 1000) {
            assert_true(moon_session_is_over(&record, deadline));
            assert_false(moon_session_is_over(&record, deadline - 1));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_merge_by_name),
        cmocka_unit_test(any_changes_merge),
        cmocka_unit_test(damage_is_recognised),
        cmocka_unit_test(other_formats_are_told_apart),
        cmocka_unit_test(a_touch_keeps_the_rest),
        cmocka_unit_test(deadlines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
