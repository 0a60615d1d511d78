/* What a test and the processes under test share: the table of faults.
 *
 * The library is preloaded (LD_PRELOAD) into a node; FAULTS_FILE names a file
 * that both map. A test arms rules in it while the node runs, and reads what
 * came of them (tests/support/injector.py, which knows this layout). Without
 * that variable, or with nothing armed, calls go straight through.
 *
 * A rule belongs to some calls of some process. It lets `skip` of them pass,
 * then of each `every` one does not, until `count` did not (0: no end). */
#ifndef MOON_TESTS_FAULTS_H
#define MOON_TESTS_FAULTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum fault_call {
    FAULT_ALLOC,   /* malloc calloc realloc posix_memalign aligned_alloc */
    FAULT_MAP,     /* mmap */
    FAULT_OPEN,    /* open openat fopen opendir memfd_create */
    FAULT_SOCKET,  /* socket socketpair */
    FAULT_ACCEPT,  /* accept4 accept */
    FAULT_CONNECT, /* connect */
    FAULT_READ,    /* read readv recv recvfrom recvmsg */
    FAULT_WRITE,   /* write writev send sendto sendmsg */
    FAULT_PREAD,   /* pread */
    FAULT_PWRITE,  /* pwrite pwritev */
    FAULT_COPY,    /* sendfile */
    FAULT_SYNC,    /* fsync fdatasync msync */
    FAULT_SIZE,    /* ftruncate */
    FAULT_POLL,    /* epoll_wait epoll_pwait poll */
    FAULT_NAME,    /* rename renameat unlink unlinkat mkdir mkdirat */
    FAULT_FORK,    /* fork */
    FAULT_THREAD,  /* pthread_create */
    FAULT_CHILD,   /* waitpid */
    FAULT_CALLS
};

/* What a descriptor is. */
enum fault_kind {
    FAULT_STREAM = 1, /* a stream socket of any family */
    FAULT_PACKET = 2, /* a socket that keeps messages apart */
    FAULT_FILE = 4,   /* a regular file */
    FAULT_OTHER = 8,
};

enum fault_action {
    FAULT_FAIL,  /* -1 or NULL with `error` in errno, and nothing done */
    FAULT_SHORT, /* of one byte */
    FAULT_KILL,  /* SIGKILL instead */
    FAULT_KILL_AFTER,
    FAULT_STOP, /* SIGSTOP, then as usual */
    FAULT_DELAY /* `error` milliseconds, then as usual */
};

/* Whose calls: a pid, or one of these. */
enum fault_who {
    FAULT_ANYBODY = 0,
    FAULT_FIRST = -1,     /* the first process: the master */
    FAULT_CHILDREN = -2,  /* all but the first */
    FAULT_CHILD_NO = -100 /* less n: the nth that was forked, from 1 */
};

enum { FAULT_RULES = 16, FAULT_FRAMES = 24, FAULT_PATH = 128 };

/* A caller: an offset into a program or library, by its base name. */
struct fault_frame {
    char module[24];
    uint64_t offset;
};

struct fault_rule {
    _Atomic uint32_t armed; /* written last */
    uint32_t calls;         /* 1 << enum fault_call, several */
    uint32_t kinds;         /* of descriptors; 0: whatever it is */
    uint32_t action;
    int32_t error;
    int32_t who;
    uint64_t skip, every, count;
    char path[FAULT_PATH]; /* part of the file's name; "": any */
    /* What came of it. */
    _Atomic uint64_t seen, taken; /* calls that fit, that had their turn */
    _Atomic uint32_t pid;         /* of the last that was hit */
    uint32_t depth;
    struct fault_frame frames[FAULT_FRAMES];
};

struct fault_table {
    _Atomic uint32_t first; /* pid */
    _Atomic uint32_t forks;
    _Atomic int64_t wall_ns; /* added to CLOCK_REALTIME */
    struct fault_rule rules[FAULT_RULES];
};

/* What becomes of one call. */
struct fault {
    uint32_t action;
    int error;
    bool hit;
};

/* fd < 0 or path NULL: there is none. Does FAULT_KILL, FAULT_STOP and
 * FAULT_DELAY itself; the others are the caller's. Keeps errno. */
struct fault fault_of(enum fault_call call, int fd, const char *pathz);
/* The same, and who asks. */
struct fault fault_from(enum fault_call call, int fd, const char *pathz,
                        const void *caller);
/* A call that has no length: true if it is to return -1; errno is set. */
bool fault_fails(enum fault_call call, int fd, const char *pathz);
/* After a call that went through. */
void fault_after(struct fault fault);
/* What is added to the wall clock. */
int64_t fault_wall_ns(void);

/* The next definition of a function; ends the process if there is none. */
void *fault_next(const char *namez);
/* `static T (*real)(...)`, looked up on first use. */
#define FAULT_REAL(name)             \
    static __typeof__(&(name)) real; \
    if (real == NULL)                \
    *(void **)(&real) = fault_next(#name)

#endif
