#include "state/session_record.h"

#include <stdlib.h>

/* A record, numbers little-endian:
 *
 *    0  u16 format, u16 zero, u32 number of fields
 *    8  u64 checksum of all the other bytes
 *   16  u64 version, i64 created, seen, idle, expires
 *   56  u32 length of the subject, u32 zero
 *   64  the subject, then the fields: u32 length of the name, u32 length of the
 *       value, name, value */
enum { FORMAT = 1, AT_CHECK = 8, AT_SEEN = 32, FIELD_HEAD = 8 };

/* ---- numbers ---- */

static uint32_t load32(const char *from)
{
    const unsigned char *b = (const unsigned char *)from;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 |
           (uint32_t)b[3] << 24;
}

static int64_t load_ms(const char *from)
{
    return (int64_t)moon_load_le64(from);
}

static void store32(char *to, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        to[i] = (char)(unsigned char)(value >> 8 * i);
}

static void store64(char *to, uint64_t value)
{
    store32(to, (uint32_t)value);
    store32(to + 4, (uint32_t)(value >> 32));
}

/* Finds damage, not intent: whoever can write here need not be fooled. */
static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * 0x9e3779b97f4a7c15ull;
    return hash ^ hash >> 29;
}

static uint64_t checksum(const char *bytes, size_t len)
{
    uint64_t hash = mix(len, moon_load_le64(bytes));
    size_t at = AT_CHECK + 8;
    for (; len - at >= 8; at += 8)
        hash = mix(hash, moon_load_le64(bytes + at));
    if (at < len) {
        char tail[8] = {0};
        memcpy(tail, bytes + at, len - at);
        hash = mix(hash, moon_load_le64(tail));
    }
    return hash;
}

/* ---- reading ---- */

/* A field at the start of *rest, which then begins behind it. */
static bool take_field(struct moon_str *rest, struct moon_session_field *field)
{
    if (rest->len < FIELD_HEAD)
        return false;
    uint64_t name_len = load32(rest->ptr), value_len = load32(rest->ptr + 4);
    if (name_len + value_len > rest->len - FIELD_HEAD)
        return false;
    const char *at = rest->ptr + FIELD_HEAD;
    field->name = moon_str(at, name_len);
    field->value = moon_str(at + name_len, value_len);
    at += name_len + value_len;
    *rest = moon_str(at, (size_t)(rest->ptr + rest->len - at));
    return true;
}

enum moon_err moon_session_record_peek(struct moon_str bytes,
                                       struct moon_session_view *view,
                                       bool *has_subject)
{
    if (bytes.len < MOON_SESSION_RECORD_HEAD)
        return MOON_EPROTO;
    const char *at = bytes.ptr;
    uint32_t format = load32(at);
    if (format != FORMAT) /* the zero behind it included */
        return format != 0 && format <= UINT16_MAX ? MOON_EUNSUPPORTED
                                                   : MOON_EPROTO;
    *view = (struct moon_session_view){
        .field_count = load32(at + 4),
        .version = moon_load_le64(at + 16),
        .created_ms = load_ms(at + 24),
        .seen_ms = load_ms(at + AT_SEEN),
        .idle_ms = load_ms(at + 40),
        .expires_ms = load_ms(at + 48),
    };
    *has_subject = load32(at + 56) > 0;
    return MOON_OK;
}

enum moon_err moon_session_record_look(struct moon_str bytes,
                                       struct moon_session_view *view)
{
    bool has_subject;
    enum moon_err err = moon_session_record_peek(bytes, view, &has_subject);
    if (err != MOON_OK)
        return err;
    size_t subject_len = load32(bytes.ptr + 56);
    struct moon_str rest = moon_str(bytes.ptr + MOON_SESSION_RECORD_HEAD,
                                    bytes.len - MOON_SESSION_RECORD_HEAD);
    if (subject_len > rest.len ||
        checksum(bytes.ptr, bytes.len) != moon_load_le64(bytes.ptr + AT_CHECK))
        return MOON_EPROTO;
    view->subject = moon_str(rest.ptr, subject_len);
    view->fields = moon_str(rest.ptr + subject_len, rest.len - subject_len);
    rest = view->fields;
    for (uint32_t i = 0; i < view->field_count; i++) {
        struct moon_session_field field;
        if (!take_field(&rest, &field))
            return MOON_EPROTO;
    }
    return rest.len == 0 ? MOON_OK : MOON_EPROTO;
}

struct moon_session_record *moon_session_record_copy(
    const struct moon_session_view *view)
{
    size_t table = view->field_count * sizeof(struct moon_session_field);
    struct moon_session_record *record =
        malloc(sizeof(*record) + table + view->subject.len + view->fields.len);
    if (record == NULL)
        return NULL;
    *record = (struct moon_session_record){
        .version = view->version,
        .created_ms = view->created_ms,
        .seen_ms = view->seen_ms,
        .idle_ms = view->idle_ms,
        .expires_ms = view->expires_ms,
        .field_count = view->field_count,
    };
    char *to = (char *)record->fields + table;
    memcpy(to, view->subject.ptr, view->subject.len);
    record->subject = moon_str(to, view->subject.len);
    to += view->subject.len;
    memcpy(to, view->fields.ptr, view->fields.len);
    struct moon_str rest = moon_str(to, view->fields.len);
    for (uint32_t i = 0; i < view->field_count; i++)
        (void)take_field(&rest, &record->fields[i]); /* looked at before */
    return record;
}

int64_t moon_session_view_deadline(const struct moon_session_view *view)
{
    int64_t idle = view->idle_ms, seen = view->seen_ms;
    if (idle == MOON_SESSION_NEVER ||
        (seen > 0 && idle > MOON_SESSION_NEVER - seen))
        return view->expires_ms;
    int64_t until = (int64_t)((uint64_t)seen + (uint64_t)idle);
    return until < view->expires_ms ? until : view->expires_ms;
}

bool moon_session_view_is_over(const struct moon_session_view *view,
                               int64_t now_ms)
{
    return now_ms >= moon_session_view_deadline(view);
}

/* ---- changes ---- */

static int compare_names(struct moon_str a, struct moon_str b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len == 0 ? 0 : memcmp(a.ptr, b.ptr, len);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int compare_fields(const void *a, const void *b)
{
    const struct moon_session_field *const *x = a, *const *y = b;
    int order = compare_names((*x)->name, (*y)->name);
    return order != 0 ? order : (*x > *y) - (*x < *y);
}

size_t moon_session_change_bytes(const struct moon_session_change *change)
{
    size_t bytes = change->sets_subject ? change->subject.len : 0;
    for (uint32_t i = 0; i < change->field_count; i++)
        bytes += change->fields[i].name.len + change->fields[i].value.len;
    return bytes;
}

static struct moon_str put(char **to, struct moon_str s)
{
    char *at = *to;
    if (s.ptr == NULL)
        return MOON_STR_NONE;
    memcpy(at, s.ptr, s.len);
    *to = at + s.len;
    return moon_str(at, s.len);
}

/* The last of each name, in order, into `to`; how many. */
static uint32_t put_fields(struct moon_session_field *to, char *bytes,
                           const struct moon_session_field **order,
                           uint32_t count)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (i + 1 < count &&
            compare_names(order[i]->name, order[i + 1]->name) == 0)
            continue;
        to[kept].name = put(&bytes, order[i]->name);
        to[kept++].value = put(&bytes, order[i]->value);
    }
    return kept;
}

struct moon_session_change *moon_session_change_copy(
    const struct moon_session_change *change)
{
    uint32_t count = change->field_count;
    size_t table = count * sizeof(struct moon_session_field);
    const struct moon_session_field **order =
        malloc((count + 1) * sizeof(const struct moon_session_field *));
    /* The subject comes first, so that field bytes are put behind it. */
    struct moon_session_change *copy =
        malloc(sizeof(*copy) + table + moon_session_change_bytes(change));
    if (order == NULL || copy == NULL) {
        free(order);
        free(copy);
        return NULL;
    }
    struct moon_session_field *fields =
        (struct moon_session_field *)(void *)(copy + 1);
    char *bytes = (char *)fields + table;
    *copy = *change;
    copy->subject =
        change->sets_subject ? put(&bytes, change->subject) : MOON_STR_NONE;
    for (uint32_t i = 0; i < count; i++)
        order[i] = &change->fields[i];
    qsort(order, count, sizeof(const struct moon_session_field *),
          compare_fields);
    copy->fields = fields;
    copy->field_count = put_fields(fields, bytes, order, count);
    free(order);
    return copy;
}

/* ---- writing ---- */

static void write_head(char *head, const struct moon_session_view *view)
{
    memset(head, 0, MOON_SESSION_RECORD_HEAD);
    store32(head, FORMAT);
    store32(head + 4, view->field_count);
    store64(head + 16, view->version);
    store64(head + 24, (uint64_t)view->created_ms);
    store64(head + AT_SEEN, (uint64_t)view->seen_ms);
    store64(head + 40, (uint64_t)view->idle_ms);
    store64(head + 48, (uint64_t)view->expires_ms);
    store32(head + 56, (uint32_t)view->subject.len);
}

static void write_field(struct moon_buf *out, struct moon_str name,
                        struct moon_str value)
{
    char head[FIELD_HEAD];
    store32(head, (uint32_t)name.len);
    store32(head + 4, (uint32_t)value.len);
    moon_buf_add(out, head, sizeof(head));
    moon_buf_add_str(out, name);
    moon_buf_add_str(out, value);
}

/* Writes what is kept and what is new, by name; how many. */
static uint32_t merge(struct moon_buf *out, struct moon_str kept,
                      const struct moon_session_change *change)
{
    uint32_t count = 0, i = 0;
    struct moon_session_field old;
    bool has_old = take_field(&kept, &old);
    while (has_old || i < change->field_count) {
        const struct moon_session_field *new_field =
            i < change->field_count ? &change->fields[i] : NULL;
        int order = !has_old ? 1
                    : new_field == NULL
                        ? -1
                        : compare_names(old.name, new_field->name);
        const struct moon_session_field *field = order < 0 ? &old : new_field;
        if (field->value.ptr != NULL) {
            write_field(out, field->name, field->value);
            count++;
        }
        if (order <= 0)
            has_old = take_field(&kept, &old);
        if (order >= 0)
            i++;
    }
    return count;
}

void moon_session_record_write(struct moon_buf *out,
                               const struct moon_session_view *before,
                               const struct moon_session_change *change,
                               struct moon_session_view *after)
{
    static const struct moon_session_view nothing;
    size_t start = out->len;
    bool keeps = before != NULL && !change->clear;
    before = before != NULL ? before : &nothing;
    *after = (struct moon_session_view){
        .version = before->version + 1,
        .created_ms = before == &nothing ? change->now_ms : before->created_ms,
        .seen_ms = change->now_ms,
        .idle_ms = change->idle_ms,
        .expires_ms = change->expires_ms,
        .subject = change->sets_subject ? change->subject : before->subject,
    };
    if (moon_buf_reserve(out, MOON_SESSION_RECORD_HEAD) == NULL)
        return;
    out->len += MOON_SESSION_RECORD_HEAD;
    moon_buf_add_str(out, after->subject);
    after->field_count =
        merge(out, keeps ? before->fields : MOON_STR_NONE, change);
    if (out->failed)
        return;
    char *head = out->ptr + start;
    write_head(head, after);
    store64(head + AT_CHECK, checksum(head, out->len - start));
    after->subject =
        moon_str(head + MOON_SESSION_RECORD_HEAD, after->subject.len);
    head += MOON_SESSION_RECORD_HEAD + after->subject.len;
    after->fields = moon_str(head, (size_t)(out->ptr + out->len - head));
}

void moon_session_record_write_seen(struct moon_buf *out, struct moon_str bytes,
                                    int64_t seen_ms)
{
    size_t start = out->len;
    moon_buf_add_str(out, bytes);
    if (out->failed)
        return;
    char *head = out->ptr + start;
    store64(head + AT_SEEN, (uint64_t)seen_ms);
    store64(head + AT_CHECK, checksum(head, bytes.len));
}
