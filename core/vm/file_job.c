#include "vm/file_job.h"

#include "base/buf.h"
#include "base/random.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* The rest of the pool's four threads is for others. */
enum {
    RUN_MAX = 2,
    WAIT_MAX = 256,
    COPY_BYTES = 256 * 1024,
    ROUND_MAX = 16384, /* descriptors of temporary files until one is again */
};

static _Thread_local struct moon_work_lane lane = {.max_running = RUN_MAX,
                                                   .max_waiting = WAIT_MAX};

static void fail_errno(struct moon_job *job, const char *whatz,
                       const char *pathz, int error)
{
    job->status = error == ENOMEM ? 503 : 500;
    (void)snprintf(job->textz, sizeof(job->textz), "%s %s: %s", whatz, pathz,
                   strerror(error));
}

/* ---- listing a form ---- */

static void list_form(struct moon_job *job, struct moon_str body)
{
    struct moon_form_error error;
    job->form = moon_form_read(moon_strz(job->content_typez), body,
                               &job->limits, &error);
    if (job->form != NULL)
        return;
    job->status = error.status;
    (void)snprintf(job->textz, sizeof(job->textz), "%s", error.textz);
}

static void list_spooled_form(struct moon_job *job)
{
    size_t len = (size_t)job->len;
    if (len == 0) {
        list_form(job, MOON_STR_NONE);
        return;
    }
    void *bytes = mmap(NULL, len, PROT_READ, MAP_PRIVATE, job->body_fd, 0);
    if (bytes == MAP_FAILED) {
        fail_errno(job, "cannot read", "the form", errno);
        return;
    }
    (void)madvise(bytes, len, MADV_SEQUENTIAL);
    list_form(job, moon_str(bytes, len));
    (void)munmap(bytes, len);
}

/* ---- copying a range ---- */

static int write_all(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t got = write(fd, bytes, len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno;
        bytes += got;
        len -= (size_t)got;
    }
    return 0;
}

/* In the kernel, and without copying where the file system can share blocks;
 * not every pair of files can. */
static bool copy_in_kernel(int from, off_t *at, int to, uint64_t *left)
{
    while (*left > 0) {
        size_t want = *left > (1u << 30) ? 1u << 30 : (size_t)*left;
        ssize_t got = copy_file_range(from, at, to, NULL, want, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        *left -= (uint64_t)got;
    }
    return true;
}

static int copy_by_hand(int from, off_t at, int to, uint64_t left)
{
    char *piece = malloc(COPY_BYTES);
    int error = piece == NULL ? ENOMEM : 0;
    while (left > 0 && error == 0) {
        size_t want = left > COPY_BYTES ? COPY_BYTES : (size_t)left;
        ssize_t got = pread(from, piece, want, at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            error = got < 0 ? errno : EIO;
            break;
        }
        error = write_all(to, piece, (size_t)got);
        at += got;
        left -= (uint64_t)got;
    }
    free(piece);
    return error;
}

static int copy_range(const struct moon_job *job, int to)
{
    if (job->body_fd < 0)
        return write_all(to, job->body.ptr, job->body.len);
    off_t at = (off_t)job->from;
    uint64_t left = job->len;
    if (copy_in_kernel(job->body_fd, &at, to, &left))
        return 0;
    return copy_by_hand(job->body_fd, at, to, left);
}

/* Beside the destination, then renamed over it: nobody ever sees half a
 * file. */
static void save(struct moon_job *job)
{
    struct moon_buf part = {0};
    uint64_t random;
    moon_random_bytes(&random, sizeof(random));
    moon_buf_printf(&part, "%s.%016llx.part", job->pathz,
                    (unsigned long long)random);
    moon_buf_add_char(&part, '\0');
    if (part.failed) {
        fail_errno(job, "cannot save", job->pathz, ENOMEM);
        return;
    }
    int fd = open(part.ptr, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) {
        fail_errno(job, "cannot save", job->pathz, errno);
    } else {
        int error = copy_range(job, fd);
        if (close(fd) != 0 && error == 0)
            error = errno;
        if (error == 0 && rename(part.ptr, job->pathz) != 0)
            error = errno;
        if (error != 0) {
            (void)unlink(part.ptr);
            fail_errno(job, "cannot save", job->pathz, error);
        }
    }
    moon_buf_deinit(&part);
}

/* An application may keep the path for longer than it has the file. The numbers
 * of descriptors are given out again at once, lowest first, and the same path
 * would lead to the next user's file; so these go round, high above the others,
 * as far as the limit lets them. */
static int move_up(int fd)
{
    static _Atomic unsigned turn;
    struct rlimit files;
    if (fd < 0 || getrlimit(RLIMIT_NOFILE, &files) < 0)
        return fd;
    rlim_t room =
        files.rlim_cur / 4 < ROUND_MAX ? files.rlim_cur / 4 : ROUND_MAX;
    if (room == 0)
        return fd;
    unsigned place = atomic_fetch_add(&turn, 1) % (unsigned)room;
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, (int)room + (int)place);
    if (moved < 0)
        return fd;
    (void)close(fd);
    return moved;
}

/* Others open it through /proc, as long as the job holds it. */
static void make_temp(struct moon_job *job)
{
    job->fd = move_up(open(job->pathz, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    int error = job->fd < 0 ? errno : copy_range(job, job->fd);
    if (error != 0) {
        fail_errno(job, "cannot make a temporary file in", job->pathz, error);
        return;
    }
    (void)snprintf(job->fd_pathz, sizeof(job->fd_pathz), "/proc/%d/fd/%d",
                   (int)getpid(), job->fd);
}

/* ---- the job ---- */

static void run(struct moon_work *work)
{
    struct moon_job *job = MOON_CONTAINER(work, struct moon_job, work);
    switch (job->kind) {
    case MOON_FILE_JOB_FORM:
        list_spooled_form(job);
        break;
    case MOON_FILE_JOB_SAVE:
        save(job);
        break;
    case MOON_FILE_JOB_TEMP:
        make_temp(job);
        break;
    }
    job->done = true;
}

static void destroy(struct moon_work *work)
{
    struct moon_job *job = MOON_CONTAINER(work, struct moon_job, work);
    if (job->body_fd >= 0)
        (void)close(job->body_fd);
    if (job->fd >= 0)
        (void)close(job->fd);
    free(job->form);
    free(job->content_typez);
    free(job->pathz);
    free(job); /* a copy of the body lies behind it */
}

/* With the range of the body: a descriptor of its own, or (small) a copy. */
static struct moon_job *make(const struct moon_exchange *x,
                             enum moon_file_job_kind kind, uint64_t from,
                             uint64_t len)
{
    bool copy = x->body.fd < 0 && kind != MOON_FILE_JOB_FORM;
    struct moon_job *job = calloc(1, sizeof(*job) + (copy ? (size_t)len : 0));
    if (job == NULL)
        return NULL;
    moon_work_init(&job->work, run, destroy, 0);
    job->kind = kind;
    job->from = from;
    job->len = len;
    job->fd = job->body_fd = -1;
    if (copy) {
        char *bytes = (char *)(job + 1);
        memcpy(bytes, x->body.bytes.ptr + from, (size_t)len);
        job->body = moon_str(bytes, (size_t)len);
    } else if (x->body.fd >= 0) {
        job->body_fd = fcntl(x->body.fd, F_DUPFD_CLOEXEC, 3);
        if (job->body_fd < 0) {
            moon_work_release(&job->work);
            return NULL;
        }
    }
    return job;
}

struct moon_job *moon_file_job_form(struct moon_exchange *x,
                                    const struct moon_form_limits *limits)
{
    struct moon_str type = MOON_STR_NONE;
    struct moon_job *job = make(x, MOON_FILE_JOB_FORM, 0, x->body.size);
    if (job == NULL)
        return NULL;
    (void)moon_request_header(&x->req, MOON_STR("content-type"), 0, &type);
    job->limits = *limits;
    job->content_typez = strndup(type.ptr == NULL ? "" : type.ptr, type.len);
    if (job->content_typez == NULL) {
        moon_work_release(&job->work);
        return NULL;
    }
    if (job->body_fd < 0) {
        list_form(job, x->body.bytes);
        job->done = true;
    }
    return job;
}

struct moon_job *moon_file_job_copy(struct moon_exchange *x,
                                    enum moon_file_job_kind kind, uint64_t from,
                                    uint64_t len, struct moon_str path)
{
    if (from > x->body.size || len > x->body.size - from)
        return NULL;
    struct moon_job *job = make(x, kind, from, len);
    if (job == NULL)
        return NULL;
    job->pathz = strndup(path.ptr, path.len);
    if (job->pathz == NULL) {
        moon_work_release(&job->work);
        return NULL;
    }
    return job;
}

enum moon_err moon_file_job_start(struct moon_job *job)
{
    return moon_work_start(&lane, &job->work,
                           job->kind == MOON_FILE_JOB_FORM ? "form" : "file");
}
