/* --dev: what every request is answered while the code on disk does not load,
 * instead of the old code's answer: the error.
 *
 * Owned by the application handler; loop thread. */
#ifndef MOON_NET_BROKEN_H
#define MOON_NET_BROKEN_H

#include "http/exchange.h"

struct moon_broken {
    struct moon_buf text;  /* empty: the code loads */
    struct moon_buf facts; /* JSON (vm/dev_report.h) */
    struct moon_buf page;  /* HTML made of them; empty if that failed */
};

static inline bool moon_broken_is(const struct moon_broken *broken)
{
    return broken->text.len > 0;
}

/* `facts` may be empty: then they are made of the text. Both are copied. Empty
 * text: the code loads again. */
void moon_broken_set(struct moon_broken *broken, struct moon_str text,
                     struct moon_str facts);
void moon_broken_deinit(struct moon_broken *broken);

void moon_broken_answer(struct moon_exchange *x,
                        const struct moon_broken *broken);

#endif
