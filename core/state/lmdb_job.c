#include "state/lmdb_job.h"

#include <stdlib.h>

struct moon_lmdb_job *moon_lmdb_job_create(enum moon_lmdb_job_kind kind,
                                           struct moon_str tail)
{
    struct moon_lmdb_job *job = malloc(sizeof(*job) + tail.len);
    if (job == NULL)
        return NULL;
    *job =
        (struct moon_lmdb_job){.kind = kind, .bytes = sizeof(*job) + tail.len};
    if (tail.len > 0)
        memcpy(job + 1, tail.ptr, tail.len);
    job->subject = moon_str((const char *)(job + 1), tail.len);
    return job;
}

void moon_lmdb_job_free(struct moon_lmdb_job *job)
{
    if (job == NULL)
        return;
    free(job->change);
    free(job);
}

void moon_lmdb_queue_append(struct moon_lmdb_queue *queue,
                            struct moon_lmdb_job *job)
{
    job->next = NULL;
    job->before = queue->last;
    *(queue->last != NULL ? &queue->last->next : &queue->first) = job;
    queue->last = job;
    queue->count++;
    queue->bytes += job->bytes;
}

void moon_lmdb_queue_prepend(struct moon_lmdb_queue *queue,
                             struct moon_lmdb_job *job)
{
    job->before = NULL;
    job->next = queue->first;
    *(queue->first != NULL ? &queue->first->before : &queue->last) = job;
    queue->first = job;
    queue->count++;
    queue->bytes += job->bytes;
}

void moon_lmdb_queue_remove(struct moon_lmdb_queue *queue,
                            struct moon_lmdb_job *job)
{
    *(job->before != NULL ? &job->before->next : &queue->first) = job->next;
    *(job->next != NULL ? &job->next->before : &queue->last) = job->before;
    queue->count--;
    queue->bytes -= job->bytes;
}

struct moon_lmdb_job *moon_lmdb_queue_take(struct moon_lmdb_queue *queue)
{
    struct moon_lmdb_job *job = queue->first;
    if (job != NULL)
        moon_lmdb_queue_remove(queue, job);
    return job;
}
