/* What waits to be written to one connection: memory and pieces of files, in
 * order. Memory is collected in pooled chunks, so that pipelined answers leave
 * in one writev; files go by sendfile.
 *
 * A queue is part of its connection; the pool belongs to the server and must
 * outlive all queues that use it. One thread. */
#ifndef MOON_NET_OUTQ_H
#define MOON_NET_OUTQ_H

#include "base/buf.h"
#include "base/errcode.h"

struct moon_outchunk;

struct moon_outpool {
    struct moon_outchunk *free;
    uint32_t count;
    uint64_t held; /* bytes of large chunks in queues: answers that wait */
};

struct moon_outq {
    struct moon_outchunk *head, *tail;
    uint64_t queued, sent; /* bytes since the connection began */
};

static inline uint64_t moon_outq_pending(const struct moon_outq *q)
{
    return q->queued - q->sent;
}

/* Of pool->held, what is in this queue. */
uint64_t moon_outq_held(const struct moon_outq *q);

/* The buffer at the end, to append to; NULL when memory is out. Only until
 * the next call on this queue, and moon_outq_commit must follow. */
MOON_MUST_CHECK struct moon_buf *moon_outq_open(struct moon_outq *q,
                                                struct moon_outpool *pool);
/* Counts what was appended; MOON_ENOMEM if the buffer failed. */
MOON_MUST_CHECK enum moon_err moon_outq_commit(struct moon_outq *q,
                                               struct moon_outpool *pool);

/* Copies. */
MOON_MUST_CHECK enum moon_err moon_outq_add(struct moon_outq *q,
                                            struct moon_outpool *pool,
                                            struct moon_str bytes);
/* Writes what waits and these to the socket `to`, in one call; copies what the
 * kernel does not take, and all of them if a file waits before them. What is
 * wrong with the socket the next moon_outq_write will say. */
MOON_MUST_CHECK enum moon_err moon_outq_add_through(struct moon_outq *q,
                                                    struct moon_outpool *pool,
                                                    int to,
                                                    struct moon_str bytes);
/* Takes `fd` in any case. Small pieces are read at once. */
MOON_MUST_CHECK enum moon_err moon_outq_add_file(struct moon_outq *q,
                                                 struct moon_outpool *pool,
                                                 int fd, uint64_t from,
                                                 uint64_t length);

/* Writes until all is gone (MOON_OK), the kernel takes no more or this
 * connection had its share of the turn (MOON_EAGAIN), or it cannot go on:
 * MOON_ECLOSED by the peer, another error for a file that cannot be read. */
MOON_MUST_CHECK enum moon_err moon_outq_write(struct moon_outq *q,
                                              struct moon_outpool *pool,
                                              int fd);
/* Drops what is left. */
void moon_outq_clear(struct moon_outq *q, struct moon_outpool *pool);
void moon_outpool_deinit(struct moon_outpool *pool);

#endif
