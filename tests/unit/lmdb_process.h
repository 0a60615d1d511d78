/* Other processes for tests of the LMDB store: this program again, in a role.
 *
 * A helper says a line when it is ready, and ends when it is told to (its stdin
 * closes) or killed. */
#ifndef MOON_TESTS_LMDB_PROCESS_H
#define MOON_TESTS_LMDB_PROCESS_H

#include "lmdb_support.h"

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

struct helper {
    pid_t pid;
    int in, out; /* its stdin and stdout */
};

static inline struct helper start_helper(const char *rolez)
{
    struct helper h;
    int in[2], out[2];
    char program[] = "/proc/self/exe", role[32], dir[sizeof(test_dir)];
    posix_spawn_file_actions_t actions;
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    (void)snprintf(role, sizeof(role), "%s", rolez);
    (void)snprintf(dir, sizeof(dir), "%s", test_dir);
    char *argv[] = {program, role, dir, NULL};
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    (void)posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    assert_int_equal(
        posix_spawn(&h.pid, program, &actions, NULL, argv, environ), 0);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(in[0]);
    (void)close(out[1]);
    h.in = in[1];
    h.out = out[0];
    return h;
}

/* Waits for its next line; the first character. */
static inline char await_helper(struct helper *h)
{
    char line[64] = "";
    size_t len = 0;
    while (len + 1 < sizeof(line) && read(h->out, line + len, 1) == 1 &&
           line[len] != '\n')
        len++;
    assert_true(line[0] != '\0');
    return line[0];
}

/* Ends it; its wait status. */
static inline int end_helper(struct helper *h, int sig)
{
    int status = -1;
    if (sig != 0)
        (void)kill(h->pid, sig);
    (void)close(h->in);
    assert_int_equal(waitpid(h->pid, &status, 0), h->pid);
    (void)close(h->out);
    return status;
}

/* ---- in the helper ---- */

static inline void say(const char *wordz)
{
    (void)printf("%s\n", wordz);
    (void)fflush(stdout);
}

/* Until it is told to end. */
static inline void wait_for_end(void)
{
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
}

#endif
