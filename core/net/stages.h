/* The stages in C that every response passes: request id, security headers,
 * CORS; and the access log line at its end. Configured per scope by the app;
 * what a scope leaves unset its parent decides. */
#ifndef MOON_NET_STAGES_H
#define MOON_NET_STAGES_H

#include "base/config.h"
#include "http/exchange.h"

/* Makes the request id (128 random bits, 32 hex digits), or takes the one of a
 * trusted proxy ([A-Za-z0-9._-]{8,128}), and sets the response
 * headers that do not depend on the answer. Scope and path must be set. */
MOON_MUST_CHECK enum moon_err moon_stages_begin(struct moon_exchange *x);

/* True when the request is a CORS preflight of a scope with CORS: the headers
 * are set, the answer is an empty 204. */
bool moon_stages_preflight(struct moon_exchange *x);

/* One line, if the scope and the configuration want one; a warning in its
 * place if the request took log.slow or longer. */
void moon_stages_log(struct moon_exchange *x, const struct moon_config *config);

#endif
