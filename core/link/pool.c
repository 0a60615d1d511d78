#include "link/pool.h"

#include <stdlib.h>

enum { BUCKETS = 64 };

struct idle {
    struct moon_link *link;
    struct idle *next, *prev;   /* same bucket, newest first */
    struct idle *older, *newer; /* all */
    struct idle **bucket;
    uint32_t uses;
    size_t name_len;
    char name[];
};

static _Thread_local struct {
    struct idle *buckets[BUCKETS];
    struct idle *newest, *oldest;
    uint32_t count;
} pool;

static struct idle **bucket_of(struct moon_str name)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < name.len; i++)
        hash = (hash ^ (unsigned char)name.ptr[i]) * 16777619u;
    return &pool.buckets[hash % BUCKETS];
}

static bool has_name(const struct idle *at, struct moon_str name)
{
    return moon_str_eq(moon_str(at->name, at->name_len), name);
}

static void insert(struct idle *at, struct idle **bucket)
{
    at->bucket = bucket;
    at->next = *bucket;
    if (*bucket != NULL)
        (*bucket)->prev = at;
    *bucket = at;
    at->older = pool.newest;
    if (pool.newest != NULL)
        pool.newest->newer = at;
    else
        pool.oldest = at;
    pool.newest = at;
    pool.count++;
}

/* Out of the lists and freed; the link is the caller's. */
static struct moon_link *remove_entry(struct idle *at)
{
    struct moon_link *link = at->link;
    if (at->prev != NULL)
        at->prev->next = at->next;
    else
        *at->bucket = at->next;
    if (at->next != NULL)
        at->next->prev = at->prev;
    if (at->newer != NULL)
        at->newer->older = at->older;
    else
        pool.newest = at->older;
    if (at->older != NULL)
        at->older->newer = at->newer;
    else
        pool.oldest = at->newer;
    pool.count--;
    free(at);
    return link;
}

static void drop(struct idle *at)
{
    moon_link_close(remove_entry(at));
}

static void on_event(void *owner, enum moon_link_side side, enum moon_err err)
{
    (void)side;
    (void)err; /* closed, talking or too old: all the same */
    drop(owner);
}

/* Leaves room for one more: the longest idle ones of that name go, or the
 * longest idle of all. */
static void make_room(struct idle *const *bucket, struct moon_str name,
                      uint32_t max)
{
    uint32_t count = 0;
    struct idle *next;
    for (struct idle *at = *bucket; at != NULL; at = next) {
        next = at->next;
        if (has_name(at, name) && ++count >= max)
            drop(at);
    }
    if (pool.count >= MOON_POOL_MAX)
        drop(pool.oldest);
}

void moon_pool_put(struct moon_link *link, struct moon_str name, uint32_t uses,
                   uint64_t idle_ms, uint32_t max)
{
    struct idle **bucket = bucket_of(name);
    struct idle *at = calloc(1, sizeof(*at) + name.len);
    if (at == NULL) {
        moon_link_close(link);
        return;
    }
    make_room(bucket, name, max);
    at->link = link;
    at->uses = uses;
    at->name_len = name.len;
    memcpy(at->name, name.ptr, name.len);
    insert(at, bucket);
    moon_link_set_owner(link, on_event, at);
    moon_link_idle(link, idle_ms < MOON_POOL_IDLE_MAX_MS
                             ? idle_ms
                             : MOON_POOL_IDLE_MAX_MS);
}

struct moon_link *moon_pool_take(struct moon_str name, uint32_t *uses)
{
    struct idle *next;
    for (struct idle *at = *bucket_of(name); at != NULL; at = next) {
        next = at->next;
        if (!has_name(at, name))
            continue;
        /* The close may be here and its event not seen yet. */
        if (!moon_link_is_quiet(at->link)) {
            drop(at);
            continue;
        }
        *uses = at->uses + 1;
        struct moon_link *link = remove_entry(at);
        moon_link_resume(link);
        return link;
    }
    return NULL;
}

uint32_t moon_pool_count(void)
{
    return pool.count;
}

void moon_pool_close(void)
{
    while (pool.oldest != NULL)
        drop(pool.oldest);
}
