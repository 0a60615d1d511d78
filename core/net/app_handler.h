/* Answers requests with the application: routes them, answers in C what needs
 * no Lua (404, 405, OPTIONS, redirects, limits, static files, liveness), runs
 * the rest on the current generation, logs and counts.
 *
 * One per worker; owns nothing but itself. Generations belong to the worker,
 * which must keep one alive while its `exchanges` is not 0. */
#ifndef MOON_NET_APP_HANDLER_H
#define MOON_NET_APP_HANDLER_H

#include "net/generation.h"
#include "net/overload.h"
#include "net/server.h"

struct moon_app_handler;

struct moon_app_handler_options {
    /* /-/ready: NULL if ready, else static text that says why not. */
    const char *(*not_ready)(void *ctx);
    void *ctx;
    bool dev;
};

MOON_MUST_CHECK struct moon_app_handler *moon_app_handler_create(
    const struct moon_app_handler_options *options);
void moon_app_handler_destroy(struct moon_app_handler *handler);

/* For moon_server_create; valid as long as the handler. */
const struct moon_handler *moon_app_handler_ops(
    struct moon_app_handler *handler);

/* New requests run on it from now on. Borrowed. */
void moon_app_handler_set_generation(struct moon_app_handler *handler,
                                     struct moon_generation *generation);

/* --dev: the code on disk does not load; every request is answered with this
 * text, and what else is known (JSON, may be empty; both copied), until it is
 * set to empty. */
void moon_app_handler_set_broken(struct moon_app_handler *handler,
                                 struct moon_str text, struct moon_str facts);

/* At which lag requests are refused; 0: at none. */
void moon_app_handler_set_shed_lag(struct moon_app_handler *handler,
                                   uint64_t shed_lag_ms);
/* As moon_overload_beat, which see. */
bool moon_app_handler_beat(struct moon_app_handler *handler,
                           const struct moon_turn *turn);
bool moon_app_handler_is_overloaded(const struct moon_app_handler *handler);

/* The server's settings out of a configuration. */
void moon_app_server_config(const struct moon_config *config,
                            struct moon_server_config *out);

#endif
