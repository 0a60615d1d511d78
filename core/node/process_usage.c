#include "node/process_usage.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static bool read_proc(pid_t pid, const char *namez, char *text, size_t size)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, namez);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, size - 1);
    (void)close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    return true;
}

static double cpu_of(pid_t pid)
{
    char text[1024];
    unsigned long long user = 0, sys = 0;
    if (!read_proc(pid, "stat", text, sizeof(text)))
        return 0;
    /* The name may hold anything, so fields count from the last ')'. */
    const char *at = strrchr(text, ')');
    long hz = sysconf(_SC_CLK_TCK);
    if (at == NULL ||
        sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
               &user, &sys) != 2)
        return 0;
    return (double)(user + sys) / (double)(hz > 0 ? hz : 100);
}

uint64_t moon_process_resident_bytes(pid_t pid)
{
    char text[256];
    unsigned long long pages = 0;
    if (!read_proc(pid, "statm", text, sizeof(text)) ||
        sscanf(text, "%*u %llu", &pages) != 1)
        return 0;
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t fds_of(pid_t pid)
{
    char path[64];
    uint64_t count = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    if (dir == NULL)
        return 0;
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL)
        count += entry->d_name[0] != '.';
    if (pid == getpid())
        count--; /* the one that reads */
    (void)closedir(dir);
    return count;
}

static double seconds(const struct rusage *usage)
{
    return (double)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) +
           (double)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) / 1e6;
}

void moon_process_usage_own(struct moon_process_usage *out)
{
    struct rusage self = {0}, gone = {0};
    struct rlimit limit = {0};
    (void)getrusage(RUSAGE_SELF, &self);
    (void)getrusage(RUSAGE_CHILDREN, &gone);
    (void)getrlimit(RLIMIT_NOFILE, &limit); /* its children have the same */
    *out = (struct moon_process_usage){
        .cpu_s = seconds(&self) + seconds(&gone),
        .resident_bytes = moon_process_resident_bytes(getpid()),
        .fds = fds_of(getpid()),
        .max_fds = limit.rlim_cur};
}

void moon_process_usage_add(struct moon_process_usage *sum, pid_t pid)
{
    uint64_t fds = fds_of(pid);
    sum->cpu_s += cpu_of(pid);
    sum->resident_bytes += moon_process_resident_bytes(pid);
    if (fds > sum->fds)
        sum->fds = fds;
}
