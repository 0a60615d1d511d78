#include "state/dict.h"

#include "base/random.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LAYOUT = 1,
    PARTS_MAX = 16,
    WAYS = 8,
    ALIGN = 16,
    INDEX_FRACTION = 5, /* of a part's bytes, for its index */
    BIG_FRACTION = 8,   /* an entry takes at most that part of its ring */
};

/* An entry in a ring. Key and text follow. */
struct entry {
    uint64_t place; /* its own, so that a torn index is noticed */
    uint64_t expires_ms;
    uint32_t key_len, text_len;
    uint32_t type;
    uint32_t reserved;
    double number;
};

/* Leads to an entry. `place` counts the bytes that the ring's head has passed
 * since it began; 0: free. Written last, in one piece. */
struct slot {
    uint64_t hash;
    uint64_t place;
};

struct part {
    _Alignas(64) pthread_mutex_t mutex;
    uint64_t head; /* place of the next entry; starts at the ring's size */
};

struct shared {
    unsigned char hash_key[crypto_shorthash_KEYBYTES];
    struct part parts[PARTS_MAX];
    /* then for each part: its index, its ring */
};

struct moon_dict {
    struct shared *shared;
    char *memory;       /* behind the struct shared */
    size_t part_bytes;  /* index and ring */
    size_t index_bytes; /* of a part */
    uint64_t ring_bytes;
    uint32_t parts, sets; /* of each part; powers of two */
};

/* ---- making ---- */

struct plan {
    uint32_t parts;
    uint64_t ring_bytes;
};

static void init_shared(void *extent, size_t size, void *ctx)
{
    struct shared *shared = extent;
    const struct plan *plan = ctx;
    (void)size;
    moon_random_bytes(shared->hash_key, sizeof(shared->hash_key));
    for (uint32_t i = 0; i < plan->parts; i++) {
        moon_robust_init(&shared->parts[i].mutex);
        shared->parts[i].head = plan->ring_bytes;
    }
}

static size_t floor_power(size_t value)
{
    size_t power = 1;
    while (power * 2 <= value)
        power *= 2;
    return power;
}

struct moon_dict *moon_dict_open(struct moon_region *region, const char *namez,
                                 size_t bytes)
{
    char extent[MOON_EXTENT_NAME];
    int len = snprintf(extent, sizeof(extent), "dict: %s", namez);
    struct moon_dict *dict = calloc(1, sizeof(*dict));
    if (dict == NULL || len < 0 || (size_t)len >= sizeof(extent) ||
        bytes < MOON_DICT_MIN_BYTES) {
        free(dict);
        return NULL;
    }
    size_t parts = floor_power(bytes / MOON_DICT_MIN_BYTES);
    dict->parts = parts < PARTS_MAX ? (uint32_t)parts : PARTS_MAX;
    dict->part_bytes = bytes / dict->parts / ALIGN * ALIGN;
    size_t set_bytes = WAYS * sizeof(struct slot);
    size_t sets = floor_power(dict->part_bytes / INDEX_FRACTION / set_bytes);
    dict->sets = (uint32_t)sets;
    dict->index_bytes = sets * set_bytes;
    dict->ring_bytes = dict->part_bytes - dict->index_bytes;
    struct plan plan = {dict->parts, dict->ring_bytes};
    dict->shared = moon_region_extent(region, extent, LAYOUT,
                                      sizeof(struct shared) +
                                          dict->parts * dict->part_bytes,
                                      init_shared, &plan);
    if (dict->shared == NULL) {
        free(dict);
        return NULL;
    }
    dict->memory = (char *)(dict->shared + 1);
    return dict;
}

void moon_dict_close(struct moon_dict *dict)
{
    free(dict);
}

/* ---- one part ---- */

/* The part of a key, locked, and where its set and ring are. */
struct view {
    struct part *part;
    struct slot *set; /* of the key */
    char *ring;
    uint64_t ring_bytes, hash;
};

static struct view lock(const struct moon_dict *dict, struct moon_str key)
{
    uint64_t hash;
    (void)crypto_shorthash((unsigned char *)&hash,
                           (const unsigned char *)key.ptr, key.len,
                           dict->shared->hash_key);
    uint32_t number = (uint32_t)(hash >> 60) & (dict->parts - 1);
    char *memory = dict->memory + number * dict->part_bytes;
    struct view view = {
        .part = &dict->shared->parts[number],
        .set = (struct slot *)(void *)memory +
               ((uint32_t)hash & (dict->sets - 1)) * WAYS,
        .ring = memory + dict->index_bytes,
        .ring_bytes = dict->ring_bytes,
        .hash = hash,
    };
    /* Whoever died in here left nothing half linked. */
    (void)moon_robust_lock(&view.part->mutex);
    return view;
}

static void unlock(const struct view *view)
{
    moon_robust_unlock(&view->part->mutex);
}

/* An entry lies in one piece: what does not fit before the ring's end begins
 * at its start. */
static struct entry *at(const struct view *view, uint64_t place)
{
    return (struct entry *)(void *)(view->ring + place % view->ring_bytes);
}

static size_t size_of(struct moon_str key, const struct moon_dict_value *value)
{
    size_t size = sizeof(struct entry) + key.len;
    if (value->type == MOON_DICT_STRING)
        size += value->text.len;
    return (size + ALIGN - 1) / ALIGN * ALIGN;
}

/* Not run over yet by the head? */
static bool is_alive(const struct view *view, uint64_t place)
{
    return place != 0 && place < view->part->head &&
           view->part->head - place <= view->ring_bytes;
}

static bool is_of(const struct view *view, uint64_t place, struct moon_str key)
{
    const struct entry *entry = at(view, place);
    uint64_t left = view->ring_bytes - place % view->ring_bytes;
    return entry->place == place && entry->key_len == key.len &&
           sizeof(*entry) + (uint64_t)entry->key_len + entry->text_len <=
               left &&
           memcmp(entry + 1, key.ptr, key.len) == 0;
}

static struct slot *find(const struct view *view, struct moon_str key,
                         uint64_t now_ms)
{
    for (int i = 0; i < WAYS; i++) {
        struct slot *slot = &view->set[i];
        if (slot->hash != view->hash || !is_alive(view, slot->place) ||
            !is_of(view, slot->place, key))
            continue;
        uint64_t expires_ms = at(view, slot->place)->expires_ms;
        if (expires_ms == 0 || expires_ms > now_ms)
            return slot;
        slot->place = 0;
    }
    return NULL;
}

/* For a new key: a slot that leads nowhere, else the one to the oldest. */
static struct slot *victim(const struct view *view)
{
    struct slot *oldest = &view->set[0];
    for (int i = 0; i < WAYS; i++) {
        if (!is_alive(view, view->set[i].place))
            return &view->set[i];
        if (view->set[i].place < oldest->place)
            oldest = &view->set[i];
    }
    return oldest;
}

/* Room at the head, which passes it first: so that what is half written is
 * never taken for an entry that was there before. */
static uint64_t reserve(const struct view *view, size_t size)
{
    uint64_t place = view->part->head;
    uint64_t left = view->ring_bytes - place % view->ring_bytes;
    if (size > left)
        place += left;
    view->part->head = place + size;
    return place;
}

/* Writes an entry and leads `slot` (or one for a new key) to it. */
static void put(const struct view *view, struct slot *slot, struct moon_str key,
                const struct moon_dict_value *value, uint64_t expires_ms)
{
    uint64_t place = reserve(view, size_of(key, value));
    struct entry *entry = at(view, place);
    bool has_text = value->type == MOON_DICT_STRING;
    char *bytes = (char *)(entry + 1);
    *entry = (struct entry){
        .place = place,
        .expires_ms = expires_ms,
        .key_len = (uint32_t)key.len,
        .text_len = has_text ? (uint32_t)value->text.len : 0,
        .type = value->type,
        .number = value->number,
    };
    memcpy(bytes, key.ptr, key.len);
    if (has_text && value->text.len > 0)
        memcpy(bytes + key.len, value->text.ptr, value->text.len);
    if (slot == NULL) {
        slot = victim(view);
        slot->place = 0;
        slot->hash = view->hash;
    }
    slot->place = place;
}

static void read_value(const struct entry *entry, struct moon_dict_value *value)
{
    const char *bytes = (const char *)(entry + 1);
    *value = (struct moon_dict_value){
        .type = (enum moon_dict_type)entry->type,
        .text = moon_str(bytes + entry->key_len, entry->text_len),
        .number = entry->number,
    };
}

/* ---- operations ---- */

/* Half of the ring behind: it would be run over before long. */
static bool is_ageing(const struct view *view, uint64_t place)
{
    return view->part->head - place > view->ring_bytes / 2;
}

enum moon_err moon_dict_get(struct moon_dict *dict, struct moon_str key,
                            uint64_t now_ms, struct moon_buf *text,
                            struct moon_dict_value *value)
{
    *value = (struct moon_dict_value){0};
    struct view view = lock(dict, key);
    struct slot *slot = find(&view, key, now_ms);
    enum moon_err err = MOON_ENOT_FOUND;
    if (slot != NULL) {
        const struct entry *entry = at(&view, slot->place);
        size_t from = text->len;
        err = MOON_OK;
        read_value(entry, value);
        moon_buf_add_str(text, value->text);
        if (text->failed)
            err = MOON_ENOMEM;
        else
            value->text = moon_str(text->ptr + from, value->text.len);
        /* From the copy: the ring may run over the entry itself. */
        if (err == MOON_OK && is_ageing(&view, slot->place))
            put(&view, slot, key, value, entry->expires_ms);
    }
    unlock(&view);
    return err;
}

static uint64_t expiry(uint64_t ttl_ms, uint64_t now_ms)
{
    return ttl_ms == 0 ? 0 : now_ms + ttl_ms;
}

static bool fits(const struct moon_dict *dict, struct moon_str key,
                 const struct moon_dict_value *value)
{
    return key.len <= MOON_DICT_KEY_MAX &&
           value->text.len <= dict->ring_bytes &&
           size_of(key, value) <= dict->ring_bytes / BIG_FRACTION;
}

enum moon_err moon_dict_set(struct moon_dict *dict, struct moon_str key,
                            const struct moon_dict_value *value,
                            uint64_t ttl_ms, bool only_new, uint64_t now_ms)
{
    if (!fits(dict, key, value))
        return MOON_ETOO_BIG;
    struct view view = lock(dict, key);
    struct slot *slot = find(&view, key, now_ms);
    enum moon_err err = slot != NULL && only_new ? MOON_EEXISTS : MOON_OK;
    if (err == MOON_OK)
        put(&view, slot, key, value, expiry(ttl_ms, now_ms));
    unlock(&view);
    return err;
}

enum moon_err moon_dict_incr(struct moon_dict *dict, struct moon_str key,
                             double by, const double *initial, uint64_t ttl_ms,
                             uint64_t now_ms, double *result)
{
    struct moon_dict_value value = {.type = MOON_DICT_NUMBER};
    enum moon_err err = MOON_OK;
    if (!fits(dict, key, &value))
        return MOON_ETOO_BIG;
    struct view view = lock(dict, key);
    struct slot *slot = find(&view, key, now_ms);
    struct entry *entry = slot != NULL ? at(&view, slot->place) : NULL;
    if (entry != NULL && entry->type != MOON_DICT_NUMBER) {
        err = MOON_EINVAL;
    } else if (entry != NULL) {
        entry->number += by;
        value.number = entry->number;
        if (is_ageing(&view, slot->place))
            put(&view, slot, key, &value, entry->expires_ms);
    } else if (initial == NULL) {
        err = MOON_ENOT_FOUND;
    } else {
        value.number = *initial + by;
        put(&view, NULL, key, &value, expiry(ttl_ms, now_ms));
    }
    *result = value.number;
    unlock(&view);
    return err;
}

bool moon_dict_delete(struct moon_dict *dict, struct moon_str key,
                      uint64_t now_ms)
{
    struct view view = lock(dict, key);
    struct slot *slot = find(&view, key, now_ms);
    if (slot != NULL)
        slot->place = 0;
    unlock(&view);
    return slot != NULL;
}

bool moon_dict_delete_if(struct moon_dict *dict, struct moon_str key,
                         struct moon_str text, uint64_t now_ms)
{
    struct view view = lock(dict, key);
    struct slot *slot = find(&view, key, now_ms);
    bool same = false;
    if (slot != NULL) {
        struct moon_dict_value value;
        read_value(at(&view, slot->place), &value);
        same = value.type == MOON_DICT_STRING && moon_str_eq(value.text, text);
        if (same)
            slot->place = 0;
    }
    unlock(&view);
    return same;
}
