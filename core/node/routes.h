/* The table that `moonshine routes` prints: one line a route, aligned. */
#ifndef MOON_NODE_ROUTES_H
#define MOON_NODE_ROUTES_H

#include "http/app.h"

#include <stdio.h>

void moon_routes_print(const struct moon_app *app, FILE *out);

#endif
