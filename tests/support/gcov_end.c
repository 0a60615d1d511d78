/* For the preset `coverage` alone: gcov writes its counters at exit(), and much
 * of what runs here ends otherwise. The linker puts these before the ends that
 * do not come from outside (--wrap, core/CMakeLists.txt). Files of counters are
 * locked while a process adds to them, so all share them. */
#include <stdlib.h>
#include <stdnoreturn.h>
#include <sys/resource.h>

void __gcov_dump(void);
noreturn void __real__exit(int code);
noreturn void __wrap__exit(int code);
int __real_execv(const char *path, char *const argv[]);
int __wrap_execv(const char *path, char *const argv[]);
int __real_execvp(const char *file, char *const argv[]);
int __wrap_execvp(const char *file, char *const argv[]);

/* A test may have set limits, and half a file of counters spoils all. */
static void lift_limits(void)
{
    const __rlimit_resource_t which[] = {RLIMIT_FSIZE, RLIMIT_NOFILE};
    for (size_t i = 0; i < sizeof(which) / sizeof(which[0]); i++) {
        struct rlimit limit;
        if (getrlimit(which[i], &limit) == 0) {
            limit.rlim_cur = limit.rlim_max;
            (void)setrlimit(which[i], &limit);
        }
    }
}

__attribute__((constructor)) static void at_start(void)
{
    (void)atexit(lift_limits);
}

static void write_counters(void)
{
    lift_limits();
    __gcov_dump();
}

void __wrap__exit(int code)
{
    write_counters();
    __real__exit(code);
}

int __wrap_execv(const char *path, char *const argv[])
{
    write_counters();
    return __real_execv(path, argv);
}

int __wrap_execvp(const char *file, char *const argv[])
{
    write_counters();
    return __real_execvp(file, argv);
}
