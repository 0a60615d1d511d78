/* Sessions as bytes: damage is recognised, and changes merge as they do in a
 * list that is kept by hand. */
#include "fuzz.h"

#include "state/session_record.h"

enum { NAMES = 6, CHANGES = 4 };

/* ---- bytes of a store ---- */

static void check_look(struct moon_str bytes)
{
    struct moon_session_view view, peeked;
    bool has_subject = false;
    struct moon_str copy = fuzz_copy(bytes);
    enum moon_err err = moon_session_record_look(copy, &view);
    enum moon_err peek = moon_session_record_peek(copy, &peeked, &has_subject);
    FUZZ_CHECK(err == MOON_OK || err == MOON_EPROTO ||
               err == MOON_EUNSUPPORTED);
    FUZZ_CHECK(err != MOON_OK || peek == MOON_OK);
    if (peek == MOON_OK)
        (void)moon_session_view_deadline(&peeked);
    if (err == MOON_OK) {
        FUZZ_CHECK(fuzz_within(view.subject, copy));
        FUZZ_CHECK(fuzz_within(view.fields, copy));
        FUZZ_CHECK(has_subject == (view.subject.len > 0));
        struct moon_session_record *record = moon_session_record_copy(&view);
        FUZZ_CHECK(record != NULL);
        FUZZ_CHECK(record->field_count == view.field_count);
        free(record);
    }
    fuzz_free(copy);
}

/* ---- changes ---- */

struct model {
    struct moon_str values[NAMES]; /* ptr NULL: there is none */
    struct moon_str subject;
    uint64_t version;
};

/* Names "", "a" ... so that order matters. */
static struct moon_str name_of(uint32_t i)
{
    static const char names[NAMES][4] = {"", "a", "aa", "ab", "b", "\xff"};
    return moon_strz(names[i]);
}

static uint32_t read_change(struct fuzz_bytes *bytes,
                            struct moon_session_field fields[NAMES],
                            struct moon_session_change *change,
                            struct model *model)
{
    uint32_t flags = fuzz_byte(bytes), count = fuzz_below(bytes, NAMES + 1);
    *change = (struct moon_session_change){
        .clear = (flags & 1) != 0,
        .sets_subject = (flags & 2) != 0,
        .now_ms = 1000 + (int64_t)flags,
        .idle_ms = (flags & 4) ? MOON_SESSION_NEVER : 50,
        .expires_ms = (flags & 8) ? MOON_SESSION_NEVER : 5000,
        .subject = (flags & 16) ? MOON_STR("somebody") : MOON_STR(""),
        .fields = fields,
        .field_count = count,
    };
    if (change->clear)
        memset(model->values, 0, sizeof(model->values));
    if (change->sets_subject)
        model->subject = change->subject;
    model->version++;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t which = fuzz_below(bytes, NAMES);
        bool removes = fuzz_byte(bytes) % 4 == 0;
        fields[i].name = name_of(which);
        fields[i].value = removes ? MOON_STR_NONE : fuzz_until(bytes, '\n');
        model->values[which] = fields[i].value;
    }
    return count;
}

static void check_model(struct moon_str bytes, const struct model *model)
{
    struct moon_session_view view;
    FUZZ_CHECK(moon_session_record_look(bytes, &view) == MOON_OK);
    FUZZ_CHECK(view.version == model->version);
    FUZZ_CHECK(moon_str_eq(view.subject, model->subject));
    struct moon_session_record *record = moon_session_record_copy(&view);
    FUZZ_CHECK(record != NULL);
    uint32_t nth = 0;
    for (uint32_t i = 0; i < NAMES; i++) {
        if (model->values[i].ptr == NULL)
            continue;
        FUZZ_CHECK(nth < record->field_count);
        FUZZ_CHECK(moon_str_eq(record->fields[nth].name, name_of(i)));
        FUZZ_CHECK(moon_str_eq(record->fields[nth].value, model->values[i]));
        nth++;
    }
    FUZZ_CHECK(nth == record->field_count);
    free(record);
}

/* One changed byte, anywhere, is never believed. */
static void check_damage(struct moon_str bytes, struct fuzz_bytes *choices)
{
    struct moon_session_view view;
    struct moon_str copy = fuzz_copy(bytes);
    size_t at =
        ((size_t)fuzz_byte(choices) << 8 | fuzz_byte(choices)) % copy.len;
    char *byte = (char *)(uintptr_t)&copy.ptr[at];
    *byte = (char)(*byte ^ (1 << fuzz_below(choices, 8)));
    FUZZ_CHECK(moon_session_record_look(copy, &view) != MOON_OK);
    fuzz_free(copy);
}

static void check_changes(struct fuzz_bytes *bytes)
{
    struct moon_buf now = {0};
    struct model model = {0};
    for (int i = 0; i < CHANGES && fuzz_left(bytes) > 0; i++) {
        struct moon_session_field fields[NAMES];
        struct moon_session_change change;
        struct moon_session_view before, after;
        struct moon_buf out = {0};
        bool anew = now.len == 0;
        (void)read_change(bytes, fields, &change, &model);
        FUZZ_CHECK(anew || moon_session_record_look(moon_buf_str(&now),
                                                    &before) == MOON_OK);
        struct moon_session_change *copy = moon_session_change_copy(&change);
        FUZZ_CHECK(copy != NULL);
        moon_session_record_write(&out, anew ? NULL : &before, copy, &after);
        free(copy);
        moon_buf_deinit(&now);
        now = out;
        check_model(moon_buf_str(&now), &model);
        check_damage(moon_buf_str(&now), bytes);
    }
    moon_buf_deinit(&now);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_bytes bytes = fuzz_bytes(data, size);
    check_look(fuzz_str(data, size));
    check_changes(&bytes);
    return 0;
}
