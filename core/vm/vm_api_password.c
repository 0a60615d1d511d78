#include "vm/vm_api.h"

#include "base/buf.h"
#include "vm/vm_internal.h"
#include "vm/work.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>

/* Half of the pool: the other half looks up names and reads files. */
enum { RUNNING_MAX = 2, PASSES_MAX = 100, KIB = 1024 };

struct moon_password {
    struct moon_work work;
    bool verifies;
    enum moon_err outcome; /* written on the pool's thread */
    unsigned long long passes;
    size_t memory;
    char hash[crypto_pwhash_STRBYTES]; /* to verify, or the result */
    size_t len;
    char password[];
};

static _Thread_local struct moon_work_lane lane;

void moon_api_password_keep(void)
{
}

/* ---- on the pool ---- */

static enum moon_err make_hash(struct moon_password *job)
{
    if (crypto_pwhash_str(job->hash, job->password, job->len, job->passes,
                          job->memory) != 0)
        return MOON_ENOMEM;
    return MOON_OK;
}

static enum moon_err check_hash(const struct moon_password *job)
{
    errno = 0;
    if (crypto_pwhash_str_verify(job->hash, job->password, job->len) == 0)
        return MOON_OK;
    if (errno == EINVAL)
        return MOON_EDENIED;
    return errno == ENOMEM ? MOON_ENOMEM : MOON_EPROTO;
}

static void run(struct moon_work *work)
{
    struct moon_password *job =
        MOON_CONTAINER(work, struct moon_password, work);
    job->outcome = job->verifies ? check_hash(job) : make_hash(job);
    sodium_memzero(job->password, job->len);
}

static void destroy(struct moon_work *work)
{
    struct moon_password *job =
        MOON_CONTAINER(work, struct moon_password, work);
    sodium_memzero(job->password, job->len); /* it may never have run */
    free(job);
}

/* ---- the text form: $argon2id$v=19$m=65536,t=2,p=1$salt$hash ---- */

static bool take_number(struct moon_str *rest, char sep, struct moon_str name,
                        uint64_t *out)
{
    struct moon_str part = moon_str_cut(*rest, sep, rest);
    return moon_str_starts(part, name) &&
           moon_str_to_u64(moon_str(part.ptr + name.len, part.len - name.len),
                           out);
}

/* What it costs to verify. The rest is libsodium's to check. */
static bool read_cost(struct moon_str hash, uint64_t *kib, uint64_t *passes)
{
    uint64_t version, lanes;
    struct moon_str rest;
    struct moon_str empty = moon_str_cut(hash, '$', &rest);
    struct moon_str name = moon_str_cut(rest, '$', &rest);
    return empty.len == 0 &&
           (moon_str_eq(name, MOON_STR("argon2id")) ||
            moon_str_eq(name, MOON_STR("argon2i"))) &&
           take_number(&rest, '$', MOON_STR("v="), &version) &&
           take_number(&rest, ',', MOON_STR("m="), kib) &&
           take_number(&rest, ',', MOON_STR("t="), passes) &&
           take_number(&rest, '$', MOON_STR("p="), &lanes);
}

/* ---- what Lua calls ---- */

moon_password *moon_password_new(const char *password, size_t len)
{
    struct moon_password *job = malloc(sizeof(*job) + len);
    if (job == NULL)
        return NULL;
    memset(job, 0, sizeof(*job));
    moon_work_init(&job->work, run, destroy, 0);
    job->outcome = MOON_ECANCELED;
    job->len = len;
    if (len > 0)
        memcpy(job->password, password, len);
    return job;
}

void moon_password_free(moon_password *job)
{
    moon_work_release(&job->work);
}

double moon_password_memory_max(void)
{
    const struct moon_vm *vm = moon_vm_here();
    return vm != NULL ? (double)vm->options.config->password_memory_bytes : 0;
}

static int start(struct moon_password *job, uint64_t memory, const char *what_z)
{
    const struct moon_vm *vm = moon_vm_here();
    if (vm == NULL)
        return MOON_EDENIED;
    job->work.weight = memory;
    lane.max_running = RUNNING_MAX;
    lane.max_waiting = vm->options.config->password_queue;
    lane.max_weight = vm->options.config->password_memory_bytes;
    return moon_work_start(&lane, &job->work, what_z);
}

int moon_password_hash(moon_password *job, double memory, double passes)
{
    if (memory < (double)crypto_pwhash_MEMLIMIT_MIN ||
        memory > moon_password_memory_max() || passes < 1 ||
        passes > PASSES_MAX)
        return MOON_ETOO_BIG;
    job->memory = (size_t)memory;
    job->passes = (unsigned long long)passes;
    return start(job, job->memory, "hash password");
}

static bool keep_hash(struct moon_password *job, const char *hash, size_t len)
{
    if (len == 0 || len >= sizeof(job->hash) || memchr(hash, '\0', len) != NULL)
        return false;
    memcpy(job->hash, hash, len);
    job->hash[len] = '\0';
    return true;
}

int moon_password_verify(moon_password *job, const char *hash, size_t len)
{
    uint64_t kib, passes;
    if (!keep_hash(job, hash, len) ||
        !read_cost(moon_str(hash, len), &kib, &passes))
        return MOON_EPROTO;
    if (passes > PASSES_MAX || kib > UINT64_MAX / KIB)
        return MOON_ETOO_BIG;
    job->verifies = true;
    return start(job, kib * KIB, "verify password");
}

int moon_password_outcome(const moon_password *job, moon_bytes *out)
{
    out->ptr = job->hash;
    out->len = strlen(job->hash);
    return job->outcome;
}

bool moon_password_is_stale(const char *hash, size_t len, double memory,
                            double passes)
{
    char hashz[crypto_pwhash_STRBYTES];
    if (len >= sizeof(hashz))
        return true;
    memcpy(hashz, hash, len);
    hashz[len] = '\0';
    return crypto_pwhash_argon2id_str_needs_rehash(
               hashz, (unsigned long long)passes, (size_t)memory) != 0;
}
