/* What only tests call: in the probe (app:check) and in `moonshine test`. */
#include "vm/vm_api.h"

#include "base/log_records.h"
#include "vm/vm_internal.h"
#include "vm/vm_test.h"

/* A test's time is counted in so many ticks, so that a process that does not
 * get to run for a while loses one of them, not the test. */
enum { TICKS = 10 };

/* The bound of the test that runs; there is one at a time. */
static struct {
    uv_timer_t timer;
    bool open;
    int ticks;
    struct moon_vm *vm;
    uint32_t task;
} limit;

void moon_api_test_keep(void)
{
}

static const struct moon_vm_test *test_here(void)
{
    const struct moon_vm *vm = moon_vm_here();
    return vm != NULL ? vm->options.test : NULL;
}

void moon_test_report(int event, uint32_t number, const char *text, size_t len)
{
    const struct moon_vm_test *test = test_here();
    if (test != NULL)
        test->event(test->ctx, (enum moon_test_event)event, number,
                    moon_str(text, len));
}

static void on_limit(uv_timer_t *timer)
{
    limit.ticks++;
    if (limit.ticks < TICKS)
        return;
    (void)uv_timer_stop(timer);
    struct moon_task *task = moon_task_find(limit.vm, limit.task);
    if (task != NULL)
        moon_task_kill(task, MOON_TRIP_TIMEOUT, "timeout");
}

bool moon_test_limit(uint32_t number)
{
    struct moon_vm *vm = moon_vm_here();
    const struct moon_vm_test *test = test_here();
    if (test == NULL)
        return false;
    if (!limit.open && uv_timer_init(vm->loop, &limit.timer) != 0)
        return false;
    limit.open = true;
    (void)uv_timer_stop(&limit.timer);
    struct moon_task *task = moon_task_find(vm, number);
    if (task == NULL)
        return false;
    limit.vm = vm;
    limit.task = number;
    limit.ticks = 0;
    task->cpu_limit_ms =
        test->limit_ms > UINT32_MAX ? UINT32_MAX : (uint32_t)test->limit_ms;
    uint64_t tick_ms = test->limit_ms / TICKS + 1;
    uv_update_time(vm->loop);
    return uv_timer_start(&limit.timer, on_limit, tick_ms, tick_ms) == 0;
}

/* ---- what was logged ---- */

void moon_test_log_clear(void)
{
    moon_log_records_clear();
}

uint32_t moon_test_log_count(void)
{
    return (uint32_t)moon_log_records_count();
}

bool moon_test_log_at(uint32_t index, moon_bytes *level, moon_bytes *message,
                      uint32_t *fields)
{
    struct moon_log_record record;
    if (!moon_log_records_get(index, &record))
        return false;
    *level = moon_bytes_of(moon_strz(moon_log_level_name(record.level)));
    *message = moon_bytes_of(record.message);
    *fields = (uint32_t)record.field_count;
    return true;
}

int moon_test_log_field(uint32_t index, uint32_t field, moon_bytes *name,
                        moon_bytes *value)
{
    struct moon_log_record record;
    if (!moon_log_records_get(index, &record) || field >= record.field_count)
        return -1;
    *name = moon_bytes_of(record.fields[field].name);
    *value = moon_bytes_of(record.fields[field].value);
    return record.fields[field].raw ? 1 : 0;
}
