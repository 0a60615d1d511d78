/* Whose a session is, and all of one owner. */
#include "session_cases.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- subjects ---- */

/* False: the store has no such index, and says so properly. */
static bool has_subjects(void)
{
    struct moon_session_list *found;
    uint32_t count;
    enum moon_err err = list(MOON_STR("nobody"), NOW, &found);
    if (err != MOON_EDENIED) {
        free(found);
        return true;
    }
    CHECK(last_why[0] != '\0');
    CHECK_ERR(remove_all(MOON_STR("nobody"), &count), MOON_EDENIED);
    CHECK(last_why[0] != '\0');
    return false;
}

static void create_for(const struct moon_session_key *key,
                       struct moon_str subject, int64_t now_ms)
{
    struct moon_session_field fields[] = {field("a", "1")};
    struct moon_session_change change = change_of(fields, 1, now_ms);
    change.create = true;
    change.sets_subject = true;
    change.subject = subject;
    CHECK_ERR(save(key, &change, NULL), MOON_OK);
}

static uint32_t count_of(struct moon_str subject, int64_t now_ms)
{
    struct moon_session_list *found;
    CHECK_ERR(list(subject, now_ms, &found), MOON_OK);
    uint32_t count = found == NULL ? UINT32_MAX : found->count;
    free(found);
    return count;
}

static void random_subject(char name[32])
{
    struct moon_session_key key;
    random_key(&key);
    (void)snprintf(name, 32, "user-%02x%02x%02x%02x%02x%02x", key.bytes[0],
                   key.bytes[1], key.bytes[2], key.bytes[3], key.bytes[4],
                   key.bytes[5]);
}

void subjects_are_kept(void)
{
    struct moon_session_key key;
    struct moon_session_record *record;
    struct moon_str subject = MOON_STR("s\0\xff'\"{}\n");
    random_key(&key);
    create_for(&key, subject, NOW);
    CHECK_ERR(load(&key, NOW, &record), MOON_OK);
    CHECK(record != NULL && moon_str_eq(record->subject, subject));
    free(record);
    /* Left alone by a save that does not speak of it. */
    struct moon_session_change change = change_of(NULL, 0, NOW);
    CHECK_ERR(save(&key, &change, NULL), MOON_OK);
    CHECK_ERR(load(&key, NOW, &record), MOON_OK);
    CHECK(record != NULL && moon_str_eq(record->subject, subject));
    free(record);
    change.sets_subject = true;
    CHECK_ERR(save(&key, &change, NULL), MOON_OK);
    CHECK_ERR(load(&key, NOW, &record), MOON_OK);
    CHECK(record != NULL && record->subject.len == 0);
    free(record);
    CHECK_ERR(remove_one(&key), MOON_OK);
}

void sessions_of_a_subject(void)
{
    struct moon_session_key a, b, c, other;
    struct moon_session_list *found;
    char name[32], other_name[32];
    if (!has_subjects())
        return;
    random_key(&a);
    random_key(&b);
    random_key_like(&c, &a);
    random_key(&other);
    random_subject(name);
    random_subject(other_name);
    struct moon_str subject = moon_strz(name), others = moon_strz(other_name);
    CHECK(count_of(subject, NOW) == 0);
    create_for(&a, subject, NOW);
    create_for(&b, subject, NOW + 1000);
    create_for(&other, others, NOW);
    CHECK_ERR(list(subject, NOW + 1000, &found), MOON_OK);
    CHECK(found != NULL && found->count == 2);
    for (uint32_t i = 0; found != NULL && i < found->count; i++) {
        const struct moon_session_entry *entry = &found->entries[i];
        bool is_a = memcmp(&entry->key, &a, sizeof(a)) == 0;
        CHECK(is_a || memcmp(&entry->key, &b, sizeof(b)) == 0);
        CHECK(entry->created_ms == NOW + (is_a ? 0 : 1000));
        CHECK(entry->seen_ms == entry->created_ms);
    }
    free(found);
    /* Another id, another owner, the end. */
    struct moon_session_change change = change_of(NULL, 0, NOW + 1000);
    CHECK_ERR(move(&a, &c, &change), MOON_OK);
    CHECK(count_of(subject, NOW + 1000) == 2);
    change.sets_subject = true;
    change.subject = others;
    CHECK_ERR(save(&b, &change, NULL), MOON_OK);
    CHECK(count_of(subject, NOW + 1000) == 1);
    CHECK(count_of(others, NOW + 1000) == 2);
    CHECK_ERR(remove_one(&b), MOON_OK);
    CHECK(count_of(others, NOW + 1000) == 1);
    CHECK(count_of(others, NOW + HOUR_MS) == 0); /* idle */
    CHECK_ERR(remove_one(&c), MOON_OK);
    CHECK_ERR(remove_one(&other), MOON_OK);
    CHECK(count_of(subject, NOW) == 0 && count_of(others, NOW) == 0);
}

void all_of_a_subject_end(void)
{
    enum { MANY = 250 };
    struct moon_session_key keys[MANY], other;
    struct moon_session_record *record;
    char name[32], other_name[32];
    uint32_t count = 0;
    if (!has_subjects())
        return;
    random_subject(name);
    random_subject(other_name);
    struct moon_str subject = moon_strz(name), others = moon_strz(other_name);
    for (int i = 0; i < MANY; i++) {
        random_key(&keys[i]);
        create_for(&keys[i], subject, NOW);
    }
    random_key(&other);
    create_for(&other, others, NOW);
    CHECK(count_of(subject, NOW) == MANY);
    CHECK_ERR(remove_all(subject, &count), MOON_OK);
    CHECK(count == MANY);
    CHECK(count_of(subject, NOW) == 0);
    for (int i = 0; i < MANY; i++)
        CHECK_ERR(load(&keys[i], NOW, &record), MOON_ENOT_FOUND);
    CHECK_ERR(load(&other, NOW, &record), MOON_OK);
    free(record);
    CHECK_ERR(remove_all(subject, &count), MOON_OK);
    CHECK(count == 0);
    CHECK_ERR(remove_all(others, &count), MOON_OK);
    CHECK(count == 1);
}
