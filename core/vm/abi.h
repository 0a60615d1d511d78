/* What the Lua framework may call through LuaJIT's FFI, and nothing else.
 *
 * The text between the two ffi marks is given to ffi.cdef as it stands, so
 * this header is the only place where the border is written down; keep it to
 * plain declarations. Rules for every function here: it never raises, never
 * yields, never calls lua_*, never re-enters the VM, and keeps no pointer to
 * Lua memory after it returns. Bytes handed out live until the request ends,
 * or until the next call where said. Bump MOON_ABI_VERSION with each change
 * that an older framework would not survive. */
#ifndef MOON_VM_ABI_H
#define MOON_VM_ABI_H

#include "base/compiler.h"
#include "vm/task.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MOON_ABI_VERSION 1

#pragma GCC visibility push(default)
/* ffi:begin */
/* A request as Lua sees it: a numbered place that outlives the request in it,
 * so that a handle is made once and kept. */
typedef struct moon_slot moon_slot;
typedef struct moon_bytes {
    const char *ptr;
    size_t len;
} moon_bytes;

/* The handle of a place, valid as long as the VM; NULL if there is none. */
moon_slot *moon_slot_get(uint32_t slot);

/* ---- tasks: vm/task.c ---- */
int moon_abi_version(void);
/* Place number of the running task; 0 while the app loads. */
uint32_t moon_task_current(void);
/* Static text: why the running code may not yield ("while loading"), or NULL
 * if it may. */
const char *moon_task_no_yield(void);
/* The task's next yield suspends it until moon_task_unpark or, if timeout_ms
 * is not negative, until the time is over. `what` (static or interned for the
 * VM's life) is shown by `status --requests`. 0, or negative when it may not
 * wait. */
int moon_task_park(double timeout_ms, const char *what);
/* Before the yield: the operation is undone after all, because the yield cannot
 * happen. */
void moon_task_drop_wait(void);
/* After the yield: 1 unparked, 0 time over. */
int moon_task_result(void);
/* Wakes a parked task, once; a second call before it ran is kept. False if it
 * is gone. */
bool moon_task_unpark(uint32_t task);
/* Queues a new task; Lua's main is entered with (MAIN_CALL, number). With
 * `in_request` it belongs to the running task's request and dies with it.
 * 0 when max_tasks are alive. */
uint32_t moon_task_spawn(bool in_request);
/* Ends a task from outside: its pending operation is cancelled and an error
 * raised in it. */
bool moon_task_cancel(uint32_t task);
/* Lua asks which coroutine it runs in, and may keep things under it: with the
 * task's end that coroutine ends, too, instead of serving the next one. */
void moon_task_name(void);
/* Marks the running task as a timer between two runs: ended at once when its
 * generation retires. */
void moon_task_set_timer(bool idle);
/* The app's on_start and checks are over (ok) or failed with this text. */
void moon_vm_started(bool ok, const char *text, size_t len);
/* Where app:check reaches the app it checks ("@name"), or NULL. */
const char *moon_vm_check_socket(void);
bool moon_vm_stopping(void); /* retired, draining or shutting down */
/* ---- requests: vm/vm_api_request.c ----
 * Bytes live until the request ends. All of these answer "nothing" when the
 * slot is empty. */
/* 1 method, 2 path, 3 raw query, 4 route pattern, 5 request id, 6 ip,
 * 7 scheme, 8 host. */
void moon_req_text(moon_slot *slot, int what, moon_bytes *out);
/* 0 no such parameter, 1 text in `out`, 2 an <int>, in *number too. */
int moon_req_param(moon_slot *slot, const char *name, size_t len,
                   moon_bytes *out, double *number);
/* The nth field of that name, from 0. */
bool moon_req_header(moon_slot *slot, const char *name, size_t len,
                     uint32_t nth, moon_bytes *out);
bool moon_req_header_at(moon_slot *slot, uint32_t index, moon_bytes *name,
                        moon_bytes *value);
/* Walks name=value pairs; a zeroed cursor starts. */
typedef struct moon_cursor {
    const char *ptr;
    size_t len;
    uint32_t field;
    bool started;
} moon_cursor;
bool moon_req_query_next(moon_slot *slot, moon_cursor *cursor, moon_bytes *name,
                         moon_bytes *value);
bool moon_req_cookie_next(moon_slot *slot, moon_cursor *cursor,
                          moon_bytes *name, moon_bytes *value);
/* The nth value of that name, from 0. */
bool moon_req_query(moon_slot *slot, const char *name, size_t len, uint32_t nth,
                    moon_bytes *out);
bool moon_req_cookie(moon_slot *slot, const char *name, size_t len,
                     moon_bytes *out);
/* What the Content-Type says: 0 nothing, 1 JSON (also +json), 2 an urlencoded
 * form, 3 a multipart form, 4 something else. */
int moon_req_body_type(moon_slot *slot);
/* 0 streamed or not complete, 1 all of it in `out`, 2 in a file: out->len is
 * its size. */
int moon_req_body(moon_slot *slot, moon_bytes *out);
/* Copies body bytes from an offset, from memory or file; how many, 0 at the
 * end, -1 when the file cannot be read. */
int64_t moon_req_body_pread(moon_slot *slot, uint64_t from, char *to,
                            size_t len);
/* Streamed body: 1 a piece (until the next call), 0 the end, -1 wait with
 * moon_req_wait_readable, -2 cut off, -3 larger than its limit. */
int moon_req_read(moon_slot *slot, size_t max, moon_bytes *out);
/* As moon_task_park, until more of the body is here. */
int moon_req_wait_readable(moon_slot *slot);
int moon_req_closing(moon_slot *slot); /* 1 client gone, 2 server drains */
int moon_req_scope(moon_slot *slot);
/* Does its Accept prefer HTML to JSON, explicitly? */
bool moon_req_prefers_html(moon_slot *slot);
uint32_t moon_req_current(void); /* slot of the running task, or 0 */
/* The status of an automatic answer that a hook shapes, else 0. */
int moon_req_auto_status(moon_slot *slot);
/* Is that because its route is in quarantine? */
bool moon_req_quarantined(moon_slot *slot);
/* Its route failed in a way that counts for quarantine; place may be empty. */
void moon_req_failed(moon_slot *slot, const char *kind, size_t kind_len,
                     const char *place, size_t place_len, const char *message,
                     size_t len);

/* ---- forms and uploads: vm/vm_api_form.c ----
 * Work on the body of a request, done aside: make a job, start it, yield,
 * ask for its result, free it. A job outlives the request if it must. */
typedef struct moon_job moon_job;
typedef struct moon_part_info {
    moon_bytes name, filename, type; /* as long as the job */
    double from, len;                /* of the data in the body */
    bool is_file;
} moon_part_info;
/* Lists a multipart body, already done if that is in memory. NULL: no
 * memory. */
moon_job *moon_job_form(moon_slot *slot);
uint32_t moon_job_parts(const moon_job *job);
bool moon_job_part(const moon_job *job, uint32_t index, moon_part_info *out);
/* Copies a range of the body into a file that appears when it is complete. */
moon_job *moon_job_save(moon_slot *slot, double from, double len,
                        const char *path, size_t path_len);
/* Copies it into a file without a name in upload.dir. */
moon_job *moon_job_temp(moon_slot *slot, double from, double len);
/* What others may open it as, while the job lives; NULL if it has none. */
const char *moon_job_path(const moon_job *job);
/* 0 it is done, 1 yield, negative: it cannot be started now. */
int moon_job_start(moon_job *job);
/* 0, or the status of the failure and in `out` why. */
int moon_job_result(const moon_job *job, moon_bytes *out);
void moon_job_free(moon_job *job);

/* ---- sessions: vm/vm_api_session.c ----
 * The request's session. What asks the store returns 0 done, 1 wait: yield,
 * then moon_session_outcome; negative: failed, as in base/errcode.h (-5: it was
 * ended meanwhile), and moon_session_why says why. Fields have a kind ('d'
 * data, 'f' flash) and a name. */
/* The id is the value of the cookie `name`, or over https of `secure`. */
int moon_session_open(moon_slot *slot, const char *name, size_t name_len,
                      const char *secure, size_t secure_len);
int moon_session_begin_load(moon_slot *slot, bool again);
int moon_session_begin_commit(moon_slot *slot);
bool moon_session_unsaved(moon_slot *slot); /* would a commit save anything? */
/* Saves these pairs (a value with ptr NULL removes) if nobody saved since the
 * session was read; -6 if somebody did. */
int moon_session_begin_update(moon_slot *slot, const moon_bytes *names,
                              const moon_bytes *values, uint32_t count);
bool moon_session_is_busy(moon_slot *slot); /* another task waits for it */
int moon_session_outcome(moon_slot *slot);
void moon_session_why(moon_slot *slot, moon_bytes *out);
/* Tells the store that it is alive, if it is time to; nobody waits. */
void moon_session_touch_later(moon_slot *slot);
/* After a commit: 0 leave the cookie, 1 set it to `id` for keep_s seconds (-1:
 * until the browser closes), 2 remove it. */
int moon_session_cookie_of(moon_slot *slot, moon_bytes *id, double *keep_s);
bool moon_session_has(moon_slot *slot); /* exists, or will */
/* 0 there is none; 1 its JSON text in `out`. What many values are needs no
 * decoder: 2 the number, 3 the string in `out`, 4 false, 5 true. */
int moon_session_get_field(moon_slot *slot, int kind, const char *name,
                           size_t len, moon_bytes *out, double *number);
bool moon_session_field_at(moon_slot *slot, uint32_t index, int *kind,
                           moon_bytes *name, moon_bytes *value);
int moon_session_set_field(moon_slot *slot, int kind, const char *name,
                           size_t len, const char *value, size_t value_len);
/* The same for a finite number, and for a string that is its own JSON text but
 * for the quotes. */
int moon_session_set_number(moon_slot *slot, int kind, const char *name,
                            size_t len, double value);
bool moon_session_is_plain(const char *value, size_t len);
int moon_session_set_plain(moon_slot *slot, int kind, const char *name,
                           size_t len, const char *value, size_t value_len);
void moon_session_do(
    moon_slot *slot,
    int what); /* 1 clear, 2 renew, 3 end, 4 forget what is not saved */
int moon_session_set_owner(moon_slot *slot, const char *subject, size_t len);
void moon_session_owner(moon_slot *slot, moon_bytes *out);
void moon_session_keep(moon_slot *slot, double seconds);
/* Of all sessions of a subject. */
typedef struct moon_session_query moon_session_query;
moon_session_query *moon_session_query_new(void); /* NULL: no memory */
void moon_session_query_free(moon_session_query *query);
int moon_session_query_list(moon_session_query *query, const char *subject,
                            size_t len);
int moon_session_query_remove(moon_session_query *query, const char *subject,
                              size_t len);
/* After the wait: an error, or how many. */
int moon_session_query_outcome(const moon_session_query *query, uint32_t *count,
                               moon_bytes *why);
bool moon_session_query_at(const moon_session_query *query, uint32_t index,
                           moon_bytes *key, double *created, double *seen);

/* ---- limits: vm/vm_api_limit.c ----
 * By the numbers of native.add_limit. Times are seconds. */
typedef struct moon_limit_result {
    bool allowed;
    int status; /* of the refusal */
    double remaining, delay, retry, reset;
    void *hold; /* not decided: yield, then moon_limit_answer with it */
} moon_limit_result;
/* Holds the request against these, all or none, and sets the fields of its
 * response. A key with ptr NULL: by what the limit says. */
void moon_limit_check(moon_slot *slot, const uint16_t *numbers,
                      const moon_bytes *keys, uint32_t count,
                      moon_limit_result *out);
void moon_limit_answer(void *hold, moon_limit_result *out);
/* After these it is moon_limit_answer_one. */
void moon_limit_take(uint32_t number, const char *key, size_t len,
                     uint32_t cost, moon_limit_result *out);
void moon_limit_peek(uint32_t number, const char *key, size_t len,
                     moon_limit_result *out);
void moon_limit_answer_one(void *hold, moon_limit_result *out);
void moon_limit_reset(uint32_t number, const char *key, size_t len);

/* ---- shared dictionaries: vm/vm_api_shared.c ----
 * Types: 1 string, 2 number, 3 boolean (as a number). Times to live are
 * seconds, 0 for ever. Errors are negative, as in base/errcode.h. */
typedef struct moon_dict moon_dict;
typedef struct moon_shared_value {
    int type;
    moon_bytes text; /* until the next call of any of these */
    double number;
} moon_shared_value;
/* NULL: no room. */
moon_dict *moon_shared_open(const char *name, size_t len, double bytes);
void moon_shared_close(moon_dict *dict);
/* 0 found, -5 not there. */
int moon_shared_get(moon_dict *dict, const char *key, size_t len,
                    moon_shared_value *out);
int moon_shared_set(moon_dict *dict, const char *key, size_t len,
                    const moon_shared_value *value, double ttl, bool only_new);
int moon_shared_incr(moon_dict *dict, const char *key, size_t len, double by,
                     bool make, double initial, double ttl, double *result);
bool moon_shared_delete(moon_dict *dict, const char *key, size_t len);
bool moon_shared_delete_if(moon_dict *dict, const char *key, size_t len,
                           const char *text, size_t text_len);

/* ---- responses: vm/vm_api_response.c ---- */
/* Errors are negative, as in base/errcode.h. */
void moon_res_set_status(moon_slot *slot, int status);
int moon_res_get_status(moon_slot *slot); /* 0: none set */
/* A NULL value removes the field. -3: not allowed (CR, LF, NUL, or a field
 * that the server sets itself). */
int moon_res_set(moon_slot *slot, const char *name, size_t name_len,
                 const char *value, size_t len);
int moon_res_add(moon_slot *slot, const char *name, size_t name_len,
                 const char *value, size_t len);
bool moon_res_get(moon_slot *slot, const char *name, size_t len, uint32_t nth,
                  moon_bytes *out);
void moon_res_drop_content(moon_slot *slot);
/* Sends all of it: status 0 keeps the one that is set, else 200. The type is
 * used unless a Content-Type is set; empty: none. */
int moon_res_send(moon_slot *slot, int status, const char *body, size_t len,
                  const char *type, size_t type_len);
int moon_res_text(moon_slot *slot, int status, const char *body, size_t len);
/* The built-in body of an error status; both texts may be empty. */
int moon_res_problem(moon_slot *slot, int status, const char *detail,
                     size_t detail_len, const char *details_json,
                     size_t json_len);
/* A file below `root` (absolute, or NULL: the app's directory) with
 * validators and ranges; max_age -1: no Cache-Control. */
int moon_res_file(moon_slot *slot, const char *rootz, const char *path,
                  size_t len, double max_age);
/* Appends a Set-Cookie field; -3 with the reason in `out`. max_age -1: a
 * session cookie. */
int moon_res_cookie(moon_slot *slot, const moon_bytes *texts, double max_age,
                    bool secure, bool http_only, moon_bytes *out);
bool moon_res_started(moon_slot *slot); /* the head is out */
int moon_res_stream_begin(moon_slot *slot, const char *type, size_t type_len);
/* 0 taken, -7 taken but wait with moon_res_wait_writable, -10 closed. */
int moon_res_stream_write(moon_slot *slot, const char *bytes, size_t len);
void moon_res_stream_flush(moon_slot *slot);
void moon_res_stream_end(moon_slot *slot, bool complete);
int moon_res_wait_writable(moon_slot *slot);
/* As moon_task_park, until the response left or the client did; 1: that is so
 * already, do not yield. */
int moon_res_wait_sent(moon_slot *slot);

/* ---- what the client likes and has: vm/vm_api_negotiate.c ---- */
/* Which of up to 16 types Accept likes best, from 1; 0: none. Adds Accept to
 * Vary. */
int moon_res_accepts(moon_slot *slot, const moon_bytes *offers, uint32_t count);
/* Evaluates the preconditions against the entity tag made of `value` (NULL:
 * nothing is there): 0 go on, 304 the client has it, 412 they fail. Sets ETag
 * for GET and HEAD. */
int moon_res_etag(moon_slot *slot, const char *value, size_t len, bool weak);

/* ---- log: vm/vm_api_log.c ---- */
bool moon_lua_log_enabled(int level); /* 0 debug .. 3 error */
/* Fields are collected, then written with the line. */
void moon_lua_log_field(const char *name, size_t name_len, const char *value,
                        size_t len, bool raw);
void moon_lua_log(int level, const char *text, size_t len);

/* ---- small things: vm/vm_api_util.c ---- */
/* Their output lives until the next call of any of them on this thread. */
double moon_lua_now(void);
double moon_lua_clock(void);
/* codec: 1 base64, 2 base64url, 3 hex, 4 percent, 5 html; false: bad input */
bool moon_lua_encode(int codec, const char *text, size_t len, moon_bytes *out);
bool moon_lua_decode(int codec, const char *text, size_t len, moon_bytes *out);
/* How text stands within other text: 1 in HTML, 2 as a field of CSV, 3 JSON in
 * a script. 0 as it is, 1 as `out` says, -1 no memory. */
int moon_lua_quote(int how, const char *text, size_t len, moon_bytes *out);
/* By the extension of a file's name; static. */
void moon_lua_content_type(const char *name, size_t len, moon_bytes *out);
void moon_lua_random(char *to, size_t len);
void moon_lua_http_date(double when, moon_bytes *out);
bool moon_lua_http_date_parse(const char *text, size_t len, double *when);
/* Characters of a text, -1 if it is not UTF-8 (RFC 3629). */
double moon_lua_utf8_length(const char *text, size_t len);
/* Unescaped pairs of a urlencoded text, walked with a cursor. */
bool moon_lua_form_next(moon_cursor *cursor, moon_bytes *name,
                        moon_bytes *value);

/* ---- crypto: vm/vm_api_crypto.c ----
 * Digests are 32 raw bytes. */
void moon_crypto_sha256(const char *text, size_t len, char *to);
void moon_crypto_hmac_sha256(const char *key, size_t key_len, const char *text,
                             size_t len, char *to);
/* In a time that does not depend on where they differ. */
bool moon_crypto_equal(const char *a, const char *b, size_t len);
void moon_crypto_uuid(char *to); /* 36 characters */
/* A key for one purpose from the node's secret: 0 the new one, 1 the old one;
 * false if there is none. HKDF with SHA-256 (RFC 5869). */
bool moon_crypto_derive(int which, const char *purpose, size_t len, char *to);

/* ---- passwords: vm/vm_api_password.c ----
 * A job for the thread pool. Start one operation, yield, ask for the outcome;
 * freed by its maker at any time. */
typedef struct moon_password moon_password;
/* NULL: no memory. The password is copied, and wiped once it is hashed. */
moon_password *moon_password_new(const char *password, size_t len);
void moon_password_free(moon_password *job);
/* 0: yield. -4 needs more memory or passes than it may have, -11 the hash is
 * not one, -12 the task may not wait, -13 too many wait. */
int moon_password_hash(moon_password *job, double memory, double passes);
int moon_password_verify(moon_password *job, const char *hash, size_t len);
/* 0: the hash in `out` until the job is freed, or the password is right;
 * -12 it is wrong; -1, -2 the system could not. */
int moon_password_outcome(const moon_password *job, moon_bytes *out);
/* Was it made with other parameters, or another algorithm? */
bool moon_password_is_stale(const char *hash, size_t len, double memory,
                            double passes);
double moon_password_memory_max(void);

/* ---- metrics: vm/vm_api_metrics.c ----
 * Lua counts by writing to cells of its own; see state/metrics.h. */
/* The cells, for the VM's life; NULL: no memory. */
double *moon_metrics_here(void);
/* kind: 1 counter, 2 gauge, 3 histogram; texts: name, help, label names with
 * commas between. Its number, or -13 too many metrics, -8 somebody holds the
 * table, -1 no memory. */
int moon_metrics_add(int kind, const moon_bytes *texts, const double *buckets,
                     uint32_t bucket_count);
/* The first cell of the metric's series with these label values. *kept false:
 * it is that of all others, ask again the next time. */
uint32_t moon_metrics_cell(uint32_t metric, const moon_bytes *values,
                           uint32_t count, bool *kept);
/* Counts a value in the cells of a histogram. */
void moon_metrics_count(double *cells, const double *buckets, uint32_t count,
                        double value);

/* ---- tests: vm/vm_api_test.c, vm/vm_api_test_session.c, vm/travel.c ----
 * For the probe and `moonshine test`; elsewhere they do nothing. */
/* As enum moon_test_event of vm/vm_test.h. */
void moon_test_report(int event, uint32_t number, const char *text, size_t len);
/* Gives a task the time of a test, of CPU at a stretch and by the clock in all;
 * then it ends with kind "timeout". 0: nobody is bounded any more. */
bool moon_test_limit(uint32_t task);
/* Lines logged since the last clear, from 0. The bytes live until the next
 * one. A field: 1 a raw JSON value, 0 text, -1 there is none. */
void moon_test_log_clear(void);
uint32_t moon_test_log_count(void);
bool moon_test_log_at(uint32_t index, moon_bytes *level, moon_bytes *message,
                      uint32_t *fields);
int moon_test_log_field(uint32_t index, uint32_t field, moon_bytes *name,
                        moon_bytes *value);
/* A session with these fields ("d:name") in the store: 0 done, 1 wait: yield,
 * then the outcome; negative: as in base/errcode.h. Then `out` is its id, or
 * why there is none. */
typedef struct moon_test_session moon_test_session;
moon_test_session *moon_test_session_new(void); /* NULL: no store here */
int moon_test_session_set(moon_test_session *made, const char *name, size_t len,
                          const char *value, size_t value_len);
int moon_test_session_save(moon_test_session *made);
int moon_test_session_outcome(const moon_test_session *made, moon_bytes *out);
void moon_test_session_free(moon_test_session *made);
/* After a park with a timeout: when that is over, by moon_lua_clock. */
void moon_travel_due_at(double clock);
/* Moves the clock to when the first of the parked tasks is due and wakes it; or
 * to `target` (as moon_lua_clock), and false, if none is due by then. */
bool moon_travel_next(double target);
/* To be asked in every turn of the loop: is all at rest that can go on without
 * time passing? Also true when it has not come to rest for long. `begin`: the
 * first question. */
bool moon_travel_rests(bool begin);

/* ---- tcp: vm/vm_api_tcp.c ----
 * An operation returns 0 done, 1 wait: yield, then ask for the outcome;
 * negative: failed, moon_tcp_error says why. Received bytes, and those that
 * came before a failure, live until the socket's next call. */
typedef struct moon_tcp moon_tcp;
moon_tcp *moon_tcp_new(void); /* NULL: no memory */
void moon_tcp_free(moon_tcp *tcp);
const char *moon_tcp_error(const moon_tcp *tcp);
void moon_tcp_set_timeouts(moon_tcp *tcp, double connect_ms, double send_ms,
                           double read_ms);
void moon_tcp_set_limit(moon_tcp *tcp, double bytes);
/* port 0: `host` is the path of a unix socket. `pool` names the idle
 * connections that may be used instead. */
int moon_tcp_connect(moon_tcp *tcp, const char *host, size_t host_len,
                     uint16_t port, const char *pool, size_t pool_len);
int moon_tcp_send(moon_tcp *tcp, const char *bytes, size_t len);
/* Outcome of a connect or send. */
int moon_tcp_outcome(moon_tcp *tcp);
/* kind: 0 size, 1 line, 2 all, 3 any, 4 until `pattern`; 2 is returned when
 * the pattern was met. */
int moon_tcp_receive(moon_tcp *tcp, int kind, double size, const char *pattern,
                     size_t len, moon_bytes *out);
int moon_tcp_received(moon_tcp *tcp, moon_bytes *out);
int moon_tcp_set_keepalive(moon_tcp *tcp, double idle_ms, uint32_t max);
int moon_tcp_reused(moon_tcp *tcp); /* -1: not connected */
int moon_tcp_close(moon_tcp *tcp);
/* ffi:end */
#pragma GCC visibility pop

#endif
