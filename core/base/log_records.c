#include "base/log_records.h"

#include <pthread.h>
#include <stdlib.h>

/* One block: the record, its fields, then the bytes of all texts. */
struct kept {
    struct moon_log_record record;
    struct moon_log_field fields[];
};

static struct {
    pthread_t thread;
    moon_log_instead *instead;
    void *ctx;
    struct kept *kept[MOON_LOG_RECORDS];
    size_t count;
} records;

static struct moon_str copy(char **to, struct moon_str s)
{
    struct moon_str copied = moon_str(*to, s.len);
    if (s.len > 0)
        memcpy(*to, s.ptr, s.len);
    *to += s.len;
    return copied;
}

static struct kept *keep(enum moon_log_level level, struct moon_str message,
                         const struct moon_log_field *fields, size_t count)
{
    size_t bytes = message.len;
    for (size_t i = 0; i < count; i++)
        bytes += fields[i].name.len + fields[i].value.len;
    struct kept *kept =
        malloc(sizeof(*kept) + count * sizeof(kept->fields[0]) + bytes);
    if (kept == NULL)
        return NULL;
    char *to = (char *)(kept->fields + count);
    for (size_t i = 0; i < count; i++) {
        kept->fields[i] = (struct moon_log_field){
            .name = copy(&to, fields[i].name),
            .value = copy(&to, fields[i].value),
            .raw = fields[i].raw,
        };
    }
    kept->record = (struct moon_log_record){
        .level = level,
        .message = copy(&to, message),
        .fields = kept->fields,
        .field_count = count,
    };
    return kept;
}

static bool on_line(void *ctx, enum moon_log_level level,
                    struct moon_str message,
                    const struct moon_log_field *fields, size_t count)
{
    (void)ctx;
    if (!pthread_equal(records.thread, pthread_self()))
        return false;
    if (records.count < MOON_LOG_RECORDS)
        records.kept[records.count] = keep(level, message, fields, count);
    records.count++;
    if (records.instead == NULL)
        return false;
    struct moon_buf text = {0};
    moon_log_describe(&text, message, fields, count);
    records.instead(records.ctx, level, moon_buf_str(&text));
    moon_buf_deinit(&text);
    return true;
}

void moon_log_records_start(moon_log_instead *instead, void *ctx)
{
    records.thread = pthread_self();
    records.instead = instead;
    records.ctx = ctx;
    moon_log_set_tap(on_line, NULL);
}

void moon_log_records_stop(void)
{
    moon_log_set_tap(NULL, NULL);
    moon_log_records_clear();
}

void moon_log_records_clear(void)
{
    size_t kept =
        records.count < MOON_LOG_RECORDS ? records.count : MOON_LOG_RECORDS;
    for (size_t i = 0; i < kept; i++)
        free(records.kept[i]);
    records.count = 0;
}

size_t moon_log_records_count(void)
{
    return records.count;
}

bool moon_log_records_get(size_t index, struct moon_log_record *out)
{
    if (index >= records.count || index >= MOON_LOG_RECORDS ||
        records.kept[index] == NULL)
        return false;
    *out = records.kept[index]->record;
    return true;
}
