#include "vm/vm_native.h"

#include "state/commons.h"
#include "vm/vm_internal.h"

static struct moon_str keep_text(lua_State *L, struct moon_limit_set *set,
                                 int index)
{
    struct moon_str text;
    text.ptr = luaL_checklstring(L, index, &text.len);
    text = moon_arena_copy(&set->arena, text);
    if (text.ptr == NULL)
        luaL_error(L, "out of memory");
    return text;
}

/* The cell that counts its refusals, found while the code loads so that a
 * refusal is one addition. */
static double *refusals_of(const struct moon_vm *vm, struct moon_str name)
{
    const struct moon_commons *commons = vm->options.commons;
    uint32_t cell;
    if (commons == NULL || commons->node_metrics == NULL)
        return NULL;
    /* If there is no room for one more, it is the cell of "other". */
    (void)moon_metrics_find(commons->node_metrics, commons->refusals, &name, 1,
                            &cell);
    return moon_metrics_cells(commons->node_metrics, commons->slot) + cell;
}

/* add_limit(kind, rate, period, burst, name, policy, by, header, cost, status,
 * dry_run, cluster, on_store_error) -> number, or nil if the rate is out of
 * range. Period in seconds; kind, by and on_store_error (nil: as configured) as
 * the enums. */
static int add_limit(lua_State *L)
{
    struct moon_vm *vm = moon_vm_of(L);
    struct moon_limit_set *set = &vm->limits;
    uint32_t number;
    struct moon_rate rate;
    if (moon_vm_app_loading(vm) == NULL)
        return luaL_error(L, "limits are fixed once the app is loaded");
    if (!moon_rate_make((enum moon_rate_kind)luaL_checkinteger(L, 1),
                        (uint32_t)luaL_checknumber(L, 2),
                        (uint64_t)(luaL_checknumber(L, 3) * 1e9),
                        (uint32_t)luaL_checknumber(L, 4), &rate))
        return 0;
    struct moon_limit *limit = moon_limit_set_add(set, &number);
    if (limit == NULL || set->table == NULL)
        return luaL_error(L, "out of memory");
    limit->rate = rate;
    limit->name = keep_text(L, set, 5);
    limit->policy = keep_text(L, set, 6);
    limit->by = (enum moon_limit_by)luaL_checkinteger(L, 7);
    limit->header = keep_text(L, set, 8);
    limit->cost = (uint32_t)luaL_checknumber(L, 9);
    limit->status = (uint16_t)luaL_checkinteger(L, 10);
    limit->dry_run = lua_toboolean(L, 11) != 0;
    limit->cluster = lua_toboolean(L, 12) != 0;
    limit->on_error = (uint8_t)luaL_optinteger(
        L, 13, (lua_Integer)vm->options.config->limits_on_store_error);
    limit->salt = moon_limits_salt(set->table, limit->name);
    limit->refusals = refusals_of(vm, limit->name);
    lua_pushinteger(L, (lua_Integer)number);
    return 1;
}

void moon_native_open_limit(lua_State *L)
{
    lua_pushcfunction(L, add_limit);
    lua_setfield(L, -2, "add_limit");
}
