#include "answer.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

void answer_init(struct answer *a)
{
    a->state = ANSWER_STATUS;
    a->status = 0;
    a->chunked = a->close = false;
    a->left = a->seen = 0;
    a->kept = 0;
    for (size_t i = 0; i < EXPECTED_BODIES; i++) {
        a->same[i] = true;
    }
}

/* The value of a field if it has this name (with its colon), else NULL. */
static const char *value_of(const char *line, const char *name)
{
    size_t length = strlen(name);
    if (strncasecmp(line, name, length) != 0) {
        return NULL;
    }
    line += length;
    return line + strspn(line, " \t");
}

static enum answer_result head_ends(struct answer *a)
{
    if (a->status < 200) { /* 100 Continue: another one follows */
        answer_init(a);
        return ANSWER_MORE;
    }
    if (a->chunked) {
        a->state = ANSWER_CHUNK_SIZE;
        return ANSWER_MORE;
    }
    a->state = ANSWER_BODY;
    return a->left == 0 ? ANSWER_DONE : ANSWER_MORE;
}

static enum answer_result field(struct answer *a, const char *line)
{
    const char *value = NULL;
    if (line[0] == '\0') {
        return head_ends(a);
    }
    if ((value = value_of(line, "Content-Length:")) != NULL) {
        a->left = strtoull(value, NULL, 10);
    } else if ((value = value_of(line, "Transfer-Encoding:")) != NULL) {
        a->chunked = strcasecmp(value, "chunked") == 0;
        return a->chunked ? ANSWER_MORE : ANSWER_BROKEN;
    } else if ((value = value_of(line, "Connection:")) != NULL) {
        a->close = strcasecmp(value, "close") == 0;
    }
    return ANSWER_MORE;
}

/* A whole line, without its end. */
static enum answer_result take_line(struct answer *a, const char *line)
{
    switch (a->state) {
    case ANSWER_STATUS:
        if (strncmp(line, "HTTP/1.1 ", 9) != 0) {
            return ANSWER_BROKEN;
        }
        a->status = atoi(line + 9); /* NOLINT(cert-err34-c): 0 is refused */
        a->state = ANSWER_FIELDS;
        return a->status < 100 ? ANSWER_BROKEN : ANSWER_MORE;
    case ANSWER_FIELDS:
        return field(a, line);
    case ANSWER_CHUNK_SIZE: {
        char *end = NULL;
        a->left = strtoull(line, &end, 16);
        if (end == line) {
            return ANSWER_BROKEN;
        }
        a->state = a->left != 0 ? ANSWER_CHUNK : ANSWER_TRAILERS;
        return ANSWER_MORE;
    }
    case ANSWER_CHUNK_END:
        a->state = ANSWER_CHUNK_SIZE;
        return line[0] == '\0' ? ANSWER_MORE : ANSWER_BROKEN;
    case ANSWER_TRAILERS:
        return line[0] == '\0' ? ANSWER_DONE : ANSWER_MORE;
    case ANSWER_BODY:
    case ANSWER_CHUNK:
        break;
    }
    return ANSWER_BROKEN;
}

/* Collects a line; `used` grows by what was taken. */
static enum answer_result line_on(struct answer *a, const char *bytes,
                                  size_t length, size_t *used)
{
    const char *end = memchr(bytes, '\n', length);
    size_t take = end != NULL ? (size_t)(end - bytes) + 1 : length;
    if (a->kept + take >= sizeof(a->line)) {
        return ANSWER_BROKEN;
    }
    memcpy(a->line + a->kept, bytes, take);
    a->kept += take;
    *used += take;
    if (end == NULL) {
        return ANSWER_MORE;
    }
    size_t text = a->kept - 1;
    if (text > 0 && a->line[text - 1] == '\r') {
        text--;
    }
    a->line[text] = '\0';
    a->kept = 0;
    return take_line(a, a->line);
}

static void compare(struct answer *a, const struct expected *e,
                    const char *bytes, size_t length)
{
    for (size_t i = 0; i < e->count; i++) {
        a->same[i] = a->same[i] && a->seen + length <= e->length[i] &&
                     memcmp(e->body[i] + a->seen, bytes, length) == 0;
    }
    a->seen += length;
}

enum answer_result answer_read(struct answer *a, const struct expected *e,
                               const char *bytes, size_t length, size_t *used)
{
    *used = 0;
    while (*used < length) {
        enum answer_result result = ANSWER_MORE;
        if (a->state == ANSWER_BODY || a->state == ANSWER_CHUNK) {
            size_t take = length - *used;
            if (take > a->left) {
                take = (size_t)a->left;
            }
            compare(a, e, bytes + *used, take);
            *used += take;
            a->left -= take;
            if (a->left == 0 && a->state == ANSWER_BODY) {
                result = ANSWER_DONE;
            } else if (a->left == 0) {
                a->state = ANSWER_CHUNK_END;
            }
        } else {
            result = line_on(a, bytes + *used, length - *used, used);
        }
        if (result != ANSWER_MORE) {
            return result;
        }
    }
    return ANSWER_MORE;
}

int answer_match(const struct answer *a, const struct expected *e)
{
    if (a->status != e->status) {
        return -1;
    }
    for (size_t i = 0; i < e->count; i++) {
        if (a->same[i] && a->seen == e->length[i]) {
            return (int)i;
        }
    }
    if (e->count > 0) {
        return -1;
    }
    return e->any_length < 0 || (uint64_t)e->any_length == a->seen ? 0 : -1;
}
