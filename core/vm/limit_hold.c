#include "vm/limit_hold.h"

#include <stdlib.h>

struct moon_limit_hold *moon_limit_hold_create(struct moon_exchange *x,
                                               struct moon_limit_set *set,
                                               uint32_t room)
{
    struct moon_limit_hold *hold =
        calloc(1, sizeof(*hold) + room * sizeof(hold->parts[0]));
    if (hold == NULL)
        return NULL;
    hold->set = set;
    hold->next = x->limits;
    x->limits = hold;
    return hold;
}

void moon_limit_release(struct moon_exchange *x)
{
    while (x->limits != NULL) {
        struct moon_limit_hold *hold = x->limits;
        x->limits = hold->next;
        for (uint32_t i = 0; i < hold->count; i++)
            moon_limits_give(hold->set->table, hold->parts[i].claim.key,
                             hold->parts[i].result.lease);
        free(hold);
    }
}
