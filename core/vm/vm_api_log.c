#include "vm/vm_api.h"

#include "base/buf.h"
#include "base/log.h"
#include "vm/vm_internal.h"

enum { FIELDS_MAX = 32, OWN_FIELDS = 3 };

/* Fields of the line to come, copied, as offsets because the buffer moves. */
struct pending {
    size_t name_at, name_len, value_at, value_len;
    bool raw;
};

static _Thread_local struct moon_buf bytes;
static _Thread_local struct pending fields[FIELDS_MAX];
static _Thread_local size_t field_count;

void moon_api_log_keep(void)
{
}

bool moon_lua_log_enabled(int level)
{
    return moon_log_enabled((enum moon_log_level)level);
}

void moon_lua_log_field(const char *name, size_t name_len, const char *value,
                        size_t len, bool raw)
{
    if (field_count == FIELDS_MAX)
        return;
    fields[field_count] = (struct pending){
        .name_at = bytes.len,
        .name_len = name_len,
        .value_at = bytes.len + name_len,
        .value_len = len,
        .raw = raw,
    };
    moon_buf_add(&bytes, name, name_len);
    moon_buf_add(&bytes, value, len);
    if (!bytes.failed)
        field_count++;
}

/* Which request a line belongs to. */
static size_t own_fields(struct moon_log_field *out, char generation[24])
{
    const struct moon_task *task = moon_task_running();
    const struct moon_vm *vm = moon_vm_here();
    size_t count = 0;
    if (task != NULL && task->x != NULL) {
        out[count++] = (struct moon_log_field){.name = MOON_STR("request_id"),
                                               .value = task->x->request_id};
        if (task->x->route != NULL)
            out[count++] = (struct moon_log_field){
                .name = MOON_STR("route"), .value = task->x->route->pattern};
    }
    if (vm != NULL && vm->options.generation > 0) {
        struct moon_buf text = {.ptr = generation, .cap = 24};
        moon_buf_add_u64(&text, vm->options.generation);
        out[count++] = (struct moon_log_field){.name = MOON_STR("generation"),
                                               .value = moon_buf_str(&text),
                                               .raw = true};
    }
    return count;
}

void moon_lua_log(int level, const char *text, size_t len)
{
    struct moon_log_field all[FIELDS_MAX + OWN_FIELDS];
    char generation[24];
    size_t count = own_fields(all, generation);
    for (size_t i = 0; i < field_count; i++) {
        const struct pending *field = &fields[i];
        all[count++] = (struct moon_log_field){
            .name = moon_str(bytes.ptr + field->name_at, field->name_len),
            .value = moon_str(bytes.ptr + field->value_at, field->value_len),
            .raw = field->raw,
        };
    }
    moon_log_fields((enum moon_log_level)level, moon_str(text, len), all,
                    count);
    moon_buf_deinit(&bytes);
    field_count = 0;
}
