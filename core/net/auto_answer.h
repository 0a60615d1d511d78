/* Answers that need no Lua: errors, OPTIONS, redirects, static files. */
#ifndef MOON_NET_AUTO_ANSWER_H
#define MOON_NET_AUTO_ANSWER_H

#include "http/exchange.h"

/* Answers with an error status: the scope's fixed body if it has one, else the
 * built-in one. Returns false, and sets x->chain and x->auto_status, when the
 * scope wants to answer it in Lua; the caller then runs that. */
bool moon_auto_error(struct moon_exchange *x, int status, const char *detailz);

/* The same, but what the scope would do in Lua is not asked for. */
void moon_auto_error_in_c(struct moon_exchange *x, int status,
                          const char *detailz);

/* A path without a route for this method: 404, 405, OPTIONS, 308. False as
 * above. */
bool moon_auto_no_route(struct moon_exchange *x);

/* A static directory's route. False as above. */
bool moon_auto_static(struct moon_exchange *x);

/* Plain text, for the built-in endpoints. */
void moon_auto_text(struct moon_exchange *x, int status, struct moon_str text);

#endif
