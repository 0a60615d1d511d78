/* What uploads need of the disk, done on the thread pool while the task waits:
 * listing the parts of a spooled form, copying a piece of a body into a file
 * of the application or into a temporary one.
 *
 * A job holds its own descriptor (or copy) of the body, so that it may outlive
 * the request that asked for it. Lua holds the job through a pointer and frees
 * it, in the request's epilogue or when it is collected. Loop thread only. */
#ifndef MOON_VM_FILE_JOB_H
#define MOON_VM_FILE_JOB_H

#include "http/exchange.h"
#include "http/form.h"
#include "vm/work.h"

enum moon_file_job_kind {
    MOON_FILE_JOB_FORM, /* `form` is the result */
    MOON_FILE_JOB_SAVE, /* the range, under its path when it is complete */
    MOON_FILE_JOB_TEMP, /* the range, in an unlinked file: `fd` is the result */
};

/* "moon_job" at the border to Lua (vm/abi.h). */
struct moon_job {
    struct moon_work work;
    enum moon_file_job_kind kind;
    bool done;
    uint16_t status; /* 0, or the status of a failure */
    char textz[256]; /* why it failed */

    int body_fd;          /* owned; -1: the bytes are in memory */
    struct moon_str body; /* owned copy, if body_fd is -1 */
    uint64_t from, len;

    struct moon_form_limits limits;
    char *content_typez; /* owned */
    struct moon_form *form;

    char *pathz; /* owned: where to save, or the directory for TEMP */
    int fd;
    char fd_pathz[48]; /* how others open it */
};

/* NULL: no memory or no descriptor. A form in memory is listed at once. */
MOON_MUST_CHECK struct moon_job *moon_file_job_form(
    struct moon_exchange *x, const struct moon_form_limits *limits);
/* `path` is a file to write, or a directory for a temporary one. */
MOON_MUST_CHECK struct moon_job *moon_file_job_copy(
    struct moon_exchange *x, enum moon_file_job_kind kind, uint64_t from,
    uint64_t len, struct moon_str path);

/* Queues it; as moon_work_start. Not if it is done. */
MOON_MUST_CHECK enum moon_err moon_file_job_start(struct moon_job *job);

#endif
