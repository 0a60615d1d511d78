#include "node/process.h"

#include "base/log.h"
#include "base/random.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#define FILES_MAX ((rlim_t)1 << 20)

void moon_process_signal_set(sigset_t *set)
{
    static const int signals[] = {SIGTERM, SIGINT,  SIGQUIT, SIGHUP,
                                  SIGUSR1, SIGUSR2, SIGCHLD};
    sigemptyset(set);
    for (size_t i = 0; i < MOON_COUNT(signals); i++)
        sigaddset(set, signals[i]);
}

static void do_nothing(int sig)
{
    (void)sig;
}

/* Those that nobody means for us, and that end a process which says nothing
 * about them: timers that are not ours, a file beyond its size limit (the
 * write then fails with EFBIG). A handler, for what is ignored would stay
 * ignored in the programs that an application starts. */
static void outlive_stray_signals(void)
{
    static const int signals[] = {SIGALRM, SIGVTALRM, SIGPROF, SIGIO,
                                  SIGPWR,  SIGSTKFLT, SIGXFSZ};
    struct sigaction action = {.sa_handler = do_nothing,
                               .sa_flags = SA_RESTART};
    for (size_t i = 0; i < MOON_COUNT(signals); i++)
        (void)sigaction(signals[i], &action, NULL);
    for (int sig = SIGRTMIN; sig <= SIGRTMAX; sig++)
        (void)sigaction(sig, &action, NULL);
}

void moon_process_block_signals(void)
{
    sigset_t set;
    moon_process_signal_set(&set);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    outlive_stray_signals();
}

void moon_process_raise_descriptors(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur >= FILES_MAX)
        return;
    files.rlim_cur = files.rlim_max < FILES_MAX ? files.rlim_max : FILES_MAX;
    (void)setrlimit(RLIMIT_NOFILE, &files);
}

/* Enough to watch 8192 descriptors with; never touched. */
#define LOOP_RESERVE ((size_t)64 << 10)
static _Atomic(void *) loop_reserve;

static void refill_reserve(void)
{
    void *spare = malloc(LOOP_RESERVE), *none = NULL;
    if (!atomic_compare_exchange_strong(&loop_reserve, &none, spare))
        free(spare);
}

/* libuv's realloc. What it says is written at once: the log's own thread may
 * not get to it any more. */
static void *grow_loop(void *ptr, size_t size)
{
    void *grown = realloc(ptr, size);
    if (grown != NULL || size == 0) {
        if (atomic_load(&loop_reserve) == NULL)
            refill_reserve();
        return grown;
    }
    free(atomic_exchange(&loop_reserve, NULL));
    grown = realloc(ptr, size);
    if (grown == NULL)
        (void)dprintf(moon_log_fd(),
                      "moonshine: out of memory: the event loop of process %d "
                      "cannot grow\n",
                      (int)getpid());
    return grown;
}

void moon_process_prepare_loops(void)
{
    refill_reserve();
    (void)uv_replace_allocator(malloc, grow_loop, calloc, free);
}

static bool is_kept(int fd, const int *keep, size_t keep_count)
{
    if (fd <= STDERR_FILENO || fd == moon_log_fd())
        return true;
    for (size_t i = 0; i < keep_count; i++)
        if (keep[i] == fd)
            return true;
    return false;
}

/* Everything else belongs to the master: its loop, the pairs of the other
 * workers (which must see an end when the master goes), its admin clients. */
static void close_others(const int *keep, size_t keep_count)
{
    DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL) {
        for (int fd = 0; fd < 65536; fd++)
            if (!is_kept(fd, keep, keep_count))
                (void)close(fd);
        return;
    }
    int own = dirfd(dir);
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        int fd = (int)strtol(entry->d_name, NULL, 10);
        if (entry->d_name[0] != '.' && fd != own &&
            !is_kept(fd, keep, keep_count))
            (void)close(fd);
    }
    (void)closedir(dir);
}

pid_t moon_process_fork(const int *keep, size_t keep_count)
{
    (void)fflush(NULL); /* or the child would print it again */
    pid_t pid = fork();
    if (pid == 0) {
        moon_random_reseed();
        close_others(keep, keep_count);
    }
    return pid;
}

enum moon_err moon_process_check_user(const char *userz, char *error,
                                      size_t error_size)
{
    if (geteuid() == 0 && userz[0] == '\0') {
        (void)snprintf(error, error_size,
                       "running as root: name the user that runs the "
                       "application (user = \"www-data\" in config.lua, or "
                       "--set user=www-data; \"root\" if you mean it)");
        return MOON_EDENIED;
    }
    if (userz[0] == '\0' || strcmp(userz, "root") == 0)
        return MOON_OK;
    errno = 0;
    if (getpwnam(userz) == NULL) {
        (void)snprintf(error, error_size, "user \"%s\" does not exist", userz);
        return MOON_ENOT_FOUND;
    }
    return MOON_OK;
}

enum moon_err moon_process_become(const char *userz, char *error,
                                  size_t error_size)
{
    enum moon_err err = moon_process_check_user(userz, error, error_size);
    if (err != MOON_OK || userz[0] == '\0' || geteuid() != 0 ||
        strcmp(userz, "root") == 0)
        return err;
    const struct passwd *pw = getpwnam(userz);
    if (pw == NULL || initgroups(userz, pw->pw_gid) < 0 ||
        setgid(pw->pw_gid) < 0 || setuid(pw->pw_uid) < 0) {
        (void)snprintf(error, error_size, "cannot become user \"%s\": %s",
                       userz, strerror(errno));
        return MOON_EDENIED;
    }
    return MOON_OK;
}

void moon_process_status_text(int status, char *text, size_t size)
{
    if (WIFSIGNALED(status)) {
        const char *abbrev = sigabbrev_np(WTERMSIG(status));
        if (abbrev != NULL)
            (void)snprintf(text, size, "SIG%s", abbrev);
        else
            (void)snprintf(text, size, "signal %d", WTERMSIG(status));
        return;
    }
    (void)snprintf(text, size, "exit code %d", WEXITSTATUS(status));
}

bool moon_process_crashed(int status)
{
    if (!WIFSIGNALED(status))
        return WEXITSTATUS(status) != 0;
    int sig = WTERMSIG(status);
    return sig != SIGKILL && sig != SIGTERM && sig != SIGINT;
}

static bool read_small(const char *pathz, char *text, size_t size)
{
    int fd = open(pathz, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, size - 1);
    (void)close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    return true;
}

bool moon_process_is_gone(pid_t pid)
{
    char path[64], text[512];
    if (pid <= 0 || (kill(pid, 0) < 0 && errno == ESRCH))
        return true;
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    const char *at =
        read_small(path, text, sizeof(text)) ? strrchr(text, ')') : NULL;
    return at != NULL && (at[2] == 'Z' || at[2] == 'X');
}

bool moon_process_thread_times(pid_t pid, pid_t tid,
                               struct moon_process_times *out)
{
    char path[96], text[512];
    *out = (struct moon_process_times){0};
    (void)snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", (int)pid,
                   (int)tid);
    if (!read_small(path, text, sizeof(text)))
        return false;
    /* The name may hold anything, so fields count from the last ')'. */
    const char *at = strrchr(text, ')');
    if (at == NULL || at[1] == '\0')
        return false;
    char state = at[2];
    out->stopped = state == 'T' || state == 't';
    unsigned long long user = 0, sys = 0;
    if (sscanf(at + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
               &user, &sys) != 2)
        return false;
    long hz = sysconf(_SC_CLK_TCK);
    out->cpu_ns =
        (user + sys) * (1000000000ull / (uint64_t)(hz > 0 ? hz : 100));
    (void)snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", (int)pid,
                   (int)tid);
    unsigned long long ran = 0, waited = 0;
    if (read_small(path, text, sizeof(text)) &&
        sscanf(text, "%llu %llu", &ran, &waited) == 2 && ran > 0) {
        out->cpu_ns = ran;
        out->queue_ns = waited;
    }
    return true;
}
