#include "state/lmdb_fence.h"

#include "base/log.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>

static _Thread_local jmp_buf *way_back; /* NULL: no fence */
static _Thread_local struct moon_lmdb_mark *writing;

static struct sigaction bus_before;
static pthread_mutex_t install_lock = PTHREAD_MUTEX_INITIALIZER;

/* The signal is not blocked meanwhile (SA_NODEFER), so that leaving by longjmp
 * needs no system call, nor has setjmp to make one for each read. */
static void on_bus(int sig, siginfo_t *info, void *context)
{
    if (way_back != NULL && info->si_code == BUS_ADRERR)
        longjmp(*way_back, 1);
    if (writing != NULL)
        writing->suspect(writing->ctx);
    if ((bus_before.sa_flags & SA_SIGINFO) != 0)
        bus_before.sa_sigaction(sig, info, context);
    else /* it happens again on return, and ends the process */
        (void)sigaction(SIGBUS, &bus_before, NULL);
}

static void install(void)
{
    struct sigaction now,
        action = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO | SA_NODEFER};
    (void)pthread_mutex_lock(&install_lock);
    if (sigaction(SIGBUS, NULL, &now) == 0 && now.sa_sigaction != on_bus) {
        bus_before = now;
        (void)sigaction(SIGBUS, &action, NULL);
    }
    (void)pthread_mutex_unlock(&install_lock);
}

static void on_assert(MDB_env *env, const char *textz)
{
    if (way_back != NULL)
        longjmp(*way_back, 1);
    struct moon_lmdb_mark *mark = mdb_env_get_userctx(env);
    mark->suspect(mark->ctx);
    moon_log(MOON_LOG_ERROR,
             "sessions: the file is damaged and this process must end, for "
             "LMDB cannot go on: %s",
             textz);
}

void moon_lmdb_fence_set(MDB_env *env, struct moon_lmdb_mark *mark)
{
    install();
    (void)mdb_env_set_userctx(env, mark);
    (void)mdb_env_set_assert(env, on_assert);
}

int moon_lmdb_fenced(int (*run)(void *ctx), void *ctx)
{
    jmp_buf here;
    if (setjmp(here) != 0) {
        way_back = NULL;
        return MDB_CORRUPTED;
    }
    way_back = &here;
    int rc = run(ctx);
    way_back = NULL;
    return rc;
}

void moon_lmdb_fence_begin_write(struct moon_lmdb_mark *mark)
{
    writing = mark;
}

void moon_lmdb_fence_end_write(void)
{
    writing = NULL;
}
