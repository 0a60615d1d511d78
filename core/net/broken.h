/* --dev: what every request is answered while the code on disk does not load,
 * instead of the old code's answer: the error. */
#ifndef MOON_NET_BROKEN_H
#define MOON_NET_BROKEN_H

#include "http/exchange.h"

void moon_broken_answer(struct moon_exchange *x, struct moon_str error);

#endif
