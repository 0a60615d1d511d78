#include "faults.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <unwind.h>

static struct fault_table *table;
static void *own_base; /* of this library */
static int child_no;   /* 0: the first process */
/* Calls that are made in here have no faults. */
static __thread bool inside __attribute__((tls_model("initial-exec")));

void *fault_next(const char *namez)
{
    void *at = dlsym(RTLD_NEXT, namez);
    if (at == NULL)
        abort();
    return at;
}

static void count_fork(void)
{
    child_no = (int)atomic_fetch_add(&table->forks, 1) + 1;
}

__attribute__((constructor)) static void map_table(void)
{
    const char *pathz = getenv("FAULTS_FILE");
    if (pathz == NULL)
        return;
    inside = true;
    long fd = syscall(SYS_openat, AT_FDCWD, pathz, O_RDWR | O_CLOEXEC);
    if (fd >= 0) {
        void *at = mmap(NULL, sizeof(*table), PROT_READ | PROT_WRITE,
                        MAP_SHARED, (int)fd, 0);
        (void)close((int)fd);
        Dl_info own;
        if (dladdr((void *)(uintptr_t)map_table, &own) != 0)
            own_base = own.dli_fbase;
        if (at != MAP_FAILED)
            table = at;
    }
    inside = false;
    if (table == NULL)
        return;
    uint32_t none = 0;
    if (!atomic_compare_exchange_strong(&table->first, &none,
                                        (uint32_t)getpid()))
        count_fork(); /* executed by one of the node's processes */
    (void)pthread_atfork(NULL, NULL, count_fork);
}

static bool is_whose(int who)
{
    switch (who) {
    case FAULT_ANYBODY:
        return true;
    case FAULT_FIRST:
        return child_no == 0;
    case FAULT_CHILDREN:
        return child_no != 0;
    default:
        return who > 0 ? who == getpid() : who == FAULT_CHILD_NO - child_no;
    }
}

static uint32_t kind_of(int fd)
{
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return FAULT_OTHER;
    if (S_ISREG(st.st_mode))
        return FAULT_FILE;
    if (!S_ISSOCK(st.st_mode))
        return FAULT_OTHER;
    int type = 0;
    socklen_t size = sizeof(type);
    (void)getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
    return type == SOCK_STREAM ? FAULT_STREAM : FAULT_PACKET;
}

static bool is_named(int fd, const char *pathz, const char *partz)
{
    char link[40], target[4096];
    if (pathz != NULL)
        return strstr(pathz, partz) != NULL;
    if (fd < 0)
        return false;
    static const char at[] = "/proc/self/fd/";
    size_t used = sizeof(link) - 1;
    link[used] = '\0';
    do {
        link[--used] = (char)('0' + fd % 10);
        fd /= 10;
    } while (fd > 0);
    used -= sizeof(at) - 1;
    memcpy(link + used, at, sizeof(at) - 1);
    ssize_t n = readlink(link + used, target, sizeof(target) - 1);
    if (n < 0)
        return false;
    target[n] = '\0';
    return strstr(target, partz) != NULL;
}

static bool has_its_turn(struct fault_rule *rule)
{
    uint64_t number = atomic_fetch_add(&rule->seen, 1);
    if (number < rule->skip)
        return false;
    number -= rule->skip;
    if (rule->every > 1 && (number + 1) % rule->every != 0)
        return false;
    return atomic_fetch_add(&rule->taken, 1) < rule->count || rule->count == 0;
}

static void keep_place(struct fault_rule *rule, const Dl_info *info,
                       uintptr_t at)
{
    struct fault_frame *frame = &rule->frames[rule->depth++];
    const char *slash = strrchr(info->dli_fname, '/');
    const char *namez = slash != NULL ? slash + 1 : info->dli_fname;
    size_t len = strnlen(namez, sizeof(frame->module) - 1);
    memcpy(frame->module, namez, len);
    frame->module[len] = '\0';
    frame->offset = (uint64_t)(at - (uintptr_t)info->dli_fbase);
}

/* Not beyond LuaJIT: the unwinder aborts in what that has compiled. */
static _Unwind_Reason_Code keep_frame(struct _Unwind_Context *context, void *ud)
{
    struct fault_rule *rule = ud;
    uintptr_t at = _Unwind_GetIP(context);
    Dl_info info;
    if (dladdr((void *)at, &info) == 0 || info.dli_fname == NULL)
        return _URC_END_OF_STACK;
    if (info.dli_fbase == own_base)
        return _URC_NO_REASON;
    keep_place(rule, &info, at);
    return rule->depth == FAULT_FRAMES ||
                   strstr(info.dli_fname, "luajit") != NULL
               ? _URC_END_OF_STACK
               : _URC_NO_REASON;
}

static void keep_callers(struct fault_rule *rule, const void *caller)
{
    Dl_info info;
    rule->depth = 0;
    if (caller != NULL && dladdr(caller, &info) != 0 &&
        strstr(info.dli_fname, "libgcc") != NULL)
        /* The unwinder itself, and it holds its lock. */
        keep_place(rule, &info, (uintptr_t)caller);
    else
        (void)_Unwind_Backtrace(keep_frame, rule);
    atomic_store(&rule->pid, (uint32_t)getpid());
}

static void wait_ms(int ms)
{
    struct timespec left = {.tv_sec = ms / 1000,
                            .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

static struct fault fault_by(struct fault_rule *rule, const void *caller)
{
    keep_callers(rule, caller);
    switch (rule->action) {
    case FAULT_KILL:
        (void)kill(getpid(), SIGKILL);
        break;
    case FAULT_STOP:
        (void)kill(getpid(), SIGSTOP);
        break;
    case FAULT_DELAY:
        wait_ms(rule->error);
        break;
    default:
        return (struct fault){rule->action, rule->error, true};
    }
    return (struct fault){0};
}

struct fault fault_from(enum fault_call call, int fd, const char *pathz,
                        const void *caller)
{
    struct fault fault = {0};
    if (table == NULL || inside)
        return fault;
    inside = true;
    int keep = errno;
    for (int i = 0; i < FAULT_RULES && !fault.hit; i++) {
        struct fault_rule *rule = &table->rules[i];
        if (atomic_load(&rule->armed) == 0 || (rule->calls >> call & 1) == 0 ||
            !is_whose(rule->who))
            continue;
        if (rule->kinds != 0 && (rule->kinds & kind_of(fd)) == 0)
            continue;
        if (rule->path[0] != '\0' && !is_named(fd, pathz, rule->path))
            continue;
        if (has_its_turn(rule))
            fault = fault_by(rule, caller);
    }
    errno = keep;
    inside = false;
    return fault;
}

struct fault fault_of(enum fault_call call, int fd, const char *pathz)
{
    return fault_from(call, fd, pathz, NULL);
}

void fault_after(struct fault fault)
{
    if (fault.hit && fault.action == FAULT_KILL_AFTER)
        (void)kill(getpid(), SIGKILL);
}

bool fault_fails(enum fault_call call, int fd, const char *pathz)
{
    struct fault fault = fault_of(call, fd, pathz);
    if (!fault.hit || fault.action != FAULT_FAIL)
        return false;
    errno = fault.error;
    return true;
}

int64_t fault_wall_ns(void)
{
    return table == NULL ? 0 : atomic_load(&table->wall_ns);
}
