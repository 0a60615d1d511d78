/* The meta commands of memcached 1.6 (doc/protocol.txt): their replies as
 * data. */
#ifndef MOON_STATE_MEMCACHED_PROTO_H
#define MOON_STATE_MEMCACHED_PROTO_H

#include "state/wire.h"

enum moon_memcached_status {
    MOON_MEMCACHED_STORED,  /* HD, MN: done */
    MOON_MEMCACHED_VALUE,   /* VA: the item */
    MOON_MEMCACHED_MISS,    /* EN, NF: there is none */
    MOON_MEMCACHED_CHANGED, /* EX: its cas is another */
    MOON_MEMCACHED_REFUSED, /* NS: not stored, there is one already */
    MOON_MEMCACHED_ERROR,   /* ERROR, CLIENT_ERROR, SERVER_ERROR */
};

struct moon_memcached_reply {
    enum moon_memcached_status status;
    uint64_t cas;          /* of a value that was asked for with "c" */
    struct moon_str value; /* the item; of an error: the line */
    char bytes[];
};

extern const struct moon_wire_codec moon_memcached_codec;

#endif
