/* The configuration of a node: every key in one table, with its kind, default
 * and what is allowed; the struct, the parser and the printer follow from it.
 *
 * One heap object, filled in layers (option over environment over config.lua
 * over default, in whatever order they are applied), completed by
 * moon_config_finish, then read only: any thread may read it. All text in it
 * is owned by it and dies with it. Every function that can fail writes a
 * sentence for the user into `error`. */
#ifndef MOON_BASE_CONFIG_H
#define MOON_BASE_CONFIG_H

#include "base/buf.h"
#include "base/errcode.h"
#include "base/nets.h"

/* X(kind, field, key, default, allowed, flags)
 *
 * DURATION  milliseconds; "none" is MOON_CONFIG_NONE
 * SIZE      bytes; "none" is MOON_CONFIG_NONE, "auto" is set by finish
 * COUNT     "none" is 0, "auto" is set by finish
 * RATIO     0..1, "none" is 0
 * BOOL      true false on off
 * CHOICE    index of the word in `allowed`, see the enums below
 * STRING    NUL-terminated, "" when unset, never NULL; `allowed` "name": of
 *           letters, digits, dot, dash and underscore; "secret": at least
 *           MOON_SECRET_MIN bytes
 * URL       a string that may carry a password; `allowed` lists its schemes
 * ADDR      a string that moon_address_parse takes
 * ADDRS     a list of these; `allowed` "on|off": or one of these words, where
 *           "on" is kept as the only item and "off" is an empty list
 * NETS      a list of addresses, CIDR blocks or "unix"
 * DICTS     a list of name = size
 * JSON      JSON text of an object */
#define MOON_CONFIG_MAP(X)                                                     \
    X(ADDRS, listen, "listen", "127.0.0.1:8080", "", MOON_CONFIG_RESTART)      \
    X(ADDR, adminz, "admin", "", "", MOON_CONFIG_RESTART)                      \
    X(STRING, admin_tokenz, "admin_token", "", "", MOON_CONFIG_SECRET)         \
    X(COUNT, workers, "workers", "auto", "1..256|auto", MOON_CONFIG_RESTART)   \
    X(STRING, namez, "name", "", "name", MOON_CONFIG_RESTART)                  \
    X(STRING, userz, "user", "", "name", MOON_CONFIG_RESTART)                  \
    X(STRING, run_dirz, "run_dir", "", "", MOON_CONFIG_RESTART)                \
    X(STRING, state_dirz, "state_dir", "", "", MOON_CONFIG_RESTART)            \
    X(URL, redis_urlz, "redis.url", "", MOON_CONFIG_REDIS_URLS, 0)             \
    X(DURATION, redis_connect_timeout_ms, "redis.connect_timeout", "1s",       \
      "10ms..60s", 0)                                                          \
    X(DURATION, redis_timeout_ms, "redis.timeout", "250ms", "1ms..60s", 0)     \
    X(URL, session_urlz, "session.url", "",                                    \
      "lmdb:|memory:|memcached://|" MOON_CONFIG_REDIS_URLS, 0)                 \
    X(SIZE, session_lmdb_size_bytes, "session.lmdb_size", "4g", "1m..1t",      \
      MOON_CONFIG_RESTART)                                                     \
    X(DURATION, session_idle_ms, "session.idle", "30m", "1s..366d|none", 0)    \
    X(DURATION, session_absolute_ms, "session.absolute", "12h",                \
      "1s..366d|none", 0)                                                      \
    X(STRING, session_cookie_namez, "session.cookie.name", "", "name", 0)      \
    X(CHOICE, session_cookie_same_site, "session.cookie.same_site", "lax",     \
      "lax|strict|none", 0)                                                    \
    X(STRING, session_cookie_domainz, "session.cookie.domain", "", "", 0)      \
    X(CHOICE, session_cookie_secure, "session.cookie.secure", "auto",          \
      "auto|on|off", 0)                                                        \
    X(URL, limits_urlz, "limits.url", "", MOON_CONFIG_REDIS_URLS, 0)           \
    X(DURATION, limits_timeout_ms, "limits.timeout", "50ms", "1ms..60s", 0)    \
    X(CHOICE, limits_on_store_error, "limits.on_store_error", "local",         \
      "local|open|closed", 0)                                                  \
    X(COUNT, limits_max_keys, "limits.max_keys", "1000000", "1000..100000000", \
      MOON_CONFIG_RESTART)                                                     \
    X(URL, cluster_urlz, "cluster.url", "", MOON_CONFIG_REDIS_URLS, 0)         \
    X(STRING, secrets_newz, "secrets.new", "", "secret", MOON_CONFIG_SECRET)   \
    X(STRING, secrets_oldz, "secrets.old", "", "secret", MOON_CONFIG_SECRET)   \
    X(SIZE, password_memory_bytes, "password.memory", "128m", "8m..64g", 0)    \
    X(COUNT, password_queue, "password.queue", "100", "0..1000000", 0)         \
    X(COUNT, metrics_max_series, "metrics.max_series", "2000", "10..100000",   \
      MOON_CONFIG_RESTART)                                                     \
    X(NETS, trusted_proxies, "trusted_proxies", "", "", 0)                     \
    X(CHOICE, forwarded, "forwarded", "x-forwarded", "x-forwarded|rfc7239", 0) \
    X(ADDRS, proxy_protocol, "proxy_protocol", "off", "on|off",                \
      MOON_CONFIG_RESTART)                                                     \
    X(SIZE, request_line_limit_bytes, "request_line_limit", "8k", "64..1m", 0) \
    X(SIZE, header_limit_bytes, "header_limit", "32k", "256..16m", 0)          \
    X(COUNT, header_count, "header_count", "100", "1..10000", 0)               \
    X(SIZE, body_limit_bytes, "body_limit", "1m", "0..1t|none", 0)             \
    X(COUNT, max_args, "max_args", "100", "1..100000", 0)                      \
    X(SIZE, body_buffer_bytes, "body_buffer", "64k", "0..1g", 0)               \
    X(SIZE, body_memory_bytes, "body_memory", "16m", "64k..1t", 0)             \
    X(SIZE, output_memory_bytes, "output_memory", "256m", "64k..1t|none", 0)   \
    X(STRING, temp_dirz, "temp_dir", "", "", 0)                                \
    X(DURATION, header_timeout_ms, "header_timeout", "10s", "10ms..1d", 0)     \
    X(DURATION, body_timeout_ms, "body_timeout", "30s", "10ms..1d", 0)         \
    X(DURATION, write_timeout_ms, "write_timeout", "30s", "10ms..1d", 0)       \
    X(DURATION, keepalive_timeout_ms, "keepalive_timeout", "75s", "0..1d", 0)  \
    X(DURATION, timeout_ms, "timeout", "30s", "1ms..1d|none", 0)               \
    X(DURATION, stream_timeout_ms, "stream_timeout", "none", "1ms..366d|none", \
      0)                                                                       \
    X(DURATION, load_timeout_ms, "load_timeout", "10s", "100ms..1h", 0)        \
    X(DURATION, cpu_limit_ms, "cpu_limit", "250ms", "1ms..1h", 0)              \
    X(DURATION, hang_timeout_ms, "hang_timeout", "10s", "100ms..1d|none", 0)   \
    X(DURATION, slow_slice_ms, "slow_slice", "100ms", "1ms..1h|none", 0)       \
    X(SIZE, memory_limit_bytes, "memory_limit", "auto", "8m..1t|auto", 0)      \
    X(SIZE, request_memory_bytes, "request_memory", "64m", "1m..1t|none", 0)   \
    X(COUNT, max_connections, "max_connections", "auto", "1..100000000|auto",  \
      0)                                                                       \
    X(COUNT, max_connections_per_ip, "max_connections_per_ip", "none",         \
      "1..100000000|none", 0)                                                  \
    X(COUNT, keepalive_requests, "keepalive_requests", "none",                 \
      "1..4000000000|none", 0)                                                 \
    X(COUNT, max_tasks, "max_tasks", "1000", "1..1000000", 0)                  \
    X(DURATION, shed_lag_ms, "shed_lag", "500ms", "10ms..1h|none", 0)          \
    X(STRING, upload_dirz, "upload.dir", "", "", 0)                            \
    X(COUNT, upload_max_files, "upload.max_files", "20", "0..10000", 0)        \
    X(SIZE, upload_max_file_bytes, "upload.max_file", "none", "1..1t|none", 0) \
    X(DICTS, shared, "shared", "", "", 0)                                      \
    X(DURATION, drain_delay_ms, "drain_delay", "0", "0..1h", 0)                \
    X(DURATION, drain_idle_ms, "drain_idle", "15s", "0..1h", 0)                \
    X(DURATION, drain_timeout_ms, "drain_timeout", "30s", "0..1d", 0)          \
    X(DURATION, linger_ms, "linger", "1h", "0..366d", 0)                       \
    X(COUNT, max_generations, "max_generations", "3", "2..16", 0)              \
    X(DURATION, rollback_window_ms, "rollback.window", "none", "1s..1d|none",  \
      0)                                                                       \
    X(RATIO, rollback_error_ratio, "rollback.error_ratio", "0.1", "0..1", 0)   \
    X(COUNT, quarantine_failures, "quarantine.failures", "none",               \
      "1..1000000|none", 0)                                                    \
    X(DURATION, quarantine_retry_ms, "quarantine.retry", "30s", "1s..1d", 0)   \
    X(CHOICE, log_level, "log.level", "info", "debug|info|warn|error", 0)      \
    X(CHOICE, log_format, "log.format", "text", "text|json", 0)                \
    X(STRING, log_filez, "log.file", "stderr", "", 0)                          \
    X(BOOL, log_access, "log.access", "on", "on|off", 0)                       \
    X(DURATION, log_slow_ms, "log.slow", "1s", "1ms..1d|none", 0)              \
    X(JSON, app_jsonz, "app", "{}", "", 0)

#define MOON_CONFIG_REDIS_URLS \
    "redis://|redis+unix://|redis+sentinel://|redis+cluster://"

#define MOON_CONFIG_NONE UINT64_MAX

/* What is shorter than this can be guessed. */
#define MOON_SECRET_MIN 16

enum {
    MOON_CONFIG_RESTART = 1, /* a reload cannot change it */
    MOON_CONFIG_SECRET = 2,  /* never printed */
};

/* Values of the CHOICE keys, in the order of `allowed`. log.level and
 * log.format are enum moon_log_level and enum moon_log_format. */
enum { MOON_FORWARDED_X, MOON_FORWARDED_RFC7239 };
enum { MOON_STORE_LOCAL, MOON_STORE_OPEN, MOON_STORE_CLOSED };
enum { MOON_SAME_SITE_LAX, MOON_SAME_SITE_STRICT, MOON_SAME_SITE_NONE };
enum { MOON_SECURE_AUTO, MOON_SECURE_ON, MOON_SECURE_OFF };

struct moon_config_list {
    char **items; /* NUL-terminated each */
    uint32_t count;
};

struct moon_config_dict {
    char *namez;
    uint64_t bytes;
};

struct moon_config_dicts {
    struct moon_config_dict *items;
    uint32_t count;
};

/* Where a value came from; a higher one wins. */
enum moon_config_level {
    MOON_CONFIG_DEFAULT,
    MOON_CONFIG_FILE,
    MOON_CONFIG_ENV,
    MOON_CONFIG_OPTION,
};

#define MOON_CONFIG_TYPE_DURATION uint64_t
#define MOON_CONFIG_TYPE_SIZE uint64_t
#define MOON_CONFIG_TYPE_COUNT uint32_t
#define MOON_CONFIG_TYPE_RATIO double
#define MOON_CONFIG_TYPE_BOOL bool
#define MOON_CONFIG_TYPE_CHOICE uint32_t
#define MOON_CONFIG_TYPE_STRING char *
#define MOON_CONFIG_TYPE_URL char *
#define MOON_CONFIG_TYPE_ADDR char *
#define MOON_CONFIG_TYPE_ADDRS struct moon_config_list
#define MOON_CONFIG_TYPE_NETS struct moon_nets
#define MOON_CONFIG_TYPE_DICTS struct moon_config_dicts
#define MOON_CONFIG_TYPE_JSON char *

enum {
#define X(kind, field, key, value, allowed, flags) MOON_CONFIG_KEY_##field,
    MOON_CONFIG_MAP(X)
#undef X
        MOON_CONFIG_KEYS
};

struct moon_config {
#define X(kind, field, key, value, allowed, flags) \
    MOON_CONFIG_TYPE_##kind field;
    MOON_CONFIG_MAP(X)
#undef X
    uint8_t levels[MOON_CONFIG_KEYS]; /* enum moon_config_level */
    char *origins[MOON_CONFIG_KEYS];  /* "config.lua", "--workers"; or NULL */
};

/* All defaults; NULL when memory is out. */
MOON_MUST_CHECK struct moon_config *moon_config_create(void);
void moon_config_destroy(struct moon_config *config); /* NULL is fine */

/* Sets one key from text: "30s", "64k", "true", lists by comma. Checked even
 * if a higher level has set the key before, in which case it changes nothing.
 * `originz` is named in errors ("config.lua:3", "--set"); copied. */
MOON_MUST_CHECK enum moon_err moon_config_set(struct moon_config *config,
                                              struct moon_str key,
                                              struct moon_str value,
                                              enum moon_config_level level,
                                              const char *originz, char *error,
                                              size_t error_size);

/* MOONSHINE_<KEY> for every key but `app` (dots as underscores), or the
 * contents of the file that MOONSHINE_<KEY>_FILE names. Empty means unset. */
MOON_MUST_CHECK enum moon_err moon_config_apply_env(struct moon_config *config,
                                                    char *error,
                                                    size_t error_size);

/* After all layers: computes what is "auto" or derived (workers, memory_limit,
 * max_connections, run_dir, state_dir, temp_dir, name, the URLs that follow
 * redis.url) and checks what concerns several keys. `admin` stays "" when
 * unset: the socket is RUN_DIR/NAME/admin.sock. `name` stays "" when the first
 * address has port 0: set it with moon_config_set_port once that is known. */
MOON_MUST_CHECK enum moon_err moon_config_finish(struct moon_config *config,
                                                 char *error,
                                                 size_t error_size);
/* Makes the paths absolute: those from config.lua are relative to `app_dirz`,
 * those from an option or the environment to the working directory. */
MOON_MUST_CHECK enum moon_err moon_config_resolve_paths(
    struct moon_config *config, const char *app_dirz);

/* Is `proxy_protocol` spoken on the address listen.items[index]? */
bool moon_config_is_proxied(const struct moon_config *config, uint32_t index);

/* Names the node after its port, if it has no name. */
MOON_MUST_CHECK enum moon_err moon_config_set_port(struct moon_config *config,
                                                   uint16_t port);

/* Everything as bytes, from one process to another; parse gives an equal
 * configuration. Neither needs finish to have run. */
void moon_config_serialise(const struct moon_config *config,
                           struct moon_buf *out);
MOON_MUST_CHECK enum moon_err moon_config_parse(struct moon_str bytes,
                                                struct moon_config **out,
                                                char *error, size_t error_size);

/* Names of the keys that differ and need a restart, comma-separated, into
 * `out`; how many. */
uint32_t moon_config_restart_keys(const struct moon_config *before,
                                  const struct moon_config *after,
                                  struct moon_buf *out);

/* One value as text that moon_config_set takes; with `masked` set, secrets and
 * passwords in URLs are "***". `index` is a MOON_CONFIG_KEY_... */
void moon_config_print(const struct moon_config *config, uint32_t index,
                       bool masked, struct moon_buf *out);
/* The dotted name of a key; NULL past the last. */
const char *moon_config_key(uint32_t index);
/* What the table says of it: its default, and what is allowed as a person
 * reads it ("a duration of 10ms..1d or none"). */
const char *moon_config_default(uint32_t index);
void moon_config_describe(uint32_t index, struct moon_buf *out);

/* Value of an environment variable, or the contents (less trailing line ends)
 * of the file that NAME_FILE names, into `out`. MOON_ENOT_FOUND if neither is
 * set; both being set is an error. */
MOON_MUST_CHECK enum moon_err moon_config_env(const char *namez,
                                              struct moon_buf *out, char *error,
                                              size_t error_size);

/* The URL with what stands before its @ as "***", for any output. */
void moon_config_mask_url(struct moon_str url, struct moon_buf *out);

#endif
