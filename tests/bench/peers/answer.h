/* Reads HTTP/1.1 answers as a benchmark's client does: status, length or
 * chunks, and whether the body is one of those that are expected. Trusts the
 * server to be sane; whatever it does not understand is an error.
 *
 * An answer is read by one thread; nothing is allocated. */
#ifndef BENCH_ANSWER_H
#define BENCH_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EXPECTED_BODIES = 2 };

/* What answers should be; borrowed by all that read them. */
struct expected {
    int status;
    size_t count;       /* of bodies; 0: any, if it has any_length */
    int64_t any_length; /* -1: of any length */
    const char *body[EXPECTED_BODIES];
    size_t length[EXPECTED_BODIES];
};

enum answer_state {
    ANSWER_STATUS, /* the first line */
    ANSWER_FIELDS,
    ANSWER_BODY, /* `left` bytes of it */
    ANSWER_CHUNK_SIZE,
    ANSWER_CHUNK, /* `left` bytes of it */
    ANSWER_CHUNK_END,
    ANSWER_TRAILERS,
};

struct answer {
    enum answer_state state;
    int status;
    bool chunked, close;
    bool same[EXPECTED_BODIES]; /* so far */
    uint64_t left, seen;        /* of the body, in bytes */
    size_t kept;                /* of a line that came in pieces */
    char line[1024];
};

enum answer_result { ANSWER_MORE, ANSWER_DONE, ANSWER_BROKEN };

/* Before each answer. */
void answer_init(struct answer *a);

/* Reads on. On ANSWER_DONE `used` says where the next answer begins; on
 * ANSWER_MORE all was used. */
enum answer_result answer_read(struct answer *a, const struct expected *e,
                               const char *bytes, size_t length, size_t *used);

/* Of one that is done: which body it had (0 if any will do), or -1 if it is
 * not what was expected. */
int answer_match(const struct answer *a, const struct expected *e);

#endif
