/* One session: its fields, its version, its life. */
#include "session_cases.h"

#include <stdio.h>
#include <stdlib.h>

enum { MIB = 1024 * 1024 };

/* ---- one session ---- */

void create_session(const struct moon_session_key *key,
                    const struct moon_session_field *fields, uint32_t count)
{
    struct moon_session_change change = change_of(fields, count, NOW);
    change.create = true;
    CHECK_ERR(save(key, &change, NULL), MOON_OK);
}

void create_and_load(void)
{
    struct moon_session_key key;
    struct moon_session_record *record;
    uint64_t version = 0;
    random_key(&key);
    CHECK_ERR(load(&key, NOW, &record), MOON_ENOT_FOUND);
    struct moon_session_field fields[] = {field("a", "1"), field("b", "two")};
    struct moon_session_change change = change_of(fields, 2, NOW);
    change.create = true;
    change.expires_ms = NOW + 12 * HOUR_MS;
    CHECK_ERR(save(&key, &change, &version), MOON_OK);
    CHECK(version == 1);
    CHECK_ERR(load(&key, NOW, &record), MOON_OK);
    if (record == NULL)
        return;
    CHECK(record->version == 1);
    CHECK(record->created_ms == NOW && record->seen_ms == NOW);
    CHECK(record->idle_ms == HOUR_MS);
    CHECK(record->expires_ms == NOW + 12 * HOUR_MS);
    CHECK(record->subject.len == 0);
    CHECK(record->field_count == 2);
    CHECK(moon_str_eq(value_of(record, "a"), MOON_STR("1")));
    CHECK(moon_str_eq(value_of(record, "b"), MOON_STR("two")));
    free(record);
    CHECK_ERR(save(&key, &change, &version), MOON_EEXISTS);
    CHECK_ERR(remove_one(&key), MOON_OK);
}

void saves_merge(void)
{
    struct moon_session_key key;
    struct moon_session_record *record;
    uint64_t version = 0;
    random_key(&key);
    struct moon_session_field fields[] = {field("a", "1"), field("b", "2"),
                                          field("c", "3")};
    create_session(&key, fields, 3);
    /* Replaced, removed, left alone, added; and what is not there, removed. */
    struct moon_session_field more[] = {field("d", "4"), field("b", NULL),
                                        field("a", "other"),
                                        field("none", NULL)};
    struct moon_session_change change = change_of(more, 4, NOW + 1000);
    CHECK_ERR(save(&key, &change, &version), MOON_OK);
    CHECK(version == 2);
    CHECK_ERR(load(&key, NOW + 1000, &record), MOON_OK);
    if (record == NULL)
        return;
    CHECK(record->version == 2 && record->field_count == 3);
    CHECK(record->created_ms == NOW && record->seen_ms == NOW + 1000);
    CHECK(moon_str_eq(value_of(record, "a"), MOON_STR("other")));
    CHECK(value_of(record, "b").ptr == NULL);
    CHECK(moon_str_eq(value_of(record, "c"), MOON_STR("3")));
    CHECK(moon_str_eq(value_of(record, "d"), MOON_STR("4")));
    free(record);
    CHECK_ERR(remove_one(&key), MOON_OK);
}

void clear_removes_the_rest(void)
{
    struct moon_session_key key;
    struct moon_session_record *record;
    random_key(&key);
    struct moon_session_field fields[] = {field("a", "1"), field("b", "2")};
    create_session(&key, fields, 2);
    struct moon_session_field only[] = {field("c", "3")};
    struct moon_session_change change = change_of(only, 1, NOW);
    change.clear = true;
    CHECK_ERR(save(&key, &change, NULL), MOON_OK);
    CHECK_ERR(load(&key, NOW, &record), MOON_OK);
    CHECK(record != NULL && record->field_count == 1);
    CHECK(moon_str_eq(value_of(record, "c"), MOON_STR("3")));
    free(record);
    change = change_of(NULL, 0, NOW);
    change.clear = true;
    CHECK_ERR(save(&key, &change, NULL), MOON_OK);
    CHECK_ERR(load(&key, NOW, &record), MOON_OK); /* empty, but there */
    CHECK(record != NULL && record->field_count == 0);
    free(record);
    CHECK_ERR(remove_one(&key), MOON_OK);
}

void a_version_can_be_asked_for(void)
{
    struct moon_session_key key, other;
    uint64_t version = 0;
    random_key(&key);
    random_key_like(&other, &key);
    struct moon_session_field fields[] = {field("a", "1")};
    create_session(&key, fields, 1);
    struct moon_session_change change = change_of(fields, 1, NOW);
    change.if_version = 2;
    CHECK_ERR(save(&key, &change, NULL), MOON_EEXISTS);
    CHECK_ERR(move(&key, &other, &change), MOON_EEXISTS);
    change.if_version = 1;
    CHECK_ERR(save(&key, &change, &version), MOON_OK);
    CHECK(version == 2);
    CHECK_ERR(save(&key, &change, NULL), MOON_EEXISTS);
    change.if_version = 2;
    CHECK_ERR(move(&key, &other, &change), MOON_OK);
    CHECK_ERR(remove_one(&other), MOON_OK);
}

void what_is_gone_stays_gone(void)
{
    struct moon_session_key key, other;
    struct moon_session_record *record;
    random_key(&key);
    random_key_like(&other, &key);
    struct moon_session_field fields[] = {field("a", "1")};
    struct moon_session_change change = change_of(fields, 1, NOW);
    CHECK_ERR(save(&key, &change, NULL), MOON_ENOT_FOUND);
    CHECK_ERR(touch(&key, NOW), MOON_ENOT_FOUND);
    CHECK_ERR(remove_one(&key), MOON_ENOT_FOUND);
    CHECK_ERR(move(&key, &other, &change), MOON_ENOT_FOUND);
    create_session(&key, fields, 1);
    CHECK_ERR(remove_one(&key), MOON_OK);
    CHECK_ERR(load(&key, NOW, &record), MOON_ENOT_FOUND);
    CHECK_ERR(save(&key, &change, NULL), MOON_ENOT_FOUND);
    change.if_version = 1;
    CHECK_ERR(save(&key, &change, NULL), MOON_ENOT_FOUND);
    change.if_version = 0;
    CHECK_ERR(touch(&key, NOW + 1000), MOON_ENOT_FOUND);
    CHECK_ERR(remove_one(&key), MOON_ENOT_FOUND);
    CHECK_ERR(move(&key, &other, &change), MOON_ENOT_FOUND);
    CHECK_ERR(load(&key, NOW, &record), MOON_ENOT_FOUND);
    CHECK_ERR(load(&other, NOW, &record), MOON_ENOT_FOUND);
}

void a_session_moves(void)
{
    struct moon_session_key from, to;
    struct moon_session_record *record;
    random_key(&from);
    random_key_like(&to, &from);
    struct moon_session_field fields[] = {field("a", "1"), field("b", "2")};
    create_session(&from, fields, 2);
    struct moon_session_field more[] = {field("b", "new"), field("c", "3")};
    struct moon_session_change change = change_of(more, 2, NOW + 5000);
    CHECK_ERR(move(&from, &to, &change), MOON_OK);
    CHECK_ERR(load(&from, NOW + 5000, &record), MOON_ENOT_FOUND);
    CHECK_ERR(save(&from, &change, NULL), MOON_ENOT_FOUND);
    CHECK_ERR(load(&to, NOW + 5000, &record), MOON_OK);
    if (record != NULL) {
        CHECK(record->created_ms == NOW && record->seen_ms == NOW + 5000);
        CHECK(record->version == 2 && record->field_count == 3);
        CHECK(moon_str_eq(value_of(record, "a"), MOON_STR("1")));
        CHECK(moon_str_eq(value_of(record, "b"), MOON_STR("new")));
        CHECK(moon_str_eq(value_of(record, "c"), MOON_STR("3")));
    }
    free(record);
    /* Onto one that is there already: nothing happens to either. */
    create_session(&from, fields, 2);
    CHECK_ERR(move(&from, &to, &change), MOON_EEXISTS);
    CHECK_ERR(load(&from, NOW + 5000, &record), MOON_OK);
    CHECK(record != NULL && record->field_count == 2);
    free(record);
    CHECK_ERR(remove_one(&from), MOON_OK);
    CHECK_ERR(remove_one(&to), MOON_OK);
}

/* ---- time ---- */

void idle_sessions_end(void)
{
    struct moon_session_key key;
    struct moon_session_record *record;
    random_key(&key);
    struct moon_session_field fields[] = {field("a", "1")};
    create_session(&key, fields, 1);
    CHECK_ERR(load(&key, NOW + HOUR_MS - 1, &record), MOON_OK);
    free(record);
    CHECK_ERR(load(&key, NOW + HOUR_MS, &record), MOON_ENOT_FOUND);
    /* Swept or not. */
    struct moon_session_change change = change_of(fields, 1, NOW + HOUR_MS);
    CHECK_ERR(save(&key, &change, NULL), MOON_ENOT_FOUND);
    CHECK_ERR(touch(&key, NOW + HOUR_MS), MOON_ENOT_FOUND);
    /* Its key is free. */
    change.create = true;
    CHECK_ERR(save(&key, &change, NULL), MOON_OK);
    CHECK_ERR(load(&key, NOW + HOUR_MS, &record), MOON_OK);
    CHECK(record != NULL && record->version == 1);
    CHECK(record != NULL && record->created_ms == NOW + HOUR_MS);
    free(record);
    CHECK_ERR(remove_one(&key), MOON_OK);
}

void sessions_end_whatever_happens(void)
{
    struct moon_session_key key;
    struct moon_session_record *record;
    random_key(&key);
    struct moon_session_field fields[] = {field("a", "1")};
    struct moon_session_change change = change_of(fields, 1, NOW);
    change.create = true;
    change.expires_ms = NOW + 2 * HOUR_MS;
    CHECK_ERR(save(&key, &change, NULL), MOON_OK);
    for (int64_t at = NOW; at < NOW + 2 * HOUR_MS; at += HOUR_MS / 4)
        CHECK_ERR(touch(&key, at), MOON_OK);
    CHECK_ERR(load(&key, NOW + 2 * HOUR_MS - 1, &record), MOON_OK);
    free(record);
    CHECK_ERR(load(&key, NOW + 2 * HOUR_MS, &record), MOON_ENOT_FOUND);
    CHECK_ERR(touch(&key, NOW + 2 * HOUR_MS), MOON_ENOT_FOUND);
}

void some_sessions_never_end(void)
{
    struct moon_session_key key;
    struct moon_session_record *record;
    random_key(&key);
    struct moon_session_field fields[] = {field("a", "1")};
    struct moon_session_change change = change_of(fields, 1, NOW);
    change.create = true;
    change.idle_ms = MOON_SESSION_NEVER;
    CHECK_ERR(save(&key, &change, NULL), MOON_OK);
    CHECK_ERR(load(&key, NOW + 100000ll * HOUR_MS, &record), MOON_OK);
    CHECK(record != NULL && record->idle_ms == MOON_SESSION_NEVER);
    CHECK(record != NULL && record->expires_ms == MOON_SESSION_NEVER);
    free(record);
    /* A save can change that. */
    change = change_of(NULL, 0, NOW);
    CHECK_ERR(save(&key, &change, NULL), MOON_OK);
    CHECK_ERR(load(&key, NOW + HOUR_MS, &record), MOON_ENOT_FOUND);
}

void a_touch_never_shortens(void)
{
    struct moon_session_key key;
    struct moon_session_record *record;
    random_key(&key);
    struct moon_session_field fields[] = {field("a", "1")};
    create_session(&key, fields, 1);
    CHECK_ERR(touch(&key, NOW + 10000), MOON_OK);
    CHECK_ERR(touch(&key, NOW + 5000), MOON_OK);
    CHECK_ERR(touch(&key, NOW - 5000), MOON_OK);
    CHECK_ERR(load(&key, NOW + HOUR_MS + 9999, &record), MOON_OK);
    CHECK(record != NULL && record->seen_ms == NOW + 10000);
    CHECK(record != NULL && record->version == 1); /* it is no save */
    CHECK(moon_str_eq(value_of(record, "a"), MOON_STR("1")));
    free(record);
    CHECK_ERR(load(&key, NOW + HOUR_MS + 10000, &record), MOON_ENOT_FOUND);
}

/* ---- sizes and bytes ---- */

void values_are_bytes(void)
{
    struct moon_session_key key;
    struct moon_session_record *record;
    char all[256];
    random_key(&key);
    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    struct moon_session_field fields[] = {
        {moon_str(all, 256), moon_str(all, 256)},
        {MOON_STR("empty"), MOON_STR("")},
        {MOON_STR("a\0b"), MOON_STR("with NUL")},
        {MOON_STR("a"), MOON_STR("\0")},
        {MOON_STR("\r\n$5"), MOON_STR("*1\r\n$4\r\nQUIT\r\n")},
        {MOON_STR("\xff\xfe"), MOON_STR("END\r\n")}};
    uint32_t count = MOON_COUNT(fields);
    create_session(&key, fields, count);
    CHECK_ERR(load(&key, NOW, &record), MOON_OK);
    CHECK(record != NULL && record->field_count == count);
    for (uint32_t i = 0; record != NULL && i < count; i++) {
        uint32_t found = 0;
        for (uint32_t j = 0; j < record->field_count; j++)
            found += moon_str_eq(record->fields[j].name, fields[i].name) &&
                     moon_str_eq(record->fields[j].value, fields[i].value);
        CHECK(found == 1);
    }
    free(record);
    CHECK_ERR(remove_one(&key), MOON_OK);
}

void big_values(void)
{
    struct moon_session_key key;
    struct moon_session_record *record;
    char *value = malloc(MIB);
    if (value == NULL)
        return;
    for (size_t i = 0; i < MIB; i++)
        value[i] = (char)(i * 31 + (i >> 8));
    random_key(&key);
    struct moon_session_field fields[] = {
        {MOON_STR("big"), moon_str(value, MIB)}, field("small", "1")};
    create_session(&key, fields, 2);
    struct moon_session_field change_field = field("small", "2");
    struct moon_session_change change = change_of(&change_field, 1, NOW);
    CHECK_ERR(save(&key, &change, NULL), MOON_OK);
    CHECK_ERR(load(&key, NOW, &record), MOON_OK);
    CHECK(moon_str_eq(value_of(record, "big"), moon_str(value, MIB)));
    CHECK(moon_str_eq(value_of(record, "small"), MOON_STR("2")));
    free(record);
    /* Small again. */
    fields[0].value = MOON_STR("little");
    change = change_of(fields, 1, NOW);
    CHECK_ERR(save(&key, &change, NULL), MOON_OK);
    CHECK_ERR(load(&key, NOW, &record), MOON_OK);
    CHECK(moon_str_eq(value_of(record, "big"), MOON_STR("little")));
    free(record);
    free(value);
    CHECK_ERR(remove_one(&key), MOON_OK);
}

void many_fields(void)
{
    enum { MANY = 1000 };
    static char names[MANY][24], values[MANY][24];
    static struct moon_session_field fields[MANY];
    struct moon_session_key key;
    struct moon_session_record *record;
    random_key(&key);
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "field %d", i);
        (void)snprintf(values[i], sizeof(values[i]), "%d", i * 7);
        fields[i] = field(names[i], values[i]);
    }
    create_session(&key, fields, MANY);
    /* Every other one goes, every third is replaced. */
    uint32_t count = 0;
    static struct moon_session_field changes[MANY];
    for (int i = 0; i < MANY; i++) {
        if (i % 2 == 0)
            changes[count++] = field(names[i], NULL);
        else if (i % 3 == 0)
            changes[count++] = field(names[i], "three");
    }
    struct moon_session_change change = change_of(changes, count, NOW);
    CHECK_ERR(save(&key, &change, NULL), MOON_OK);
    CHECK_ERR(load(&key, NOW, &record), MOON_OK);
    CHECK(record != NULL && record->field_count == MANY / 2);
    for (int i = 0; i < MANY && record != NULL; i++) {
        struct moon_str value = value_of(record, names[i]);
        if (i % 2 == 0)
            CHECK(value.ptr == NULL);
        else
            CHECK(moon_str_eq(value,
                              moon_strz(i % 3 == 0 ? "three" : values[i])));
    }
    free(record);
    CHECK_ERR(remove_one(&key), MOON_OK);
}
