#include "net/stages.h"

#include "base/log.h"
#include "base/random.h"
#include "http/masked_query.h"
#include "http/token.h"

#include <stdio.h>
#include <time.h>

static const struct moon_scope_stages *stages_of(const struct moon_exchange *x)
{
    return &x->app_table->scopes[x->scope].stages;
}

/* The hex digits of sixteen nibbles, one a byte. */
static void put_hex(char *to, moon_bytes16 nibbles)
{
    moon_bytes16 letters = (moon_bytes16)(nibbles > 9);
    moon_bytes16 digits = nibbles + '0' + (letters & ('a' - '0' - 10));
    memcpy(to, &digits, sizeof(digits));
}

/* All at once; the order of the digits does not matter: they are random. */
static void make_id(struct moon_exchange *x)
{
    uint64_t bits[2];
    moon_random_fast(bits);
    moon_bytes16 bytes;
    memcpy(&bytes, bits, sizeof(bytes));
    put_hex(x->request_id_text, bytes & 15);
    put_hex(x->request_id_text + 16, bytes >> 4);
    x->request_id = moon_str(x->request_id_text, 32);
}

static struct moon_str id_header(const struct moon_request_id *set)
{
    return set != NULL && set->header.len > 0 ? set->header
                                              : MOON_STR("X-Request-Id");
}

/* The id that a trusted proxy gave it. Longer or odd ones would end up in logs
 * and commands; shorter ones are hardly unique. */
static MOON_COLD bool take_id(struct moon_exchange *x)
{
    struct moon_str id;
    if (!moon_request_header(&x->req, id_header(stages_of(x)->request_id), 0,
                             &id) ||
        id.len < 8 || id.len > 128)
        return false;
    for (size_t i = 0; i < id.len; i++) {
        /* ALPHA, DIGIT, ".", "_" and "-": unreserved but for "~". */
        if (!moon_char_is(id.ptr[i], MOON_CHAR_UNRESERVED) || id.ptr[i] == '~')
            return false;
    }
    x->request_id = id;
    return true;
}

static enum moon_err add_request_id(struct moon_exchange *x,
                                    const struct moon_request_id *set)
{
    if (set != NULL && (set->off || moon_app_skips(&set->skip, x->path)))
        return MOON_OK;
    return moon_response_add_static(&x->res, &x->arena, id_header(set),
                                    x->request_id);
}

static enum moon_err add_one(struct moon_exchange *x, struct moon_str name,
                             struct moon_str value)
{
    return value.len == 0
               ? MOON_OK
               : moon_response_add_static(&x->res, &x->arena, name, value);
}

static MOON_COLD bool is_https(struct moon_exchange *x)
{
    return moon_str_eq(moon_exchange_client(x)->scheme, MOON_STR("https"));
}

static enum moon_err add_security(struct moon_exchange *x,
                                  const struct moon_security_headers *set)
{
    if (moon_app_skips(&set->skip, x->path))
        return MOON_OK;
    enum moon_err err =
        add_one(x, MOON_STR("X-Content-Type-Options"), MOON_STR("nosniff"));
    if (err == MOON_OK)
        err = add_one(x, MOON_STR("Referrer-Policy"),
                      MOON_STR("strict-origin-when-cross-origin"));
    if (err == MOON_OK)
        err = add_one(x, MOON_STR("Content-Security-Policy"), set->csp);
    if (err == MOON_OK && set->hsts.len > 0 && is_https(x))
        err = add_one(x, MOON_STR("Strict-Transport-Security"), set->hsts);
    if (err == MOON_OK)
        err = add_one(x, MOON_STR("X-Frame-Options"), set->frame);
    return err;
}

static const struct moon_cors *cors_of(const struct moon_exchange *x)
{
    const struct moon_cors *cors = stages_of(x)->cors;
    return cors == NULL || moon_app_skips(&cors->skip, x->path) ? NULL : cors;
}

static bool origin_allowed(const struct moon_cors *cors, struct moon_str origin)
{
    if (cors->any_origin)
        return true;
    for (uint32_t i = 0; i < cors->origins.count; i++) {
        if (moon_str_eq_nocase(cors->origins.items[i], origin))
            return true;
    }
    return false;
}

static enum moon_err add_cors(struct moon_exchange *x)
{
    struct moon_str origin;
    const struct moon_cors *cors = cors_of(x);
    if (cors == NULL)
        return MOON_OK;
    enum moon_err err = MOON_OK;
    if (!cors->any_origin)
        err = moon_response_add(&x->res, &x->arena, MOON_STR("Vary"),
                                MOON_STR("Origin"));
    if (err != MOON_OK ||
        !moon_request_header(&x->req, MOON_STR("origin"), 0, &origin) ||
        !origin_allowed(cors, origin))
        return err;
    err = moon_response_add(&x->res, &x->arena,
                            MOON_STR("Access-Control-Allow-Origin"),
                            cors->any_origin ? MOON_STR("*") : origin);
    if (err == MOON_OK && cors->credentials)
        err = add_one(x, MOON_STR("Access-Control-Allow-Credentials"),
                      MOON_STR("true"));
    return err;
}

enum moon_err moon_stages_begin(struct moon_exchange *x)
{
    if (MOON_LIKELY(x->peer.trust != MOON_PEER_TRUSTED) || !take_id(x))
        make_id(x);
    const struct moon_scope_stages *stages = stages_of(x);
    enum moon_err err = add_request_id(x, stages->request_id);
    if (err == MOON_OK && stages->security != NULL)
        err = add_security(x, stages->security);
    if (err == MOON_OK && stages->cors != NULL)
        err = add_cors(x);
    return err;
}

bool moon_stages_preflight(struct moon_exchange *x)
{
    struct moon_str origin, wanted, headers;
    const struct moon_cors *cors = cors_of(x);
    if (cors == NULL || x->req.method != MOON_METHOD_OPTIONS ||
        !moon_request_header(&x->req, MOON_STR("origin"), 0, &origin) ||
        !moon_request_header(&x->req, MOON_STR("access-control-request-method"),
                             0, &wanted))
        return false;
    if (!origin_allowed(cors, origin))
        return true; /* answered without permission */
    enum moon_err err = MOON_OK;
    if (cors->methods.len > 0)
        err =
            add_one(x, MOON_STR("Access-Control-Allow-Methods"), cors->methods);
    else
        err =
            moon_response_add(&x->res, &x->arena,
                              MOON_STR("Access-Control-Allow-Methods"), wanted);
    if (err == MOON_OK && cors->headers.len > 0)
        err =
            add_one(x, MOON_STR("Access-Control-Allow-Headers"), cors->headers);
    else if (err == MOON_OK &&
             moon_request_header(&x->req,
                                 MOON_STR("access-control-request-headers"), 0,
                                 &headers))
        err = moon_response_add(&x->res, &x->arena,
                                MOON_STR("Access-Control-Allow-Headers"),
                                headers);
    if (err == MOON_OK && cors->max_age_s >= 0) {
        char age[24];
        int len =
            snprintf(age, sizeof(age), "%lld", (long long)cors->max_age_s);
        err = moon_response_add(&x->res, &x->arena,
                                MOON_STR("Access-Control-Max-Age"),
                                moon_str(age, (size_t)len));
    }
    return err == MOON_OK;
}

static bool wants_log(const struct moon_exchange *x,
                      const struct moon_config *config)
{
    if (!config->log_access || !moon_log_enabled(MOON_LOG_INFO))
        return false;
    if (moon_str_starts(x->path, MOON_STR("/-/")))
        return false;
    const struct moon_access_log *set = stages_of(x)->access_log;
    return set == NULL || (!set->off && !moon_app_skips(&set->skip, x->path));
}

enum { TARGET_LOGGED = 2048, AGENT_LOGGED = 256, NUMBER_SIZE = 24 };

static struct moon_str cut(struct moon_str text, size_t max)
{
    return text.len > max ? moon_str(text.ptr, max) : text;
}

static struct moon_log_field integer(const char *namez, uint64_t value,
                                     char text[NUMBER_SIZE])
{
    int len = snprintf(text, NUMBER_SIZE, "%llu", (unsigned long long)value);
    return (struct moon_log_field){moon_strz(namez),
                                   moon_str(text, (size_t)len), true};
}

static struct moon_log_field millis(const char *namez, uint64_t ns,
                                    char text[NUMBER_SIZE])
{
    int len = snprintf(text, NUMBER_SIZE, "%.3f", (double)ns / 1e6);
    return (struct moon_log_field){moon_strz(namez),
                                   moon_str(text, (size_t)len), true};
}

/* What took the time: receiving the request, the application, a client that
 * does not take the answer. */
static void add_phases(const struct moon_exchange *x,
                       struct moon_log_field *fields, char text[][NUMBER_SIZE])
{
    uint64_t done = x->blocked_ns > x->run_ns && x->blocked_ns < x->elapsed_ns
                        ? x->blocked_ns
                        : x->elapsed_ns;
    fields[0] = millis("receive_ms", x->run_ns, text[0]);
    fields[1] = millis("handle_ms", done - x->run_ns, text[1]);
    fields[2] = millis("send_ms", x->elapsed_ns - done, text[2]);
}

/* Apart, so that who wants no line does not pay for the room of one. */
MOON_APART static void write_line(struct moon_exchange *x, bool slow)
{
    enum { NUMBERS = 8, PHASES = 3 };
    char text[NUMBERS][NUMBER_SIZE];
    struct moon_str target =
        moon_masked_query(moon_request_str(&x->req, x->req.target), &x->arena);
    struct moon_str agent;
    if (!moon_request_header(&x->req, MOON_STR("user-agent"), 0, &agent) ||
        agent.len == 0)
        agent = MOON_STR("-");
    struct moon_log_field fields[] = {
        {MOON_STR("ip"), moon_exchange_ip(x), false},
        {MOON_STR("method"), moon_request_str(&x->req, x->req.method_text),
         false},
        {MOON_STR("target"), cut(target, TARGET_LOGGED), false},
        integer("status", x->status_sent, text[0]),
        integer("bytes", x->bytes_out, text[1]),
        millis("ms", x->elapsed_ns, text[2]),
        millis("first_ms", x->head_ns != 0 ? x->head_ns : x->elapsed_ns,
               text[3]),
        {MOON_STR("route"),
         x->route != NULL ? x->route->pattern : MOON_STR("-"), false},
        {MOON_STR("request"), x->request_id, false},
        integer("generation", x->generation_number, text[4]),
        {MOON_STR("agent"), cut(agent, AGENT_LOGGED), false},
        {MOON_STR_NONE, MOON_STR_NONE, false}, /* the phases of a slow one */
        {MOON_STR_NONE, MOON_STR_NONE, false},
        {MOON_STR_NONE, MOON_STR_NONE, false},
    };
    size_t count = MOON_COUNT(fields) - PHASES;
    if (slow) {
        add_phases(x, &fields[count], &text[NUMBERS - PHASES]);
        count += PHASES;
    }
    moon_log_fields(slow ? MOON_LOG_WARN : MOON_LOG_INFO,
                    slow ? MOON_STR("slow request") : MOON_STR("access"),
                    fields, count);
}

void moon_stages_log(struct moon_exchange *x, const struct moon_config *config)
{
    bool slow = x->elapsed_ns / 1000000 >= config->log_slow_ms && !x->streamed;
    if (MOON_UNLIKELY(slow) || wants_log(x, config))
        write_line(x, slow);
}
