/* Children of the master: forking, what they may keep, who they run as, and
 * how they ended. Master and fresh children only; nothing here blocks. */
#ifndef MOON_NODE_PROCESS_H
#define MOON_NODE_PROCESS_H

#include "base/compiler.h"
#include "base/errcode.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The signals that a node handles, through a signalfd. */
void moon_process_signal_set(sigset_t *set);
/* First thing in the master: blocks them, ignores SIGPIPE, and lets no other
 * signal that is not an error end the process. */
void moon_process_block_signals(void);
/* As many descriptors as the hard limit allows, up to a million: the soft one
 * is low (1024) only for programs that use select. */
void moon_process_raise_descriptors(void);
/* libuv aborts where it has no memory to watch one more descriptor with, so
 * loops get a reserve for that; when it is not enough, the log says so. Before
 * the first loop. */
void moon_process_prepare_loops(void);

/* fork, with what every child does first: its own random numbers, and all
 * descriptors closed but 0 to 2, the log's and the `keep` ones. The child must
 * not touch its parent's loop. */
pid_t moon_process_fork(const int *keep, size_t keep_count);

/* Drops to `userz` (which "root" leaves as it is). As root without a user:
 * MOON_EDENIED; `error` says what to do. */
MOON_MUST_CHECK enum moon_err moon_process_become(const char *userz,
                                                  char *error,
                                                  size_t error_size);
/* The same question, asked early by the master. */
MOON_MUST_CHECK enum moon_err moon_process_check_user(const char *userz,
                                                      char *error,
                                                      size_t error_size);

/* "SIGSEGV", "exit code 3" of a wait status. */
void moon_process_status_text(int status, char *text, size_t size);
/* Any process: it has ended, whether or not its parent has noticed. */
bool moon_process_is_gone(pid_t pid);
/* Did it end by a fault of its own, not by a signal from outside? */
bool moon_process_crashed(int status);

struct moon_process_times {
    uint64_t cpu_ns, queue_ns; /* ran; waited for a processor */
    bool stopped;              /* SIGSTOP or a debugger holds it */
};
/* Of one thread of a process, from /proc; false if it is gone. */
bool moon_process_thread_times(pid_t pid, pid_t tid,
                               struct moon_process_times *out);

#endif
