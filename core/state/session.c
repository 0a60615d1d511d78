#include "state/session.h"

#include "base/clock.h"
#include "base/random.h"

#include <sodium.h>
#include <stdlib.h>

enum { TOUCH_MAX_MS = 60 * 1000, TOUCH_FRACTION = 10, ID_BYTES = 32 };
enum { HELD_UP_MS = 50 }; /* what a budget has left, see spend */

static int64_t now_ms(void)
{
    return (int64_t)(moon_clock_wall() * 1000);
}

/* ---- ids ---- */

/* All ones for those of 16 bytes that are digits of base64url (RFC 4648,
 * section 5). */
static moon_bytes16 are_digits(const char *from)
{
    moon_bytes16 c;
    memcpy(&c, from, sizeof(c));
    moon_bytes16 letter = (c | 0x20) - 'a', number = c - '0';
    return (moon_bytes16)(letter < 26) | (moon_bytes16)(number < 10) |
           (moon_bytes16)(c == '-') | (moon_bytes16)(c == '_');
}

/* Is it what make_id may have made? Nobody needs the bytes. */
static bool is_id(struct moon_str id)
{
    /* Of 43 digits the last has the two bits that are left of 256, and zeros:
     * 0, 4, 8 ... 60. */
    static const char ends[] = "AEIMQUYcgkosw048";
    enum { STEP = sizeof(moon_bytes16), LAST = MOON_SESSION_ID - STEP };
    if (id.len != MOON_SESSION_ID)
        return false;
    moon_bytes16 all = are_digits(id.ptr) & are_digits(id.ptr + STEP) &
                       are_digits(id.ptr + LAST);
    uint64_t words[2];
    memcpy(words, &all, sizeof(words));
    return (words[0] & words[1]) == UINT64_MAX &&
           memchr(ends, id.ptr[MOON_SESSION_ID - 1], sizeof(ends) - 1) != NULL;
}

bool moon_session_key_of(struct moon_str id, struct moon_session_key *key)
{
    if (!is_id(id))
        return false;
    (void)crypto_hash_sha256(key->bytes, (const unsigned char *)id.ptr, id.len);
    return true;
}

/* Into new_id and new_key; the key's first byte as that of `like`, if given. */
static void make_id(struct moon_session *s, const struct moon_session_key *like)
{
    do {
        unsigned char bytes[ID_BYTES];
        char text[MOON_SESSION_ID + 1];
        moon_random_bytes(bytes, sizeof(bytes));
        (void)sodium_bin2base64(text, sizeof(text), bytes, sizeof(bytes),
                                sodium_base64_VARIANT_URLSAFE_NO_PADDING);
        memcpy(s->new_id, text, sizeof(s->new_id));
        (void)crypto_hash_sha256(s->new_key.bytes, (unsigned char *)text,
                                 MOON_SESSION_ID);
    } while (like != NULL && s->new_key.bytes[0] != like->bytes[0]);
}

/* A session that is remembered keeps its cookie until it expires. */
static int64_t remembered_s(const struct moon_session *s)
{
    const struct moon_session_record *r = s->record;
    if (s->keep_s >= 0 || r == NULL || r->idle_ms != MOON_SESSION_NEVER ||
        r->expires_ms == MOON_SESSION_NEVER ||
        s->settings.idle_ms == MOON_SESSION_NEVER)
        return s->keep_s;
    return (r->expires_ms - now_ms()) / 1000;
}

static void adopt_new_id(struct moon_session *s)
{
    s->keep_s = remembered_s(s);
    memcpy(s->id, s->new_id, sizeof(s->id));
    s->key = s->new_key;
    s->has_id = true;
    s->cookie = MOON_SESSION_COOKIE_SET;
}

/* ---- life ---- */

void moon_session_init(struct moon_session *s, struct moon_session_store *store,
                       const struct moon_session_settings *settings,
                       struct moon_arena *arena, struct moon_str id)
{
    *s = (struct moon_session){
        .store = store, .settings = *settings, .arena = arena, .keep_s = -1};
    s->left_ms = settings->budget_ms;
    s->has_id = moon_session_key_of(id, &s->key);
    if (s->has_id)
        memcpy(s->id, id.ptr, sizeof(s->id));
    else
        s->loaded = true; /* there is nothing to read */
}

static void drop_record(struct moon_session *s)
{
    free(s->record);
    s->record = NULL;
}

void moon_session_cancel(struct moon_session *s)
{
    if (s->busy)
        s->store->ops->cancel(s->store, &s->op);
    s->busy = false;
}

void moon_session_deinit(struct moon_session *s)
{
    moon_session_cancel(s);
    drop_record(s);
}

/* ---- operations, one after the other ---- */

/* The budget is the store's: what the handler does between two operations is
 * not counted. One that came after its time, and yet came, was not late: the
 * loop was held up. */
static void spend(struct moon_session *s, enum moon_err err)
{
    uint64_t took = moon_clock_ms() - s->asked_ms;
    if (took < s->left_ms)
        s->left_ms -= took;
    else
        s->left_ms = err == MOON_ETIMEOUT ? 0 : HELD_UP_MS;
}

static void on_op_done(struct moon_session_op *op)
{
    struct moon_session *s = op->ctx;
    s->busy = false;
    spend(s, op->err);
    enum moon_err err = s->after(s, op->err);
    if (err != MOON_EAGAIN)
        s->done(s->ctx, err);
}

/* Before an operation: what it reports to, and until when. */
static struct moon_session_op *begin(
    struct moon_session *s,
    enum moon_err (*after)(struct moon_session *s, enum moon_err err))
{
    s->asked_ms = moon_clock_ms();
    s->op = (struct moon_session_op){
        .done = on_op_done, .ctx = s, .deadline_ms = s->asked_ms + s->left_ms};
    s->after = after;
    return &s->op;
}

static enum moon_err follow(struct moon_session *s, enum moon_err err)
{
    s->busy = err == MOON_EAGAIN;
    if (!s->busy)
        spend(s, err);
    return s->busy ? err : s->after(s, err);
}

static enum moon_err after_load(struct moon_session *s, enum moon_err err)
{
    if (err == MOON_OK) {
        drop_record(s);
        s->record = s->op.record;
    } else if (err == MOON_ENOT_FOUND) {
        drop_record(s);
        s->has_id = false; /* never adopted */
        err = MOON_OK;
    }
    s->loaded = s->loaded || err == MOON_OK;
    return err;
}

enum moon_err moon_session_reload(struct moon_session *s,
                                  moon_session_ready *done, void *ctx)
{
    s->done = done;
    s->ctx = ctx;
    if (!s->has_id)
        return MOON_OK;
    struct moon_session_op *op = begin(s, after_load);
    return follow(s, s->store->ops->load(s->store, op, &s->key, now_ms()));
}

enum moon_err moon_session_load(struct moon_session *s,
                                moon_session_ready *done, void *ctx)
{
    return s->loaded ? MOON_OK : moon_session_reload(s, done, ctx);
}

/* ---- saving ---- */

static int64_t add_ms(int64_t to, int64_t ms)
{
    return ms == MOON_SESSION_NEVER ? ms : to + ms;
}

/* The times that a session of this request has from now on. */
static void fill_times(const struct moon_session *s,
                       struct moon_session_change *change)
{
    change->now_ms = now_ms();
    if (s->sets_times) {
        change->idle_ms = s->idle_ms;
        change->expires_ms = s->expires_ms;
    } else if (s->record != NULL) {
        change->idle_ms = s->record->idle_ms;
        change->expires_ms = s->record->expires_ms;
    } else {
        change->idle_ms = s->settings.idle_ms;
        change->expires_ms = add_ms(change->now_ms, s->settings.absolute_ms);
    }
}

static void fill_change(struct moon_session *s)
{
    s->change = (struct moon_session_change){
        .create = s->record == NULL,
        .clear = s->cleared,
        .sets_subject = s->sets_subject,
        .subject = s->subject,
        .fields = s->changes,
        .field_count = s->change_count,
    };
    fill_times(s, &s->change);
}

/* Nothing is left to save; what the record says is old. */
static void forget_changes(struct moon_session *s)
{
    s->change_count = 0;
    s->change_bytes = 0;
    s->cleared = s->sets_subject = s->sets_times = s->renewed = false;
}

static enum moon_err after_save(struct moon_session *s, enum moon_err err)
{
    if (err == MOON_OK)
        forget_changes(s);
    return err;
}

static enum moon_err after_create(struct moon_session *s, enum moon_err err)
{
    if (err == MOON_OK)
        adopt_new_id(s);
    return after_save(s, err);
}

static enum moon_err write_change(struct moon_session *s)
{
    const struct moon_session_store_ops *ops = s->store->ops;
    fill_change(s);
    if (s->record == NULL) {
        make_id(s, NULL);
        struct moon_session_op *op = begin(s, after_create);
        return follow(s, ops->save(s->store, op, &s->new_key, &s->change));
    }
    if (s->renewed) {
        make_id(s, ops->wants_same_first_byte ? &s->key : NULL);
        struct moon_session_op *op = begin(s, after_create);
        return follow(
            s, ops->move(s->store, op, &s->key, &s->new_key, &s->change));
    }
    if (s->sets_times)
        s->cookie = MOON_SESSION_COOKIE_SET; /* its Max-Age is another */
    struct moon_session_op *op = begin(s, after_save);
    return follow(s, ops->save(s->store, op, &s->key, &s->change));
}

static bool has_changes(const struct moon_session *s)
{
    if (s->record == NULL)
        return s->change_count > 0 || s->subject.len > 0;
    return s->change_count > 0 || s->sets_subject || s->cleared || s->renewed ||
           s->sets_times;
}

static enum moon_err after_remove(struct moon_session *s, enum moon_err err)
{
    if (err != MOON_OK && err != MOON_ENOT_FOUND)
        return err;
    s->destroyed = false;
    s->has_id = false;
    s->cookie = MOON_SESSION_COOKIE_END;
    return has_changes(s) ? write_change(s) : MOON_OK;
}

bool moon_session_is_dirty(const struct moon_session *s)
{
    return (s->destroyed && s->has_id) || has_changes(s);
}

enum moon_err moon_session_commit(struct moon_session *s,
                                  moon_session_ready *done, void *ctx)
{
    s->done = done;
    s->ctx = ctx;
    if (!moon_session_is_dirty(s))
        return MOON_OK;
    if (!s->destroyed || !s->has_id)
        return write_change(s);
    struct moon_session_op *op = begin(s, after_remove);
    return follow(s, s->store->ops->remove(s->store, op, &s->key));
}

static enum moon_err after_compare(struct moon_session *s, enum moon_err err)
{
    if (err == MOON_OK && s->change.create)
        adopt_new_id(s);
    return err;
}

enum moon_err moon_session_compare_and_save(
    struct moon_session *s, const struct moon_session_field *fields,
    uint32_t count, moon_session_ready *done, void *ctx)
{
    s->done = done;
    s->ctx = ctx;
    s->change = (struct moon_session_change){
        .create = s->record == NULL,
        .if_version = s->record == NULL ? 0 : s->record->version,
        .fields = fields,
        .field_count = count,
    };
    fill_times(s, &s->change);
    const struct moon_session_key *key = &s->key;
    if (s->record == NULL) {
        make_id(s, NULL);
        key = &s->new_key;
    }
    struct moon_session_op *op = begin(s, after_compare);
    return follow(s, s->store->ops->save(s->store, op, key, &s->change));
}

bool moon_session_wants_touch(const struct moon_session *s)
{
    const struct moon_session_record *r = s->record;
    if (r == NULL || s->destroyed || r->idle_ms == MOON_SESSION_NEVER ||
        moon_session_is_dirty(s))
        return false;
    int64_t after = r->idle_ms / TOUCH_FRACTION;
    return now_ms() - r->seen_ms >
           (after < TOUCH_MAX_MS ? after : TOUCH_MAX_MS);
}

/* ---- in memory ---- */

bool moon_session_exists(const struct moon_session *s)
{
    return s->record != NULL || has_changes(s);
}

static struct moon_session_field *find_change(const struct moon_session *s,
                                              struct moon_str name)
{
    for (uint32_t i = 0; i < s->change_count; i++) {
        if (moon_str_eq(s->changes[i].name, name))
            return &s->changes[i];
    }
    return NULL;
}

static const struct moon_session_field *find_kept(const struct moon_session *s,
                                                  struct moon_str name)
{
    if (s->record == NULL || s->cleared)
        return NULL;
    for (uint32_t i = 0; i < s->record->field_count; i++) {
        if (moon_str_eq(s->record->fields[i].name, name))
            return &s->record->fields[i];
    }
    return NULL;
}

bool moon_session_get(const struct moon_session *s, struct moon_str name,
                      struct moon_str *value)
{
    const struct moon_session_field *field = find_change(s, name);
    if (field == NULL)
        field = find_kept(s, name);
    *value = field == NULL ? MOON_STR_NONE : field->value;
    return value->ptr != NULL;
}

bool moon_session_at(const struct moon_session *s, uint32_t index,
                     struct moon_session_field *field)
{
    for (uint32_t i = 0; i < s->change_count; i++) {
        if (s->changes[i].value.ptr != NULL && index-- == 0) {
            *field = s->changes[i];
            return true;
        }
    }
    if (s->record == NULL || s->cleared)
        return false;
    for (uint32_t i = 0; i < s->record->field_count; i++) {
        if (find_change(s, s->record->fields[i].name) == NULL && index-- == 0) {
            *field = s->record->fields[i];
            return true;
        }
    }
    return false;
}

static struct moon_session_field *add_change(struct moon_session *s)
{
    if (s->change_count == s->change_cap) {
        uint32_t cap = s->change_cap == 0 ? 8 : s->change_cap * 2;
        struct moon_session_field *grown =
            moon_arena_alloc(s->arena, cap * sizeof(*grown));
        if (grown == NULL)
            return NULL;
        if (s->change_count > 0)
            memcpy(grown, s->changes, s->change_count * sizeof(*grown));
        s->changes = grown;
        s->change_cap = cap;
    }
    return &s->changes[s->change_count];
}

/* What need not be saved: a removal of what is not there, and what it is
 * already. */
static bool changes_nothing(const struct moon_session *s, struct moon_str name,
                            struct moon_str value)
{
    const struct moon_session_field *kept = find_kept(s, name);
    return value.ptr == NULL ? kept == NULL
                             : kept != NULL && moon_str_eq(kept->value, value);
}

static void drop_change(struct moon_session *s,
                        struct moon_session_field *change)
{
    if (change != NULL)
        *change = s->changes[--s->change_count];
}

enum moon_err moon_session_set(struct moon_session *s, struct moon_str name,
                               struct moon_str value)
{
    struct moon_session_field *change = find_change(s, name);
    size_t bytes = name.len + value.len;
    if (changes_nothing(s, name, value)) {
        drop_change(s, change);
        return MOON_OK;
    }
    if (bytes > MOON_SESSION_BYTES_MAX - s->change_bytes ||
        (change == NULL && s->change_count >= MOON_SESSION_FIELDS_MAX))
        return MOON_EFULL;
    struct moon_str kept = MOON_STR_NONE;
    if (value.ptr != NULL) {
        kept = moon_arena_copy(s->arena, value);
        if (kept.ptr == NULL)
            return MOON_ENOMEM;
    }
    if (change == NULL) {
        struct moon_str own = moon_arena_copy(s->arena, name);
        change = own.ptr == NULL ? NULL : add_change(s);
        if (change == NULL)
            return MOON_ENOMEM;
        change->name = own;
        s->change_count++;
    }
    change->value = kept;
    s->change_bytes += bytes; /* the arena keeps what was replaced */
    return MOON_OK;
}

void moon_session_clear(struct moon_session *s)
{
    s->change_count = 0;
    s->cleared = true;
}

void moon_session_forget(struct moon_session *s)
{
    forget_changes(s);
    s->destroyed = false;
    s->loaded = !s->has_id;
    drop_record(s);
}

void moon_session_renew(struct moon_session *s)
{
    s->renewed = true;
}

void moon_session_destroy(struct moon_session *s)
{
    forget_changes(s);
    drop_record(s);
    s->subject = MOON_STR_NONE;
    s->keep_s = -1;
    s->destroyed = true;
    s->loaded = true;
}

enum moon_err moon_session_set_subject(struct moon_session *s,
                                       struct moon_str subject)
{
    struct moon_str own = moon_arena_copy(s->arena, subject);
    if (own.ptr == NULL)
        return MOON_ENOMEM;
    s->subject = own;
    s->sets_subject = true;
    return MOON_OK;
}

struct moon_str moon_session_subject(const struct moon_session *s)
{
    return s->sets_subject     ? s->subject
           : s->record != NULL ? s->record->subject
                               : MOON_STR_NONE;
}

void moon_session_remember(struct moon_session *s, int64_t ttl_ms)
{
    s->sets_times = true;
    s->idle_ms = MOON_SESSION_NEVER;
    s->expires_ms = now_ms() + ttl_ms;
    s->keep_s = ttl_ms / 1000;
}
