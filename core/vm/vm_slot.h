/* The place of a request in a VM: what a Lua handle points at.
 *
 * Slots are never freed before the VM, so a handle kept too long finds an
 * empty slot (or another request, which the context's own check excludes)
 * instead of freed memory. */
#ifndef MOON_VM_SLOT_H
#define MOON_VM_SLOT_H

#include "http/exchange.h"

struct moon_slot {
    struct moon_exchange *x; /* NULL: empty */
    uint32_t number;
    struct moon_slot *next_free;
};

#endif
