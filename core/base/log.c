#include "base/log.h"

#include "base/log_sink.h"
#include "base/tally.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* What may wait for the writer; more is dropped and counted. */
#define QUEUE_BYTES (1024u * 1024u)
/* Ordinary lines wait this long for company, so that a busy access log costs
 * a hundred wake-ups a second and not one a line. */
#define GATHER_MS 10
/* How long a line may wait for a reader that does not read (a full pipe, a
 * stopped terminal): without a writer, and of the writer once it shall stop. */
#define DIRECT_WAIT_MS 1000
#define STOP_WAIT_MS 2000

static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake; /* to the writer */
    pthread_cond_t done; /* from the writer: it holds no descriptor now */
    pthread_t thread;
    struct moon_buf queue; /* lines that the writer has not taken yet */
    uint64_t dropped;
    bool writer, writing, urgent, is_set;
    _Atomic bool stopping;

    _Atomic int level;
    _Atomic int format; /* enum moon_log_format */
    struct moon_log_sink sink;
    _Atomic bool colour;
    char *pathz; /* NULL: stderr */
    char whoz[96];
    moon_log_tap *tap;
    void *tap_ctx;
} logger = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .wake = PTHREAD_COND_INITIALIZER,
    .done = PTHREAD_COND_INITIALIZER,
    .level = MOON_LOG_INFO,
    .sink = {.fd = STDERR_FILENO},
};

static const struct {
    const char *namez, *paddedz, *colourz;
} levels[] = {
    [MOON_LOG_DEBUG] = {"debug", "debug", "\033[2m"},
    [MOON_LOG_INFO] = {"info", "info ", "\033[32m"},
    [MOON_LOG_WARN] = {"warn", "warn ", "\033[33m"},
    [MOON_LOG_ERROR] = {"error", "error", "\033[31m"},
};

static uint64_t count_lines(const char *bytes, size_t len)
{
    uint64_t lines = 0;
    for (size_t i = 0; i < len; i++)
        lines += bytes[i] == '\n';
    return lines;
}

/* ---- lines ---- */

static void add_time(struct moon_buf *out)
{
    struct timespec now;
    struct tm parts;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &parts);
    moon_buf_printf(out, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ",
                    parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday,
                    parts.tm_hour, parts.tm_min, parts.tm_sec,
                    (int)(now.tv_nsec / 1000000));
}

/* A line break becomes an indented one and what else misleads becomes \xNN, so
 * that no message can pass for a line of its own or steer a terminal. */
static void add_clean(struct moon_buf *out, struct moon_str s)
{
    while (s.len > 0) {
        size_t plain = 0;
        while (plain < s.len && s.ptr[plain] != '\n' && s.ptr[plain] != '\t')
            plain++;
        moon_buf_add_shown(out, moon_str(s.ptr, plain));
        if (plain == s.len)
            return;
        moon_buf_addz(out, s.ptr[plain] == '\t' ? "\t" : "\n    ");
        s = moon_str(s.ptr + plain + 1, s.len - plain - 1);
    }
}

static bool is_plain(struct moon_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char byte = (unsigned char)s.ptr[i];
        if (byte <= 0x20 || byte >= 0x7f || byte == '"' || byte == '=')
            return false;
    }
    return s.len > 0;
}

/* Of a field; some applications log what clients call things. */
static void add_name(struct moon_buf *out, struct moon_str name)
{
    if (is_plain(name))
        moon_buf_add_str(out, name);
    else
        moon_buf_add_json(out, name);
}

/* A value of several lines (a traceback) is written below the line. */
static bool is_block(const struct moon_log_field *field)
{
    return field->value.len > 0 &&
           memchr(field->value.ptr, '\n', field->value.len) != NULL;
}

void moon_log_describe(struct moon_buf *out, struct moon_str message,
                       const struct moon_log_field *fields, size_t count)
{
    while (message.len > 0 && message.ptr[message.len - 1] == '\n')
        message.len--;
    add_clean(out, message);
    for (size_t i = 0; i < count; i++) {
        if (is_block(&fields[i]))
            continue;
        moon_buf_add_char(out, ' ');
        add_name(out, fields[i].name);
        moon_buf_add_char(out, '=');
        if (fields[i].raw || is_plain(fields[i].value))
            moon_buf_add_str(out, fields[i].value);
        else
            moon_buf_add_json(out, fields[i].value);
    }
    for (size_t i = 0; i < count; i++) {
        if (is_block(&fields[i])) {
            add_clean(out, MOON_STR("\n"));
            add_name(out, fields[i].name);
            moon_buf_addz(out, ": ");
            add_clean(out, fields[i].value);
        }
    }
}

static void add_text(struct moon_buf *out, enum moon_log_level level,
                     struct moon_str message,
                     const struct moon_log_field *fields, size_t count)
{
    add_time(out);
    moon_buf_add_char(out, ' ');
    if (logger.colour)
        moon_buf_addz(out, levels[level].colourz);
    moon_buf_addz(out, levels[level].paddedz);
    if (logger.colour)
        moon_buf_addz(out, "\033[0m");
    moon_buf_add_char(out, ' ');
    if (logger.whoz[0] != '\0') {
        moon_buf_addz(out, logger.whoz);
        moon_buf_addz(out, ": ");
    }
    moon_log_describe(out, message, fields, count);
    moon_buf_add_char(out, '\n');
}

static void add_object(struct moon_buf *out, enum moon_log_level level,
                       struct moon_str message,
                       const struct moon_log_field *fields, size_t count)
{
    moon_buf_addz(out, "{\"time\":\"");
    add_time(out);
    moon_buf_printf(out, "\",\"level\":\"%s\"", levels[level].namez);
    if (logger.whoz[0] != '\0') {
        moon_buf_addz(out, ",\"who\":");
        moon_buf_add_json(out, moon_strz(logger.whoz));
    }
    moon_buf_addz(out, ",\"message\":");
    moon_buf_add_json(out, message);
    for (size_t i = 0; i < count; i++) {
        moon_buf_add_char(out, ',');
        moon_buf_add_json(out, fields[i].name);
        moon_buf_add_char(out, ':');
        if (fields[i].raw)
            moon_buf_add_str(out, fields[i].value);
        else
            moon_buf_add_json(out, fields[i].value);
    }
    moon_buf_addz(out, "}\n");
}

static void add_line(struct moon_buf *out, enum moon_log_level level,
                     struct moon_str message,
                     const struct moon_log_field *fields, size_t count)
{
    if (logger.format == MOON_LOG_JSON)
        add_object(out, level, message, fields, count);
    else
        add_text(out, level, message, fields, count);
}

/* ---- the queue; all with the lock held ---- */

static void count_dropped(uint64_t lines)
{
    logger.dropped += lines;
    moon_tally_add(MOON_TALLY_LOG_DROPPED, lines);
}

static void add_dropped(struct moon_buf *out)
{
    char text[80];
    int len = snprintf(text, sizeof(text),
                       "the log could not keep up: %llu lines dropped",
                       (unsigned long long)logger.dropped);
    logger.dropped = 0;
    add_line(out, MOON_LOG_WARN, moon_str(text, (size_t)len), NULL, 0);
}

/* Without a writer. Once a line found no reader, the next ones do not wait. */
static void write_directly(struct moon_str line)
{
    struct moon_log_sink sink = logger.sink;
    struct moon_buf notice = {0};
    int patience_ms = logger.dropped > 0 ? 0 : DIRECT_WAIT_MS;
    uint64_t dropped = logger.dropped;
    if (dropped > 0)
        add_dropped(&notice);
    if (moon_log_sink_write(&sink, notice.ptr, notice.len, patience_ms) > 0)
        count_dropped(dropped + 1 - logger.dropped);
    else if (moon_log_sink_write(&sink, line.ptr, line.len, patience_ms) > 0)
        count_dropped(1);
    moon_buf_deinit(&notice);
}

static void enqueue(struct moon_str line, bool urgent)
{
    if (line.len > QUEUE_BYTES - logger.queue.len) {
        count_dropped(1);
        return;
    }
    bool was_empty = logger.queue.len == 0;
    if (logger.dropped > 0)
        add_dropped(&logger.queue);
    size_t before = logger.queue.len;
    moon_buf_add_str(&logger.queue, line);
    if (logger.queue.failed) {
        logger.queue.failed = false;
        logger.queue.len = before;
        count_dropped(1);
        return;
    }
    urgent = urgent || logger.queue.len > QUEUE_BYTES / 2;
    if (was_empty || (urgent && !logger.urgent))
        (void)pthread_cond_signal(&logger.wake);
    logger.urgent = logger.urgent || urgent;
}

static void submit(struct moon_str line, bool urgent)
{
    (void)pthread_mutex_lock(&logger.lock);
    if (logger.writer)
        enqueue(line, urgent);
    else
        write_directly(line);
    (void)pthread_mutex_unlock(&logger.lock);
}

/* ---- the writer ---- */

static void gather(void)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += GATHER_MS * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    while (!logger.urgent && !logger.stopping) {
        if (pthread_cond_clockwait(&logger.wake, &logger.lock, CLOCK_MONOTONIC,
                                   &until) != 0)
            return;
    }
}

static void *writer_main(void *unused)
{
    struct moon_buf batch = {0};
    (void)unused;
    (void)pthread_mutex_lock(&logger.lock);
    for (;;) {
        while (logger.queue.len == 0 && !logger.stopping)
            (void)pthread_cond_wait(&logger.wake, &logger.lock);
        gather();
        if (logger.stopping && logger.dropped > 0)
            add_dropped(&logger.queue);
        if (logger.queue.len == 0 && logger.stopping)
            break;
        struct moon_buf taken = logger.queue;
        logger.queue = batch; /* the emptied buffer of the last round */
        batch = taken;
        logger.urgent = false;
        logger.writing = true;
        struct moon_log_sink sink = logger.sink;
        sink.stopping = &logger.stopping;
        (void)pthread_mutex_unlock(&logger.lock);
        size_t left =
            moon_log_sink_write(&sink, batch.ptr, batch.len, STOP_WAIT_MS);
        uint64_t lost = count_lines(batch.ptr + batch.len - left, left);
        batch.len = 0;
        (void)pthread_mutex_lock(&logger.lock);
        count_dropped(lost);
        if (lost > 0 && logger.stopping)
            logger.queue.len = logger.dropped = 0; /* nobody will read it */
        logger.writing = false;
        (void)pthread_cond_broadcast(&logger.done);
    }
    (void)pthread_mutex_unlock(&logger.lock);
    moon_buf_deinit(&batch);
    return NULL;
}

enum moon_err moon_log_start_writer(void)
{
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_mutex_lock(&logger.lock);
    logger.stopping = false;
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = logger.writer
                     ? 0
                     : pthread_create(&logger.thread, NULL, writer_main, NULL);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    logger.writer = failed == 0;
    (void)pthread_mutex_unlock(&logger.lock);
    return moon_err_from_errno(failed);
}

void moon_log_stop_writer(void)
{
    struct timespec until;
    (void)pthread_mutex_lock(&logger.lock);
    bool running = logger.writer;
    logger.stopping = true;
    (void)pthread_cond_signal(&logger.wake);
    (void)pthread_mutex_unlock(&logger.lock);
    if (!running)
        return;
    /* A write that hangs in the kernel must not keep the process alive. */
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 2 * STOP_WAIT_MS / 1000;
    bool ended =
        pthread_clockjoin_np(logger.thread, NULL, CLOCK_MONOTONIC, &until) == 0;
    if (!ended)
        (void)pthread_detach(logger.thread);
    (void)pthread_mutex_lock(&logger.lock);
    struct moon_log_sink sink = logger.sink;
    /* What came while the writer was on its way out. */
    if (ended && logger.queue.len > 0)
        (void)moon_log_sink_write(&sink, logger.queue.ptr, logger.queue.len,
                                  DIRECT_WAIT_MS);
    logger.queue.len = 0;
    if (ended)
        moon_buf_deinit(&logger.queue);
    logger.writer = !ended;
    (void)pthread_mutex_unlock(&logger.lock);
}

/* ---- fork: a child has no writer and none of its parent's lines ---- */

static void before_fork(void)
{
    (void)pthread_mutex_lock(&logger.lock);
}

static void after_fork(void)
{
    (void)pthread_mutex_unlock(&logger.lock);
}

static void in_child(void)
{
    logger.writer = logger.writing = logger.urgent = false;
    logger.stopping = false;
    logger.dropped = 0;
    logger.queue.len = 0;
    (void)pthread_cond_init(&logger.wake, NULL);
    (void)pthread_cond_init(&logger.done, NULL);
    (void)pthread_mutex_unlock(&logger.lock);
}

static void register_fork_handlers(void)
{
    (void)pthread_atfork(before_fork, after_fork, in_child);
}

/* ---- set-up ---- */

/* A file that is new is for its user alone, whatever the umask; one that is
 * there keeps its mode, so that others may be let in. No link of another user
 * is followed. A FIFO without a reader is an error, not a wait. */
static int open_log(const char *pathz)
{
    const int flags =
        O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    struct stat st;
    int fd = open(pathz, flags | O_EXCL, 0600);
    if (fd >= 0)
        (void)fchmod(fd, 0600);
    if (fd >= 0 || errno != EEXIST)
        return fd;
    if (lstat(pathz, &st) == 0 && S_ISLNK(st.st_mode) && st.st_uid != 0 &&
        st.st_uid != geteuid()) {
        errno = ELOOP;
        return -1;
    }
    return open(pathz, flags, 0600);
}

/* Takes both over. Waits until the writer has let go of the old file, but not
 * for ever: then the old descriptor stays open. */
static void switch_to(int fd, char *pathz)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += DIRECT_WAIT_MS / 1000;
    int timed_out = 0;
    while (logger.writing && timed_out == 0)
        timed_out = pthread_cond_clockwait(&logger.done, &logger.lock,
                                           CLOCK_MONOTONIC, &until);
    if (logger.sink.fd != STDERR_FILENO && timed_out == 0)
        (void)close(logger.sink.fd);
    if (logger.pathz != pathz)
        free(logger.pathz);
    logger.sink = moon_log_sink_make(fd);
    logger.pathz = pathz;
    const char *no_colourz = getenv("NO_COLOR");
    logger.colour =
        (no_colourz == NULL || no_colourz[0] == '\0') && isatty(fd) == 1;
}

/* Each reload sets up anew, mostly with what there is. */
static bool same_path(const char *pathz)
{
    return pathz == NULL
               ? logger.pathz == NULL
               : logger.pathz != NULL && strcmp(pathz, logger.pathz) == 0;
}

enum moon_err moon_log_setup(enum moon_log_level level,
                             enum moon_log_format format, const char *pathz)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, register_fork_handlers);
    int fd = STDERR_FILENO;
    char *copyz = NULL;
    if (pathz != NULL && strcmp(pathz, "stderr") == 0)
        pathz = NULL;
    (void)pthread_mutex_lock(&logger.lock);
    bool same = logger.is_set && same_path(pathz);
    (void)pthread_mutex_unlock(&logger.lock);
    if (pathz != NULL && !same) {
        copyz = strdup(pathz);
        if (copyz == NULL)
            return MOON_ENOMEM;
        fd = open_log(pathz);
        if (fd < 0) {
            int sys = errno;
            free(copyz);
            return moon_err_from_errno(sys);
        }
    }
    (void)pthread_mutex_lock(&logger.lock);
    if (!same)
        switch_to(fd, copyz);
    logger.is_set = true;
    logger.format = (int)format;
    atomic_store_explicit(&logger.level, (int)level, memory_order_relaxed);
    (void)pthread_mutex_unlock(&logger.lock);
    return MOON_OK;
}

enum moon_err moon_log_reopen(void)
{
    enum moon_err err = MOON_OK;
    (void)pthread_mutex_lock(&logger.lock);
    if (logger.pathz != NULL) {
        int fd = open_log(logger.pathz);
        if (fd < 0)
            err = moon_err_from_errno(errno);
        else
            switch_to(fd, logger.pathz);
    }
    (void)pthread_mutex_unlock(&logger.lock);
    return err;
}

void moon_log_set_who(const char *whoz)
{
    (void)pthread_mutex_lock(&logger.lock);
    (void)snprintf(logger.whoz, sizeof(logger.whoz), "%s", whoz);
    (void)pthread_mutex_unlock(&logger.lock);
}

int moon_log_fd(void)
{
    (void)pthread_mutex_lock(&logger.lock);
    int fd = logger.sink.fd;
    (void)pthread_mutex_unlock(&logger.lock);
    return fd;
}

/* ---- logging ---- */

bool moon_log_enabled(enum moon_log_level level)
{
    return (int)level >=
           atomic_load_explicit(&logger.level, memory_order_relaxed);
}

void moon_log_fields(enum moon_log_level level, struct moon_str message,
                     const struct moon_log_field *fields, size_t count)
{
    if (!moon_log_enabled(level))
        return;
    if (MOON_UNLIKELY(logger.tap != NULL) &&
        logger.tap(logger.tap_ctx, level, message, fields, count))
        return;
    struct moon_buf line = {0};
    add_line(&line, level, message, fields, count);
    if (!line.failed)
        submit(moon_buf_str(&line), level >= MOON_LOG_WARN);
    moon_buf_deinit(&line);
}

void moon_log(enum moon_log_level level, const char *fmt, ...)
{
    if (!moon_log_enabled(level))
        return;
    struct moon_buf message = {0};
    va_list args;
    va_start(args, fmt);
    moon_buf_vprintf(&message, fmt, args);
    va_end(args);
    if (!message.failed)
        moon_log_fields(level, moon_buf_str(&message), NULL, 0);
    moon_buf_deinit(&message);
}

void moon_log_raw(struct moon_str line)
{
    submit(line, false);
}

void moon_log_set_tap(moon_log_tap *tap, void *ctx)
{
    logger.tap = tap;
    logger.tap_ctx = ctx;
}

const char *moon_log_level_name(enum moon_log_level level)
{
    return levels[level].namez;
}

bool moon_log_level_parse(struct moon_str text, enum moon_log_level *out)
{
    for (size_t i = 0; i < MOON_COUNT(levels); i++) {
        if (moon_str_eq(text, moon_strz(levels[i].namez))) {
            *out = (enum moon_log_level)i;
            return true;
        }
    }
    return false;
}
