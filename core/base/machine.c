#include "base/machine.h"

#include "base/str.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* A first line of a small file; "" if there is none. */
static void read_line(const char *dirz, const char *filez, char *to, int size)
{
    char pathz[4400];
    to[0] = '\0';
    int len = snprintf(pathz, sizeof(pathz), "%s/%s", dirz, filez);
    FILE *file = len < (int)sizeof(pathz) ? fopen(pathz, "re") : NULL;
    if (file == NULL)
        return;
    if (fgets(to, size, file) == NULL)
        to[0] = '\0';
    (void)fclose(file);
    to[strcspn(to, "\n")] = '\0';
}

static bool has_controller(struct moon_str list, const char *namez)
{
    while (list.len > 0) {
        if (moon_str_eq(moon_str_cut(list, ',', &list), moon_strz(namez)))
            return true;
    }
    return false;
}

/* Path of the group that a controller of version 1 puts us in, or (with
 * controllerz "") the one of version 2. Lines: "4:cpu,cpuacct:/path". */
static bool find_group(const char *procz, const char *controllerz,
                       struct moon_str *path)
{
    struct moon_str rest = moon_strz(procz);
    while (rest.len > 0) {
        struct moon_str line = moon_str_cut(rest, '\n', &rest), after;
        struct moon_str number = moon_str_cut(line, ':', &after);
        struct moon_str list = moon_str_cut(after, ':', path);
        if (controllerz[0] == '\0'
                ? list.len == 0 && moon_str_eq(number, MOON_STR("0"))
                : has_controller(list, controllerz))
            return true;
    }
    return false;
}

/* Calls `read` on the group's directory and on each above it up to the root
 * and returns the least: a limit of a parent binds its children. A container
 * often sees its own group as the root while /proc names the host's path. */
static uint64_t least_upwards(const char *rootz, struct moon_str path,
                              uint64_t (*read)(const char *dirz))
{
    char dirz[4200];
    uint64_t least = UINT64_MAX;
    if (path.len > 4000)
        path.len = 0;
    for (;;) {
        (void)snprintf(dirz, sizeof(dirz), "%s%.*s", rootz, MOON_STR_ARG(path));
        uint64_t limit = read(dirz);
        least = limit < least ? limit : least;
        if (path.len == 0)
            return least;
        do {
            path.len--;
        } while (path.len > 0 && path.ptr[path.len] != '/');
    }
}

static uint64_t number_or_none(const char *textz)
{
    uint64_t value;
    return moon_str_to_u64(moon_strz(textz), &value) ? value : UINT64_MAX;
}

static uint64_t read_memory_v2(const char *dirz)
{
    char line[64];
    read_line(dirz, "memory.max", line, sizeof(line));
    return number_or_none(line);
}

static uint64_t read_memory_v1(const char *dirz)
{
    char line[64];
    read_line(dirz, "memory.limit_in_bytes", line, sizeof(line));
    uint64_t limit = number_or_none(line);
    /* Version 1 says "none" as a number near 2^63. */
    return limit > (UINT64_MAX >> 2) ? UINT64_MAX : limit;
}

static uint64_t milli(uint64_t quota, uint64_t period)
{
    if (quota == UINT64_MAX || period == UINT64_MAX || period == 0 ||
        quota > UINT64_MAX / 1000)
        return UINT64_MAX;
    return quota * 1000 / period;
}

static uint64_t read_cpu_v2(const char *dirz)
{
    char line[64];
    struct moon_str period;
    uint64_t us;
    read_line(dirz, "cpu.max", line, sizeof(line));
    struct moon_str quota = moon_str_cut(moon_strz(line), ' ', &period);
    return moon_str_to_u64(quota, &us) ? milli(us, number_or_none(period.ptr))
                                       : UINT64_MAX;
}

static uint64_t read_cpu_v1(const char *dirz)
{
    char quota[64], period[64];
    read_line(dirz, "cpu.cfs_quota_us", quota, sizeof(quota));
    read_line(dirz, "cpu.cfs_period_us", period, sizeof(period));
    return milli(number_or_none(quota), number_or_none(period));
}

static uint64_t limit_of(const char *procz, const char *sysz,
                         const char *controllerz,
                         uint64_t (*read_v1)(const char *),
                         uint64_t (*read_v2)(const char *))
{
    char rootz[256];
    struct moon_str path;
    uint64_t least = UINT64_MAX;
    if (find_group(procz, controllerz, &path)) {
        (void)snprintf(rootz, sizeof(rootz), "%s/%s", sysz, controllerz);
        least = least_upwards(rootz, path, read_v1);
    }
    if (find_group(procz, "", &path)) {
        uint64_t limit = least_upwards(sysz, path, read_v2);
        least = limit < least ? limit : least;
    }
    return least;
}

uint64_t moon_cgroup_memory(const char *procz, const char *sysz)
{
    return limit_of(procz, sysz, "memory", read_memory_v1, read_memory_v2);
}

uint64_t moon_cgroup_cpu_milli(const char *procz, const char *sysz)
{
    return limit_of(procz, sysz, "cpu", read_cpu_v1, read_cpu_v2);
}

static void read_own_groups(char *to, size_t size)
{
    FILE *file = fopen("/proc/self/cgroup", "re");
    size_t len = file != NULL ? fread(to, 1, size - 1, file) : 0;
    to[len] = '\0';
    if (file != NULL)
        (void)fclose(file);
}

uint32_t moon_machine_cpus(void)
{
    char groups[8192];
    cpu_set_t set;
    uint32_t cpus = 1;
    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        cpus = (uint32_t)CPU_COUNT(&set);
    read_own_groups(groups, sizeof(groups));
    uint64_t quota = moon_cgroup_cpu_milli(groups, "/sys/fs/cgroup");
    if (quota != UINT64_MAX && (quota + 999) / 1000 < cpus)
        cpus = (uint32_t)((quota + 999) / 1000);
    return cpus > 0 ? cpus : 1;
}

uint64_t moon_machine_memory(void)
{
    char groups[8192];
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    uint64_t memory =
        pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : UINT64_MAX;
    read_own_groups(groups, sizeof(groups));
    uint64_t limit = moon_cgroup_memory(groups, "/sys/fs/cgroup");
    return limit < memory ? limit : memory;
}
