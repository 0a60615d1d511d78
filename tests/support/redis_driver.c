/* Drives the Redis client from a test: commands on standard input, a line each,
 * words separated by spaces, bytes in them as %XX; what happens on standard
 * output, a JSON object a line. Ends at the end of its input, and then says
 * whether anything is left open.
 *
 *   open ID URL [connect_ms= timeout_ms= max_pending= max_bytes= max_own=
 *                max_reply= linger_ms= name=]
 *   close ID | closeall | status ID
 *   call TAG ID TIMEOUT FLAGS KEY WORD... [| KEY WORD...]
 *   script NAME ID SOURCE | unscript NAME
 *   eval TAG NAME TIMEOUT KEYS WORD...
 *   cancel TAG
 *   own NAME ID TIMEOUT KEY | owncall TAG NAME TIMEOUT FLAGS KEY WORD...
 *   give NAME | drop NAME
 *   sub NAME ID CHANNEL | psub NAME ID PATTERN | unsub NAME
 *   stall MS
 *   load NAME ID USERS OPS MAX_MS SEED [lossy] [gentle] | stop NAME
 *   bench ID OPS BATCH BYTES
 *
 * FLAGS: "-", or "r" (read only) and "a" (atomic). KEY is the index of the
 * key. A key "-" is none. */
#include "redis_driver.h"

#include "base/clock.h"
#include "base/log.h"

#include <dirent.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { WORDS = 256, LINE = 1 << 20 };

uv_loop_t driver_loop;

/* What a name of the test stands for. */
struct thing {
    struct thing *next;
    char *namez;
    char kind;
    uint64_t began_ns;
    union {
        struct moon_redis *redis;
        struct moon_redis_op *op;
        struct moon_redis_script *script;
        struct moon_redis_own *own;
        struct moon_redis_sub *sub;
    };
};

static struct thing *things;
static uv_poll_t input;
static struct moon_buf in;

/* ---- output ---- */

static void add_event(struct moon_buf *line, const char *eventz,
                      const char *namez)
{
    moon_buf_printf(line, "{\"event\":\"%s\",\"name\":", eventz);
    moon_buf_add_json(line, moon_strz(namez));
}

static void add_text(struct moon_buf *line, const char *fieldz,
                     struct moon_str text)
{
    moon_buf_printf(line, ",\"%s\":", fieldz);
    moon_buf_add_json(line, text);
}

static void say_outcome(const char *eventz, const char *namez,
                        uint64_t began_ns, enum moon_err err,
                        const struct redisReply *reply, const char *whyz)
{
    struct moon_buf line = {0};
    add_event(&line, eventz, namez);
    moon_buf_printf(&line, ",\"ms\":%.1f",
                    (double)(moon_clock_ns() - began_ns) / 1e6);
    add_text(&line, "err", moon_strz(driver_err_name(err)));
    moon_buf_addz(&line, ",\"reply\":");
    driver_add_reply(&line, reply);
    add_text(&line, "why", moon_strz(whyz));
    moon_buf_addz(&line, "}\n");
    driver_say(&line);
}

static void bad(const char *whatz, const char *wordz)
{
    struct moon_buf line = {0};
    add_event(&line, "misuse", whatz);
    add_text(&line, "word", moon_strz(wordz));
    moon_buf_addz(&line, "}\n");
    driver_say(&line);
    _exit(5);
}

/* ---- names ---- */

static struct thing *add_thing(const char *namez, char kind)
{
    struct thing *thing = calloc(1, sizeof(*thing));
    if (thing == NULL || (thing->namez = strdup(namez)) == NULL)
        abort();
    thing->kind = kind;
    thing->began_ns = moon_clock_ns();
    thing->next = things;
    things = thing;
    return thing;
}

static struct thing *find_thing(const char *namez, char kind)
{
    for (struct thing *thing = things; thing != NULL; thing = thing->next) {
        if (thing->kind == kind && strcmp(thing->namez, namez) == 0)
            return thing;
    }
    bad("nothing has that name", namez);
    return NULL;
}

static void remove_thing(struct thing *thing)
{
    struct thing **at = &things;
    while (*at != thing)
        at = &(*at)->next;
    *at = thing->next;
    free(thing->namez);
    free(thing);
}

/* ---- commands ---- */

static void on_done(void *ctx, enum moon_err err, struct redisReply **reply,
                    const char *whyz)
{
    struct thing *thing = ctx;
    say_outcome("done", thing->namez, thing->began_ns, err, *reply, whyz);
    remove_thing(thing);
}

static uint64_t number(const char *textz)
{
    return strtoull(textz, NULL, 10);
}

static void option(struct moon_redis_options *o, char *wordz)
{
    char *value = strchr(wordz, '=');
    if (value == NULL)
        bad("not an option", wordz);
    *value++ = '\0';
    if (strcmp(wordz, "connect_ms") == 0)
        o->connect_timeout_ms = number(value);
    else if (strcmp(wordz, "timeout_ms") == 0)
        o->timeout_ms = number(value);
    else if (strcmp(wordz, "max_pending") == 0)
        o->max_pending = (uint32_t)number(value);
    else if (strcmp(wordz, "max_bytes") == 0)
        o->max_bytes = number(value);
    else if (strcmp(wordz, "max_reply") == 0)
        o->max_reply_bytes = number(value);
    else if (strcmp(wordz, "max_own") == 0)
        o->max_own = (uint32_t)number(value);
    else if (strcmp(wordz, "linger_ms") == 0)
        o->linger_ms = number(value);
    else if (strcmp(wordz, "name") == 0)
        o->namez = value;
    else
        bad("no such option", wordz);
}

static void cmd_open(char **w, uint32_t count)
{
    struct moon_redis_options o = {0};
    struct moon_redis *redis = NULL;
    char error[400] = "";
    for (uint32_t i = 3; i < count; i++)
        option(&o, w[i]);
    enum moon_err err =
        moon_redis_get(&driver_loop, w[2], &o, &redis, error, sizeof(error));
    if (err == MOON_OK)
        add_thing(w[1], 'c')->redis = redis;
    struct moon_buf line = {0};
    add_event(&line, "open", w[1]);
    add_text(&line, "err", moon_strz(driver_err_name(err)));
    add_text(&line, "why", moon_strz(error));
    moon_buf_printf(&line, ",\"client\":\"%p\"}\n", (void *)redis);
    driver_say(&line);
}

static uint32_t parse_flags(const char *textz)
{
    return (strchr(textz, 'r') != NULL ? MOON_REDIS_READ_ONLY : 0u) |
           (strchr(textz, 'a') != NULL ? MOON_REDIS_ATOMIC : 0u);
}

/* KEY WORD... [| KEY WORD...] */
static uint32_t parse_commands(char **w, uint32_t at, uint32_t count,
                               struct moon_str *argv,
                               struct moon_redis_command *commands)
{
    uint32_t n = 0;
    while (at < count) {
        struct moon_redis_command *command = &commands[n++];
        *command = (struct moon_redis_command){
            .argv = argv, .key = (uint32_t)number(w[at++])};
        while (at < count && strcmp(w[at], "|") != 0) {
            *argv++ = moon_strz(w[at++]);
            command->argc++;
        }
        at++;
    }
    return n;
}

static void refused(struct thing *thing, enum moon_err err)
{
    say_outcome("refused", thing->namez, thing->began_ns, err, NULL,
                moon_redis_whyz());
    remove_thing(thing);
}

static void cmd_call(char **w, uint32_t count, bool own)
{
    struct moon_str argv[WORDS];
    struct moon_redis_command commands[WORDS];
    uint32_t n = parse_commands(w, 5, count, argv, commands);
    struct thing *on = find_thing(w[2], own ? 'o' : 'c');
    struct thing *thing = add_thing(w[1], 'f');
    const struct moon_redis_how how = {
        .flags = parse_flags(w[4]),
        .timeout_ms = number(w[3]),
        .done = on_done,
        .ctx = thing,
    };
    enum moon_err err =
        own ? moon_redis_own_send(on->own, commands, n, &how, &thing->op)
            : moon_redis_send(on->redis, commands, n, &how, &thing->op);
    if (err != MOON_OK)
        refused(thing, err);
}

static void cmd_eval(char **w, uint32_t count)
{
    struct moon_str argv[WORDS];
    uint32_t keys = (uint32_t)number(w[4]);
    for (uint32_t i = 5; i < count; i++)
        argv[i - 5] = moon_strz(w[i]);
    struct thing *script = find_thing(w[2], 's');
    struct thing *thing = add_thing(w[1], 'f');
    const struct moon_redis_how how = {
        .timeout_ms = number(w[3]), .done = on_done, .ctx = thing};
    enum moon_err err = moon_redis_eval(script->script, argv, keys,
                                        count - 5 - keys, &how, &thing->op);
    if (err != MOON_OK)
        refused(thing, err);
}

static void cmd_script(char **w)
{
    struct thing *client = find_thing(w[2], 'c');
    add_thing(w[1], 's')->script =
        moon_redis_script_get(client->redis, moon_strz(w[3]));
}

static void cmd_status(char **w)
{
    struct moon_redis_status status;
    struct moon_buf line = {0};
    moon_redis_get_status(find_thing(w[1], 'c')->redis, &status);
    add_event(&line, "status", w[1]);
    add_text(&line, "url", moon_strz(status.urlz));
    add_text(&line, "why", moon_strz(status.whyz));
    moon_buf_printf(
        &line,
        ",\"up\":%s,\"since\":%llu,\"pending\":%u,"
        "\"commands\":%llu,\"errors\":%llu,\"timeouts\":%llu,"
        "\"reconnects\":%llu}\n",
        status.up ? "true" : "false", (unsigned long long)status.since_ms,
        status.pending, (unsigned long long)status.commands,
        (unsigned long long)status.errors, (unsigned long long)status.timeouts,
        (unsigned long long)status.reconnects);
    driver_say(&line);
}

/* ---- own links ---- */

static void on_own(void *ctx, enum moon_err err, const char *whyz)
{
    struct thing *thing = ctx;
    say_outcome("own", thing->namez, thing->began_ns, err, NULL, whyz);
}

static void cmd_own(char **w)
{
    struct thing *client = find_thing(w[2], 'c');
    struct moon_str key =
        strcmp(w[4], "-") == 0 ? MOON_STR_NONE : moon_strz(w[4]);
    struct thing *thing = add_thing(w[1], 'o');
    enum moon_err err = moon_redis_own_take(client->redis, key, number(w[3]),
                                            on_own, thing, &thing->own);
    if (err != MOON_OK)
        refused(thing, err);
}

static void cmd_part(char **w)
{
    struct thing *thing = find_thing(w[1], 'o');
    if (strcmp(w[0], "give") == 0)
        moon_redis_own_give(thing->own);
    else
        moon_redis_own_close(thing->own);
    remove_thing(thing);
}

/* ---- subscriptions ---- */

static void on_message(void *ctx, struct moon_str channel,
                       struct moon_str payload)
{
    const struct thing *thing = ctx;
    struct moon_buf line = {0};
    add_event(&line, "message", thing->namez);
    add_text(&line, "channel", channel);
    add_text(&line, "payload", payload);
    moon_buf_addz(&line, "}\n");
    driver_say(&line);
    /* A subscription may end in its own callback. */
    if (moon_str_eq(payload, MOON_STR("goodbye"))) {
        struct thing *self = find_thing(thing->namez, 'u');
        moon_redis_unsubscribe(self->sub);
        remove_thing(self);
    }
}

static void on_news(void *ctx, enum moon_redis_news news, const char *whyz)
{
    static const char *const names[] = {"subscribed", "lost", "refused"};
    const struct thing *thing = ctx;
    struct moon_buf line = {0};
    add_event(&line, names[news], thing->namez);
    add_text(&line, "why", moon_strz(whyz));
    moon_buf_addz(&line, "}\n");
    driver_say(&line);
}

static void cmd_sub(char **w)
{
    struct thing *client = find_thing(w[2], 'c');
    struct thing *thing = add_thing(w[1], 'u');
    const struct moon_redis_listener listener = {on_message, on_news, thing};
    enum moon_err err =
        moon_redis_subscribe(client->redis, moon_strz(w[3]),
                             strcmp(w[0], "psub") == 0, &listener, &thing->sub);
    if (err != MOON_OK)
        refused(thing, err);
}

/* ---- load ---- */

static void cmd_load(char **w, uint32_t count)
{
    struct load_options o = {
        .users = (uint32_t)number(w[3]),
        .ops = number(w[4]),
        .max_ms = number(w[5]),
        .seed = (uint32_t)number(w[6]),
    };
    for (uint32_t i = 7; i < count; i++) {
        o.lossy = o.lossy || strcmp(w[i], "lossy") == 0;
        o.gentle = o.gentle || strcmp(w[i], "gentle") == 0;
    }
    (void)load_start(w[1], find_thing(w[2], 'c')->redis, &o);
}

/* ---- lines ---- */

static void run_more(char **w, uint32_t count)
{
    const char *what = w[0];
    if (strcmp(what, "sub") == 0 || strcmp(what, "psub") == 0) {
        cmd_sub(w);
    } else if (strcmp(what, "unsub") == 0) {
        struct thing *thing = find_thing(w[1], 'u');
        moon_redis_unsubscribe(thing->sub);
        remove_thing(thing);
    } else if (strcmp(what, "stall") == 0) {
        driver_stall(number(w[1]));
    } else if (strcmp(what, "load") == 0) {
        cmd_load(w, count);
    } else if (strcmp(what, "stop") == 0) {
        load_stop(load_find(w[1]));
    } else if (strcmp(what, "bench") == 0) {
        bench_run(find_thing(w[1], 'c')->redis, number(w[2]),
                  (uint32_t)number(w[3]), (uint32_t)number(w[4]));
    } else {
        bad("no such command", what);
    }
}

static void run(char **w, uint32_t count)
{
    const char *what = w[0];
    if (strcmp(what, "open") == 0) {
        cmd_open(w, count);
    } else if (strcmp(what, "close") == 0) {
        struct thing *thing = find_thing(w[1], 'c');
        moon_redis_unref(thing->redis);
        remove_thing(thing);
    } else if (strcmp(what, "closeall") == 0) {
        moon_redis_close_all();
    } else if (strcmp(what, "status") == 0) {
        cmd_status(w);
    } else if (strcmp(what, "call") == 0) {
        cmd_call(w, count, false);
    } else if (strcmp(what, "script") == 0) {
        cmd_script(w);
    } else if (strcmp(what, "unscript") == 0) {
        struct thing *thing = find_thing(w[1], 's');
        moon_redis_script_unref(thing->script);
        remove_thing(thing);
    } else if (strcmp(what, "eval") == 0) {
        cmd_eval(w, count);
    } else if (strcmp(what, "cancel") == 0) {
        struct thing *thing = find_thing(w[1], 'f');
        moon_redis_cancel(thing->op);
        remove_thing(thing);
    } else if (strcmp(what, "own") == 0) {
        cmd_own(w);
    } else if (strcmp(what, "owncall") == 0) {
        cmd_call(w, count, true);
    } else if (strcmp(what, "give") == 0 || strcmp(what, "drop") == 0) {
        cmd_part(w);
    } else {
        run_more(w, count);
    }
}

static void decode(char *text)
{
    char *to = text;
    for (char *at = text; *at != '\0'; at++) {
        if (*at == '%' && at[1] != '\0' && at[2] != '\0') {
            char hex[3] = {at[1], at[2], '\0'};
            *to++ = (char)strtol(hex, NULL, 16);
            at += 2;
        } else {
            *to++ = *at;
        }
    }
    *to = '\0';
}

static void run_line(char *line)
{
    char *words[WORDS + 8] = {NULL};
    uint32_t count = 0;
    for (char *word = strtok(line, " "); word != NULL && count < WORDS;
         word = strtok(NULL, " ")) {
        words[count++] = word;
        decode(word);
    }
    for (uint32_t i = count; i < count + 8; i++)
        words[i] = "";
    if (count > 0)
        run(words, count);
}

/* ---- the end ---- */

static uint32_t count_fds(void)
{
    uint32_t count = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir != NULL && readdir(dir) != NULL)
        count++;
    if (dir != NULL)
        (void)closedir(dir);
    return count;
}

/* Gives everything back; what is under way still answers. */
static void end(void)
{
    load_stop_all();
    (void)uv_poll_stop(&input);
    uv_close((uv_handle_t *)&input, NULL);
    moon_redis_close_all();
    struct thing *next;
    for (struct thing *thing = things; thing != NULL; thing = next) {
        next = thing->next;
        if (thing->kind == 'f')
            continue; /* its callback comes */
        if (thing->kind == 'c')
            moon_redis_unref(thing->redis);
        else if (thing->kind == 's')
            moon_redis_script_unref(thing->script);
        else if (thing->kind == 'o')
            moon_redis_own_close(thing->own);
        else
            moon_redis_unsubscribe(thing->sub);
        remove_thing(thing);
    }
}

static void on_input(uv_poll_t *poll, int status, int events)
{
    (void)poll;
    (void)status;
    (void)events;
    char *to = moon_buf_reserve(&in, LINE);
    if (to == NULL)
        abort();
    ssize_t n = read(STDIN_FILENO, to, LINE);
    if (n <= 0) {
        end();
        return;
    }
    in.len += (size_t)n;
    char *line = in.ptr, *stop;
    while ((stop = memchr(line, '\n', in.len - (size_t)(line - in.ptr))) !=
           NULL) {
        *stop = '\0';
        run_line(line);
        line = stop + 1;
    }
    in.len -= (size_t)(line - in.ptr);
    memmove(in.ptr, line, in.len);
}

int main(void)
{
    if (uv_loop_init(&driver_loop) != 0 ||
        moon_log_setup(MOON_LOG_INFO, MOON_LOG_TEXT, NULL) != MOON_OK)
        return 2;
    uint32_t before = count_fds();
    (void)uv_poll_init(&driver_loop, &input, STDIN_FILENO);
    (void)uv_poll_start(&input, UV_READABLE, on_input);
    (void)uv_run(&driver_loop, UV_RUN_DEFAULT);
    moon_buf_deinit(&in);
    uint32_t after = count_fds();
    int left = uv_loop_close(&driver_loop);
    struct moon_buf line = {0};
    moon_buf_printf(&line,
                    "{\"event\":\"end\",\"left_open\":%s,\"unanswered\":%s,"
                    "\"fds\":%d}\n",
                    left != 0 ? "true" : "false",
                    things != NULL ? "true" : "false",
                    (int)after - (int)before);
    driver_say(&line);
    return left != 0 || things != NULL || after != before;
}
