/* What this process may use of the machine: processors and memory, as the
 * kernel and the container's control group (v1 or v2) allow.
 *
 * Reads /proc and /sys; blocking, for start-up and reload. Never fails: what
 * cannot be read limits nothing. */
#ifndef MOON_BASE_MACHINE_H
#define MOON_BASE_MACHINE_H

#include <stdint.h>

/* At least 1: the affinity mask, or the CPU quota (rounded up) if less. */
uint32_t moon_machine_cpus(void);
/* Bytes: physical memory, or the control group's limit if less. */
uint64_t moon_machine_memory(void);

/* The same for control groups found below other roots, for tests: `procz` is
 * the text of /proc/self/cgroup, `sysz` stands for /sys/fs/cgroup. UINT64_MAX
 * without a limit; the quota is in thousandths of a processor. */
uint64_t moon_cgroup_memory(const char *procz, const char *sysz);
uint64_t moon_cgroup_cpu_milli(const char *procz, const char *sysz);

#endif
