/* Shared by the vm_api_*.c files: from a slot to the exchange in it.
 *
 * All on the loop thread, from inside the gate. None of these functions
 * raises, yields or touches a lua_State (vm/abi.h has the rules). */
#ifndef MOON_VM_VM_API_H
#define MOON_VM_VM_API_H

#include "http/exchange.h"
#include "vm/abi.h"
#include "vm/vm_slot.h"

/* NULL once the request is over. */
static inline struct moon_exchange *moon_slot_x(const moon_slot *slot)
{
    return slot == NULL ? NULL : slot->x;
}

static inline moon_bytes moon_bytes_of(struct moon_str s)
{
    return (moon_bytes){.ptr = s.ptr, .len = s.len};
}

/* Referenced by vm_native.c so that the linker keeps each file's functions,
 * which only ffi.C looks up. */
void moon_api_request_keep(void);
void moon_api_form_keep(void);
void moon_api_limit_keep(void);
void moon_api_session_keep(void);
void moon_api_shared_keep(void);
void moon_api_response_keep(void);
void moon_api_stream_keep(void);
void moon_api_log_keep(void);
void moon_api_negotiate_keep(void);
void moon_api_test_keep(void);
void moon_api_util_keep(void);
void moon_api_metrics_keep(void);
void moon_api_password_keep(void);
/* Also starts libsodium, once a process; false if that fails. */
bool moon_api_crypto_keep(void);

#endif
