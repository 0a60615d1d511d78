#include "vm/vm_api.h"

#include "base/buf.h"
#include "base/clock.h"
#include "state/commons.h"
#include "state/dict.h"
#include "vm/vm_internal.h"

#include <stdio.h>

/* The text of the last get on this thread; a big one is given back. */
enum { SCRATCH_KEEP = 64 << 10 };
static _Thread_local struct moon_buf scratch;

void moon_api_shared_keep(void)
{
}

moon_dict *moon_shared_open(const char *name, size_t len, double bytes)
{
    char namez[MOON_EXTENT_NAME];
    const struct moon_vm *vm = moon_vm_here();
    if (vm == NULL || vm->options.commons == NULL || len >= sizeof(namez))
        return NULL;
    memcpy(namez, name, len);
    namez[len] = '\0';
    return moon_dict_open(vm->options.commons->region, namez, (size_t)bytes);
}

void moon_shared_close(moon_dict *dict)
{
    moon_dict_close(dict);
}

int moon_shared_get(moon_dict *dict, const char *key, size_t len,
                    moon_shared_value *out)
{
    struct moon_dict_value value;
    if (scratch.cap > SCRATCH_KEEP || scratch.failed)
        moon_buf_deinit(&scratch);
    scratch.len = 0;
    enum moon_err err = moon_dict_get(dict, moon_str(key, len), moon_clock_ms(),
                                      &scratch, &value);
    *out = (moon_shared_value){.type = value.type,
                               .text = moon_bytes_of(value.text),
                               .number = value.number};
    return err;
}

static uint64_t ttl_ms(double ttl)
{
    return ttl <= 0 ? 0 : (uint64_t)(ttl * 1000) + 1;
}

int moon_shared_set(moon_dict *dict, const char *key, size_t len,
                    const moon_shared_value *value, double ttl, bool only_new)
{
    struct moon_dict_value own = {
        .type = (enum moon_dict_type)value->type,
        .text = moon_str(value->text.ptr, value->text.len),
        .number = value->number,
    };
    return moon_dict_set(dict, moon_str(key, len), &own, ttl_ms(ttl), only_new,
                         moon_clock_ms());
}

int moon_shared_incr(moon_dict *dict, const char *key, size_t len, double by,
                     bool make, double initial, double ttl, double *result)
{
    return moon_dict_incr(dict, moon_str(key, len), by, make ? &initial : NULL,
                          ttl_ms(ttl), moon_clock_ms(), result);
}

bool moon_shared_delete(moon_dict *dict, const char *key, size_t len)
{
    return moon_dict_delete(dict, moon_str(key, len), moon_clock_ms());
}

bool moon_shared_delete_if(moon_dict *dict, const char *key, size_t len,
                           const char *text, size_t text_len)
{
    return moon_dict_delete_if(dict, moon_str(key, len),
                               moon_str(text, text_len), moon_clock_ms());
}
