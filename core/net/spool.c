#include "net/spool.h"

#include "base/buf.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_SIZE = 512 };

struct moon_spool {
    uv_loop_t *loop;
    uv_work_t work;
    struct moon_buf next;    /* added since the write began */
    struct moon_buf writing; /* the pool's while busy */
    int fd;                  /* -1 until opened; the pool's while busy */
    int result;              /* errno of the last write; the pool's likewise */
    int error;               /* errno of what failed */
    bool busy, ended;
    moon_spool_progress *progress;
    void *ctx;
    char dirz[PATH_SIZE];
};

static int open_unlinked(const char *dirz)
{
    int fd = open(dirz, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        return fd;
    /* Not every file system can do that. */
    char pathz[PATH_SIZE + 32];
    (void)snprintf(pathz, sizeof(pathz), "%s/moonshine-XXXXXX", dirz);
    fd = mkostemp(pathz, O_CLOEXEC);
    if (fd >= 0)
        unlink(pathz);
    return fd;
}

/* On the pool: errno, or 0. */
static int write_out(struct moon_spool *spool)
{
    if (spool->fd < 0) {
        spool->fd = open_unlinked(spool->dirz);
        if (spool->fd < 0)
            return errno;
    }
    struct moon_str left = moon_buf_str(&spool->writing);
    while (left.len > 0) {
        ssize_t got = write(spool->fd, left.ptr, left.len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno;
        left.ptr += got;
        left.len -= (size_t)got;
    }
    return 0;
}

static void on_pool(uv_work_t *work)
{
    struct moon_spool *spool = work->data;
    spool->result = write_out(spool);
}

static void spool_free(struct moon_spool *spool)
{
    if (spool->fd >= 0)
        close(spool->fd);
    moon_buf_deinit(&spool->next);
    moon_buf_deinit(&spool->writing);
    free(spool);
}

static void begin(struct moon_spool *spool);

static void after_pool(uv_work_t *work, int status)
{
    struct moon_spool *spool = work->data;
    (void)status; /* never cancelled */
    spool->busy = false;
    spool->writing.len = 0;
    if (spool->ended) {
        spool_free(spool);
        return;
    }
    spool->error = spool->result;
    if (spool->error != 0)
        moon_log(MOON_LOG_ERROR, "cannot spool a request body in %s: %s",
                 spool->dirz, strerror(spool->error));
    else if (spool->next.len > 0)
        begin(spool);
    spool->progress(spool->ctx);
}

static void begin(struct moon_spool *spool)
{
    struct moon_buf idle = spool->writing;
    spool->writing = spool->next;
    spool->next = idle;
    spool->work.data = spool;
    spool->busy = true;
    (void)uv_queue_work(spool->loop, &spool->work, on_pool, after_pool);
}

struct moon_spool *moon_spool_create(uv_loop_t *loop, const char *dirz,
                                     moon_spool_progress *progress, void *ctx)
{
    struct moon_spool *spool = calloc(1, sizeof(*spool));
    if (spool == NULL)
        return NULL;
    spool->loop = loop;
    spool->progress = progress;
    spool->ctx = ctx;
    spool->fd = -1;
    (void)snprintf(spool->dirz, sizeof(spool->dirz), "%s", dirz);
    begin(spool);
    return spool;
}

enum moon_err moon_spool_add(struct moon_spool *spool, struct moon_str piece)
{
    if (spool->error != 0)
        return MOON_ESYS;
    moon_buf_add_str(&spool->next, piece);
    if (spool->next.failed)
        return MOON_ENOMEM;
    if (!spool->busy)
        begin(spool);
    return MOON_OK;
}

size_t moon_spool_pending(const struct moon_spool *spool)
{
    return spool->next.len + spool->writing.len;
}

size_t moon_spool_memory(const struct moon_spool *spool)
{
    return spool->next.cap + spool->writing.cap;
}

enum moon_err moon_spool_state(const struct moon_spool *spool)
{
    if (spool->busy)
        return MOON_EAGAIN;
    return spool->error == 0 ? MOON_OK : MOON_ESYS;
}

void moon_spool_end(struct moon_spool *spool, int *fd)
{
    if (fd != NULL) {
        *fd = spool->fd;
        spool->fd = -1;
    }
    spool->ended = true;
    if (!spool->busy)
        spool_free(spool);
}
