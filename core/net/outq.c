#include "net/outq.h"

#include "net/sys_io.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    CHUNK_BYTES = 2048,           /* first size of a chunk's memory */
    CHUNK_FULL = 16 * 1024,       /* then another chunk is begun */
    CHUNK_KEEP = 32 * 1024,       /* more memory is not kept in the pool */
    POOL_MAX = 64,                /* idle chunks kept */
    IOV_MAX_USED = 64,            /* pieces of one writev */
    SMALL_FILE = 16 * 1024,       /* read at once instead of sendfile */
    TURN_BYTES = 2 * 1024 * 1024, /* of files, then others have their turn */
    FILE_STEP = 512 * 1024,       /* of one sendfile */
};

struct moon_outchunk {
    struct moon_outchunk *next;
    struct moon_buf buf;
    size_t sent, counted;
    size_t held; /* of its memory, in the pool's sum */
    int fd;      /* -1: memory */
    uint64_t from, left;
};

static struct moon_outchunk *chunk_take(struct moon_outpool *pool)
{
    struct moon_outchunk *chunk = pool->free;
    if (MOON_LIKELY(chunk != NULL)) {
        pool->free = chunk->next;
        pool->count--;
        chunk->next = NULL;
        MOON_UNPOISON(chunk->buf.ptr, chunk->buf.cap);
        return chunk;
    }
    chunk = calloc(1, sizeof(*chunk));
    if (chunk != NULL)
        chunk->fd = -1;
    return chunk;
}

/* Memory beyond what a chunk usually has. */
static void chunk_hold(struct moon_outpool *pool, struct moon_outchunk *chunk)
{
    if (MOON_LIKELY(chunk->buf.cap <= CHUNK_KEEP))
        return;
    pool->held += chunk->buf.cap - chunk->held;
    chunk->held = chunk->buf.cap;
}

static void chunk_give(struct moon_outpool *pool, struct moon_outchunk *chunk)
{
    pool->held -= chunk->held;
    chunk->held = 0;
    if (chunk->fd >= 0)
        close(chunk->fd);
    if (pool->count >= POOL_MAX) {
        moon_buf_deinit(&chunk->buf);
        free(chunk);
        return;
    }
    if (chunk->buf.cap > CHUNK_KEEP || chunk->buf.failed)
        moon_buf_deinit(&chunk->buf);
    chunk->buf.len = 0;
    chunk->sent = chunk->counted = 0;
    chunk->fd = -1;
    MOON_POISON(chunk->buf.ptr, chunk->buf.cap);
    chunk->next = pool->free;
    pool->free = chunk;
    pool->count++;
}

static void append(struct moon_outq *q, struct moon_outchunk *chunk)
{
    if (q->tail == NULL)
        q->head = chunk;
    else
        q->tail->next = chunk;
    q->tail = chunk;
}

static void drop_head(struct moon_outq *q, struct moon_outpool *pool)
{
    struct moon_outchunk *chunk = q->head;
    q->head = chunk->next;
    if (q->head == NULL)
        q->tail = NULL;
    chunk_give(pool, chunk);
}

static struct moon_outchunk *new_chunk(struct moon_outq *q,
                                       struct moon_outpool *pool, size_t bytes)
{
    struct moon_outchunk *chunk = chunk_take(pool);
    if (MOON_UNLIKELY(chunk == NULL))
        return NULL;
    if (MOON_UNLIKELY(bytes > 0 &&
                      moon_buf_reserve(&chunk->buf, bytes) == NULL)) {
        chunk_give(pool, chunk);
        return NULL;
    }
    chunk_hold(pool, chunk);
    append(q, chunk);
    return chunk;
}

uint64_t moon_outq_held(const struct moon_outq *q)
{
    uint64_t held = 0;
    for (const struct moon_outchunk *at = q->head; at != NULL; at = at->next)
        held += at->held;
    return held;
}

struct moon_buf *moon_outq_open(struct moon_outq *q, struct moon_outpool *pool)
{
    struct moon_outchunk *tail = q->tail;
    if (tail == NULL || tail->fd >= 0 || tail->buf.len >= CHUNK_FULL)
        tail = new_chunk(q, pool, CHUNK_BYTES);
    return tail == NULL ? NULL : &tail->buf;
}

enum moon_err moon_outq_commit(struct moon_outq *q, struct moon_outpool *pool)
{
    struct moon_outchunk *tail = q->tail;
    if (MOON_UNLIKELY(tail->buf.failed))
        return MOON_ENOMEM;
    chunk_hold(pool, tail);
    q->queued += tail->buf.len - tail->counted;
    tail->counted = tail->buf.len;
    return MOON_OK;
}

enum moon_err moon_outq_add(struct moon_outq *q, struct moon_outpool *pool,
                            struct moon_str bytes)
{
    if (bytes.len == 0)
        return MOON_OK;
    /* A large piece gets a chunk of its size, instead of growing one. */
    if (bytes.len > CHUNK_FULL && new_chunk(q, pool, bytes.len) == NULL)
        return MOON_ENOMEM;
    struct moon_buf *buf =
        bytes.len > CHUNK_FULL ? &q->tail->buf : moon_outq_open(q, pool);
    if (MOON_UNLIKELY(buf == NULL))
        return MOON_ENOMEM;
    moon_buf_add_str(buf, bytes);
    return moon_outq_commit(q, pool);
}

/* A piece that fits a chunk is read now: cheaper than a sendfile, and the
 * descriptor is free again. */
static enum moon_err add_small_file(struct moon_outq *q,
                                    struct moon_outpool *pool, int fd,
                                    uint64_t from, size_t length)
{
    struct moon_buf *buf = moon_outq_open(q, pool);
    char *to = buf == NULL ? NULL : moon_buf_reserve(buf, length);
    if (to == NULL)
        return MOON_ENOMEM;
    size_t have = 0;
    while (have < length) {
        ssize_t n = pread(fd, to + have, length - have, (off_t)(from + have));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return MOON_ESYS; /* cannot be read, or shorter than announced */
        have += (size_t)n;
    }
    buf->len += length;
    return moon_outq_commit(q, pool);
}

enum moon_err moon_outq_add_file(struct moon_outq *q, struct moon_outpool *pool,
                                 int fd, uint64_t from, uint64_t length)
{
    if (length <= SMALL_FILE) {
        enum moon_err err =
            length == 0 ? MOON_OK
                        : add_small_file(q, pool, fd, from, (size_t)length);
        close(fd);
        return err;
    }
    struct moon_outchunk *chunk = new_chunk(q, pool, 0);
    if (chunk == NULL) {
        close(fd);
        return MOON_ENOMEM;
    }
    chunk->fd = fd;
    chunk->from = from;
    chunk->left = length;
    q->queued += length;
    return MOON_OK;
}

static enum moon_err peer_error(void)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return MOON_EAGAIN;
    if (errno == EPIPE || errno == ECONNRESET || errno == ETIMEDOUT ||
        errno == ENOTCONN || errno == EHOSTUNREACH || errno == ENETUNREACH)
        return MOON_ECLOSED;
    return moon_err_from_errno(errno);
}

/* Takes `n` written bytes off the memory chunks at the head. */
static void advance(struct moon_outq *q, struct moon_outpool *pool, size_t n)
{
    q->sent += n;
    while (q->head != NULL && q->head->fd < 0) {
        struct moon_outchunk *chunk = q->head;
        size_t left = chunk->buf.len - chunk->sent;
        if (n < left) {
            chunk->sent += n;
            return;
        }
        n -= left;
        drop_head(q, pool);
    }
}

/* The usual case: all that waits is in one chunk. */
static enum moon_err write_only_chunk(struct moon_outq *q,
                                      struct moon_outpool *pool, int fd)
{
    struct moon_outchunk *chunk = q->head;
    size_t left = chunk->buf.len - chunk->sent;
    ssize_t n;
    do {
        n = moon_sys_write(fd, chunk->buf.ptr + chunk->sent, left);
    } while (n < 0 && errno == EINTR);
    if (MOON_UNLIKELY(n < 0))
        return peer_error();
    q->sent += (size_t)n;
    chunk->sent += (size_t)n;
    if (MOON_UNLIKELY((size_t)n != left))
        return MOON_EAGAIN;
    q->head = q->tail = NULL;
    chunk_give(pool, chunk);
    return MOON_OK;
}

/* The memory at the head as pieces for the system: how many, and *total bytes.
 * Returns the chunk behind them. */
static struct moon_outchunk *gather(const struct moon_outq *q,
                                    struct iovec iov[IOV_MAX_USED], int *count,
                                    size_t *total)
{
    struct moon_outchunk *at = q->head;
    *count = 0;
    *total = 0;
    for (; at != NULL && at->fd < 0 && *count < IOV_MAX_USED; at = at->next) {
        iov[*count].iov_base = at->buf.ptr + at->sent;
        iov[*count].iov_len = at->buf.len - at->sent;
        *total += iov[*count].iov_len;
        (*count)++;
    }
    return at;
}

static ssize_t write_pieces(int fd, const struct iovec *iov, int count)
{
    ssize_t n;
    do {
        n = writev(fd, iov, count);
    } while (n < 0 && errno == EINTR);
    return n;
}

MOON_APART static enum moon_err write_memory(struct moon_outq *q,
                                             struct moon_outpool *pool, int fd)
{
    struct iovec iov[IOV_MAX_USED];
    int count;
    size_t total;
    ssize_t n;
    if (MOON_UNLIKELY(gather(q, iov, &count, &total) != NULL)) {
        /* More follows at once: let the kernel fill its packets. */
        struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)count};
        do {
            n = sendmsg(fd, &msg, MSG_MORE | MSG_NOSIGNAL);
        } while (n < 0 && errno == EINTR);
    } else {
        n = write_pieces(fd, iov, count);
    }
    if (n < 0)
        return peer_error();
    advance(q, pool, (size_t)n);
    return (size_t)n == total ? MOON_OK : MOON_EAGAIN;
}

enum moon_err moon_outq_add_through(struct moon_outq *q,
                                    struct moon_outpool *pool, int to,
                                    struct moon_str bytes)
{
    struct iovec iov[IOV_MAX_USED + 1];
    int count;
    size_t waiting;
    if (gather(q, iov, &count, &waiting) != NULL)
        return moon_outq_add(q, pool, bytes);
    iov[count].iov_base = (void *)(uintptr_t)bytes.ptr; /* only read */
    iov[count].iov_len = bytes.len;
    ssize_t n = write_pieces(to, iov, count + 1);
    if (n <= 0)
        return moon_outq_add(q, pool, bytes);
    size_t through = (size_t)n > waiting ? (size_t)n - waiting : 0;
    advance(q, pool, (size_t)n - through);
    q->queued += through;
    q->sent += through;
    return moon_outq_add(q, pool,
                         moon_str(bytes.ptr + through, bytes.len - through));
}

/* For file systems and sockets that sendfile does not join: a piece is copied
 * through memory, in front of the rest of the file. */
static enum moon_err copy_file_piece(struct moon_outq *q,
                                     struct moon_outpool *pool)
{
    struct moon_outchunk *file = q->head;
    size_t want = file->left < CHUNK_FULL ? (size_t)file->left : CHUNK_FULL;
    struct moon_outchunk *copy = chunk_take(pool);
    char *to = copy == NULL ? NULL : moon_buf_reserve(&copy->buf, want);
    if (to == NULL) {
        if (copy != NULL)
            chunk_give(pool, copy);
        return MOON_ENOMEM;
    }
    ssize_t n = pread(file->fd, to, want, (off_t)file->from);
    if (n <= 0) {
        chunk_give(pool, copy);
        return n < 0 ? moon_err_from_errno(errno) : MOON_ESYS;
    }
    copy->buf.len = copy->counted = (size_t)n;
    file->from += (uint64_t)n;
    file->left -= (uint64_t)n;
    copy->next = file;
    q->head = copy;
    return MOON_OK;
}

MOON_APART static enum moon_err write_file(struct moon_outq *q,
                                           struct moon_outpool *pool, int fd,
                                           size_t *share)
{
    struct moon_outchunk *file = q->head;
    if (file->left == 0) {
        drop_head(q, pool);
        return MOON_OK;
    }
    if (*share == 0)
        return MOON_EAGAIN;
    size_t want = file->left < FILE_STEP ? (size_t)file->left : FILE_STEP;
    off_t from = (off_t)file->from;
    ssize_t n = sendfile(fd, file->fd, &from, want);
    if (n < 0) {
        if (errno == EINTR)
            return MOON_OK;
        if (errno == EINVAL || errno == ENOSYS)
            return copy_file_piece(q, pool);
        return peer_error();
    }
    if (n == 0)
        return MOON_ESYS; /* the file became shorter: cannot keep our word */
    file->from += (uint64_t)n;
    file->left -= (uint64_t)n;
    q->sent += (uint64_t)n;
    *share -= (size_t)n < *share ? (size_t)n : *share;
    return MOON_OK;
}

enum moon_err moon_outq_write(struct moon_outq *q, struct moon_outpool *pool,
                              int fd)
{
    size_t share = TURN_BYTES;
    while (q->head != NULL) {
        enum moon_err err;
        if (MOON_UNLIKELY(q->head->fd >= 0))
            err = write_file(q, pool, fd, &share);
        else if (MOON_LIKELY(q->head->next == NULL))
            err = write_only_chunk(q, pool, fd);
        else
            err = write_memory(q, pool, fd);
        if (MOON_UNLIKELY(err != MOON_OK))
            return err;
    }
    return MOON_OK;
}

void moon_outq_clear(struct moon_outq *q, struct moon_outpool *pool)
{
    while (q->head != NULL)
        drop_head(q, pool);
}

void moon_outpool_deinit(struct moon_outpool *pool)
{
    while (pool->free != NULL) {
        struct moon_outchunk *chunk = pool->free;
        pool->free = chunk->next;
        moon_buf_deinit(&chunk->buf);
        free(chunk);
    }
    pool->count = 0;
}
