#include "node/builder.h"

#include "vm/budget.h"
#include "vm/memory.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

struct job {
    struct job *next;
    struct moon_release *release;
    struct moon_vm_options options;
    struct moon_vm *vm; /* to close, or the result */
    bool is_build;
    struct moon_buf error;
    moon_builder_built *built;
    void *ctx;
};

struct queue {
    struct job *first, **last;
};

struct moon_builder {
    uv_async_t wake; /* of the loop */
    struct moon_budget *budget;
    pthread_t thread;
    pthread_mutex_t lock; /* guards both queues and `stop` */
    pthread_cond_t more;
    struct queue todo, done;
    bool stop;
    uint32_t pending; /* loop thread only */
    void (*closed)(void *ctx);
    void *closed_ctx;
};

static void push(struct queue *queue, struct job *job)
{
    job->next = NULL;
    *queue->last = job;
    queue->last = &job->next;
}

static struct job *pop(struct queue *queue)
{
    struct job *job = queue->first;
    if (job != NULL && (queue->first = job->next) == NULL)
        queue->last = &queue->first;
    return job;
}

static void run_job(struct job *job, struct moon_watch *watch)
{
    if (job->is_build) {
        job->options.watch = watch;
        job->vm = moon_vm_create(&job->options, &job->error);
        return;
    }
    if (job->vm != NULL)
        moon_vm_destroy(job->vm);
    job->vm = NULL;
    moon_memory_release_pages();
}

static void *builder_main(void *arg)
{
    struct moon_builder *builder = arg;
    struct moon_watch *watch = moon_budget_watch(builder->budget, NULL);
    bool serves = false;
    (void)pthread_mutex_lock(&builder->lock);
    for (;;) {
        struct job *job = pop(&builder->todo);
        if (job == NULL && builder->stop)
            break;
        if (job == NULL) {
            (void)pthread_cond_wait(&builder->more, &builder->lock);
            continue;
        }
        (void)pthread_mutex_unlock(&builder->lock);
        run_job(job, watch);
        /* Loading yields to serving, but for the first time, when there is
         * nothing else to do. On Linux the priority belongs to the thread. */
        if (!serves)
            (void)setpriority(PRIO_PROCESS, (id_t)gettid(), 10);
        serves = true;
        (void)pthread_mutex_lock(&builder->lock);
        push(&builder->done, job);
        (void)uv_async_send(&builder->wake);
    }
    (void)pthread_mutex_unlock(&builder->lock);
    if (watch != NULL)
        moon_budget_unwatch(watch);
    return NULL;
}

static void answer(struct moon_builder *builder, struct job *job)
{
    builder->pending--;
    if (job->is_build)
        job->built(job->ctx, job->vm, moon_buf_str(&job->error));
    moon_release_unref(job->release);
    moon_buf_deinit(&job->error);
    free(job);
}

static void on_wake(uv_async_t *wake)
{
    struct moon_builder *builder = wake->data;
    for (;;) {
        (void)pthread_mutex_lock(&builder->lock);
        struct job *job = pop(&builder->done);
        (void)pthread_mutex_unlock(&builder->lock);
        if (job == NULL)
            return;
        answer(builder, job);
    }
}

enum moon_err moon_builder_create(uv_loop_t *loop, struct moon_budget *budget,
                                  struct moon_builder **out)
{
    struct moon_builder *builder = calloc(1, sizeof(*builder));
    if (builder == NULL)
        return MOON_ENOMEM;
    builder->budget = budget;
    builder->todo.last = &builder->todo.first;
    builder->done.last = &builder->done.first;
    builder->wake.data = builder;
    if (uv_async_init(loop, &builder->wake, on_wake) != 0) {
        free(builder);
        return MOON_ESYS;
    }
    (void)pthread_mutex_init(&builder->lock, NULL);
    (void)pthread_cond_init(&builder->more, NULL);
    if (pthread_create(&builder->thread, NULL, builder_main, builder) != 0) {
        builder->thread = 0;
        moon_builder_destroy(builder, NULL, NULL);
        return MOON_ESYS;
    }
    *out = builder;
    return MOON_OK;
}

static void submit(struct moon_builder *builder, struct job *job)
{
    builder->pending++;
    (void)pthread_mutex_lock(&builder->lock);
    push(&builder->todo, job);
    (void)pthread_cond_signal(&builder->more);
    (void)pthread_mutex_unlock(&builder->lock);
}

enum moon_err moon_builder_build(struct moon_builder *builder,
                                 struct moon_release *release,
                                 const struct moon_vm_options *options,
                                 moon_builder_built *built, void *ctx)
{
    struct job *job = calloc(1, sizeof(*job));
    if (job == NULL)
        return MOON_ENOMEM;
    *job = (struct job){
        .is_build = true, .options = *options, .built = built, .ctx = ctx};
    job->release = moon_release_ref(release);
    submit(builder, job);
    return MOON_OK;
}

void moon_builder_close_vm(struct moon_builder *builder, struct moon_vm *vm,
                           struct moon_release *release)
{
    struct job *job = calloc(1, sizeof(*job));
    if (job == NULL) { /* then the loop waits for it after all */
        moon_vm_destroy(vm);
        moon_release_unref(release);
        return;
    }
    job->vm = vm;
    job->release = release;
    submit(builder, job);
}

void moon_builder_release_pages(struct moon_builder *builder)
{
    struct job *job = calloc(1, sizeof(*job));
    if (job != NULL)
        submit(builder, job);
}

uint32_t moon_builder_pending(const struct moon_builder *builder)
{
    return builder->pending;
}

static void on_closed(uv_handle_t *handle)
{
    struct moon_builder *builder = handle->data;
    (void)pthread_mutex_destroy(&builder->lock);
    (void)pthread_cond_destroy(&builder->more);
    void (*closed)(void *ctx) = builder->closed;
    void *ctx = builder->closed_ctx;
    free(builder);
    if (closed != NULL)
        closed(ctx);
}

void moon_builder_destroy(struct moon_builder *builder,
                          void (*closed)(void *ctx), void *ctx)
{
    if (builder->thread != 0) {
        (void)pthread_mutex_lock(&builder->lock);
        builder->stop = true;
        (void)pthread_cond_signal(&builder->more);
        (void)pthread_mutex_unlock(&builder->lock);
        (void)pthread_join(builder->thread, NULL);
    }
    builder->closed = closed;
    builder->closed_ctx = ctx;
    uv_close((uv_handle_t *)&builder->wake, on_closed);
}
