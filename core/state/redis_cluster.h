/* The map of a cluster: which master has which slot.
 *
 * Read by CLUSTER SLOTS from any node that answers, when the client starts,
 * when a node points elsewhere (MOVED) and while one is down; one question at a
 * time, however many want it. Makes a node for each master and drops those
 * that are masters no more.
 *
 * Owned by its client. Private to state/redis*. */
#ifndef MOON_STATE_REDIS_CLUSTER_H
#define MOON_STATE_REDIS_CLUSTER_H

#include "state/redis_internal.h"

struct moon_redis_node;

/* Asks for the map. NULL: no memory. */
MOON_MUST_CHECK struct moon_redis_cluster *moon_redis_cluster_create(
    struct moon_redis *redis);
/* Freed when its link is gone. NULL is fine. */
void moon_redis_cluster_destroy(struct moon_redis_cluster *cluster);

/* As moon_redis_route. */
enum moon_err moon_redis_cluster_route(struct moon_redis_cluster *cluster,
                                       int slot, struct moon_redis_node **node);
/* Reads the map again, soon. */
void moon_redis_cluster_refresh(struct moon_redis_cluster *cluster);
/* "MOVED 3999 127.0.0.1:6381", said by `by`: the slot is there from now on.
 * "ASK ...": this once. The node it points to, which may be new; NULL if it
 * points nowhere. */
struct moon_redis_node *moon_redis_cluster_follow(
    struct moon_redis_cluster *cluster, const struct moon_redis_node *by,
    struct moon_str text);
/* All masters of the map can be asked; else *whyz says why not, borrowed until
 * the loop runs again. */
bool moon_redis_cluster_is_up(const struct moon_redis_cluster *cluster,
                              const char **whyz);

#endif
