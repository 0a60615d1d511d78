#include "state/lmdb_check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* The format of LMDB 0.9 on 64-bit machines; numbers as the machine has them.
 *
 * Page: u64 number, u16 (key size), u16 flags, u16 lower, u16 upper or u32
 * pages of an overflow run, then an u16 per node: where it is.
 * Node: u16 low, u16 high of the data size or child, u16 flags or top of the
 * child, u16 key size, key, data. */
enum {
    META_BYTES = 152,
    PAGE_HEAD = 16,
    NODE_HEAD = 8,
    DB_BYTES = 48,
    DEPTH_MAX = 32,
    KEY_MAX = 511,
    READ_AHEAD = 128 * 1024,
    PSIZE_MIN = 512,
    PSIZE_MAX = 32768,
    BEHIND_MAX = 1 << 20, /* pages that it may lack; eight transactions' */

    PAGE_BRANCH = 1,
    PAGE_LEAF = 2,
    PAGE_OVERFLOW = 4,
    PAGE_META = 8,

    NODE_BIG = 1, /* the data is the number of an overflow page */
    NODE_DB = 2,  /* the data describes a database */
    NODE_FLAGS = 7,

    DB_INTEGER_KEY = 8,
    DB_KINDS = 0x7f, /* above are flags of the environment */
};

#define META_MAGIC 0xbeefc0deu
#define META_VERSION 1u
#define NO_PAGE UINT64_MAX

struct db {
    uint32_t pad;
    uint16_t flags, depth;
    uint64_t branch_pages, leaf_pages, overflow_pages, entries, root;
};

struct meta {
    uint32_t magic, version;
    uint64_t address, map_bytes;
    struct db free, main;
    uint64_t last_page, txn;
};

_Static_assert(sizeof(struct db) == DB_BYTES, "as LMDB has it");
_Static_assert(PAGE_HEAD + sizeof(struct meta) == META_BYTES, "the same");

struct checker {
    int fd;
    uint64_t file_bytes, pages, txn;
    uint32_t psize;
    unsigned char *seen; /* a bit for each page */
    char *levels;        /* a page for each level of the tree */
    char *big;           /* the first page of an overflow run */
    moon_lmdb_visit *visit;
    void *ctx;
    char *why;
};

/* One tree on the way down. */
struct walk {
    struct checker *c;
    const struct db *db;
    struct moon_str name;
    uint64_t entries;
    /* Keys must rise from leaf to leaf, and be where the branches say. */
    char last_key[KEY_MAX], bound[KEY_MAX];
    size_t last_len, bound_len;
    bool has_last, has_bound;
};

static enum moon_err broken(struct checker *c, const char *fmt, ...)
    MOON_PRINTF(2, 3);

static enum moon_err broken(struct checker *c, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(c->why, MOON_LMDB_CHECK_WHY, fmt, args);
    va_end(args);
    return MOON_EPROTO;
}

static uint16_t load16(const char *from)
{
    uint16_t value;
    memcpy(&value, from, sizeof(value));
    return value;
}

static uint64_t load64(const char *from)
{
    uint64_t value;
    memcpy(&value, from, sizeof(value));
    return value;
}

/* ---- pages ---- */

static enum moon_err read_at(struct checker *c, char *to, size_t len,
                             uint64_t offset)
{
    while (len > 0) {
        ssize_t n = pread(c->fd, to, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            (void)snprintf(c->why, MOON_LMDB_CHECK_WHY, "cannot be read: %s",
                           strerror(errno));
            return MOON_ESYS;
        }
        if (n == 0)
            return broken(c, "ends early, at byte %llu",
                          (unsigned long long)offset);
        to += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return MOON_OK;
}

static enum moon_err claim(struct checker *c, uint64_t page)
{
    if (page < 2 || page >= c->pages)
        return broken(c, "page %llu of %llu", (unsigned long long)page,
                      (unsigned long long)c->pages);
    unsigned char bit = (unsigned char)(1u << (page & 7));
    if ((c->seen[page >> 3] & bit) != 0)
        return broken(c, "page %llu is used twice", (unsigned long long)page);
    c->seen[page >> 3] |= bit;
    return MOON_OK;
}

/* Reads a page that nothing else uses, and looks at its head. */
static enum moon_err read_page(struct checker *c, uint64_t page, char *to,
                               int *kind)
{
    enum moon_err err = claim(c, page);
    if (err == MOON_OK)
        err = read_at(c, to, c->psize, page * c->psize);
    if (err != MOON_OK)
        return err;
    *kind = load16(to + 10); /* on disk no other flag is set */
    if (load64(to) != page)
        return broken(c, "page %llu is another one", (unsigned long long)page);
    return MOON_OK;
}

/* ---- values in overflow pages ---- */

static enum moon_err check_big(struct checker *c, uint64_t page, uint64_t size,
                               struct moon_str *first)
{
    int kind;
    enum moon_err err = read_page(c, page, c->big, &kind);
    if (err != MOON_OK)
        return err;
    uint32_t count;
    memcpy(&count, c->big + 12, sizeof(count));
    uint64_t end = (page + count) * c->psize;
    if (kind != PAGE_OVERFLOW || count == 0 ||
        PAGE_HEAD + size > (uint64_t)count * c->psize || end > c->file_bytes)
        return broken(c, "page %llu holds no long value",
                      (unsigned long long)page);
    for (uint32_t i = 1; i < count && err == MOON_OK; i++)
        err = claim(c, page + i);
    uint64_t here = c->psize - PAGE_HEAD;
    *first = moon_str(c->big + PAGE_HEAD, size < here ? size : here);
    return err;
}

/* ---- nodes ---- */

struct node {
    struct moon_str key;
    uint64_t child;   /* of a branch */
    uint64_t size;    /* of a leaf's value */
    const char *data; /* in the page */
    uint16_t flags;
};

static enum moon_err get_node(struct checker *c, const char *page,
                              uint32_t index, bool is_leaf, struct node *node)
{
    uint32_t at = load16(page + PAGE_HEAD + 2 * (size_t)index);
    *node = (struct node){0};
    if (at < load16(page + 14) || at + NODE_HEAD > c->psize || at % 2 != 0)
        return broken(c, "page %llu, node %u is nowhere",
                      (unsigned long long)load64(page), index);
    const char *n = page + at;
    size_t key_len = load16(n + 6);
    *node = (struct node){
        .key = moon_str(n + NODE_HEAD, key_len),
        .size = load16(n) | (uint64_t)load16(n + 2) << 16,
        .flags = load16(n + 4),
        .data = n + NODE_HEAD + key_len,
    };
    node->child = node->size | (uint64_t)node->flags << 32;
    uint64_t in_page = !is_leaf                        ? 0
                       : (node->flags & NODE_BIG) != 0 ? sizeof(uint64_t)
                                                       : node->size;
    if (key_len > KEY_MAX || at + NODE_HEAD + key_len + in_page > c->psize)
        return broken(c, "page %llu, node %u is cut off",
                      (unsigned long long)load64(page), index);
    return MOON_OK;
}

static int compare(const struct walk *w, struct moon_str a, struct moon_str b)
{
    if ((w->db->flags & DB_INTEGER_KEY) != 0) {
        uint64_t x = load64(a.ptr), y = load64(b.ptr);
        return (x > y) - (x < y);
    }
    size_t len = a.len < b.len ? a.len : b.len;
    int order = memcmp(a.ptr, b.ptr, len);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static enum moon_err check_key(struct walk *w, uint64_t page,
                               struct moon_str key)
{
    if (key.len == 0 ||
        ((w->db->flags & DB_INTEGER_KEY) != 0 && key.len != sizeof(uint64_t)))
        return broken(w->c, "page %llu has a bad key",
                      (unsigned long long)page);
    if ((w->has_last &&
         compare(w, key, moon_str(w->last_key, w->last_len)) <= 0) ||
        (w->has_bound && compare(w, key, moon_str(w->bound, w->bound_len)) < 0))
        return broken(w->c, "page %llu has keys out of order",
                      (unsigned long long)page);
    w->has_bound = false;
    memcpy(w->last_key, key.ptr, key.len);
    w->last_len = key.len;
    w->has_last = true;
    return MOON_OK;
}

/* ---- trees ---- */

static enum moon_err walk_db(struct checker *c, const struct db *db,
                             struct moon_str name);

/* A record of the free list: a count, then that many pages, the last one first.
 * LMDB finds runs by that order, and would hand out a page twice without it. */
static enum moon_err check_free(struct checker *c, const struct node *node)
{
    enum moon_err err = MOON_OK;
    char *own = NULL;
    const char *list = node->data;
    uint64_t txn = load64(node->key.ptr); /* that needed these pages last */
    if ((node->flags & NODE_FLAGS & ~NODE_BIG) != 0 || txn == 0 || txn > c->txn)
        return broken(c, "the free list is damaged");
    if ((node->flags & NODE_BIG) != 0) {
        struct moon_str first;
        uint64_t page = load64(node->data);
        err = check_big(c, page, node->size, &first);
        if (err != MOON_OK)
            return err;
        own = malloc(node->size);
        if (own == NULL)
            return MOON_ENOMEM;
        err = read_at(c, own, node->size, page * c->psize + PAGE_HEAD);
        list = own;
    }
    uint64_t count = 0;
    if (err == MOON_OK && node->size >= sizeof(count))
        count = load64(list);
    if (err == MOON_OK &&
        (node->size < sizeof(count) || count > node->size / sizeof(count) - 1))
        err = broken(c, "the free list is damaged");
    uint64_t before = NO_PAGE;
    for (uint64_t i = 1; i <= count && err == MOON_OK; i++) {
        uint64_t page = load64(list + i * sizeof(count));
        err = page < before ? claim(c, page)
                            : broken(c, "the free list is not in order");
        before = page;
    }
    free(own);
    return err;
}

static enum moon_err check_named(struct checker *c, const struct node *node)
{
    struct db db;
    if ((node->flags & NODE_FLAGS) != NODE_DB || node->size != DB_BYTES)
        return broken(c, "an entry that is no database");
    memcpy(&db, node->data, sizeof(db));
    if (db.flags != 0)
        return broken(c, "a database of a kind that is not used here");
    return walk_db(c, &db, node->key);
}

static enum moon_err check_value(struct walk *w, const struct node *node)
{
    struct checker *c = w->c;
    struct moon_str data = moon_str(node->data, node->size);
    if ((node->flags & NODE_FLAGS & ~NODE_BIG) != 0)
        return broken(c, "a value of a kind that is not used here");
    if ((node->flags & NODE_BIG) != 0) {
        enum moon_err err = check_big(c, load64(node->data), node->size, &data);
        if (err != MOON_OK)
            return err;
    }
    c->visit(c->ctx, w->name, node->key, data);
    return MOON_OK;
}

static enum moon_err walk_page(struct walk *w, uint64_t page, int depth);

static enum moon_err walk_leaf(struct walk *w, const char *page, uint32_t keys)
{
    struct checker *c = w->c;
    struct node node;
    for (uint32_t i = 0; i < keys; i++) {
        enum moon_err err = get_node(c, page, i, true, &node);
        if (err == MOON_OK)
            err = check_key(w, load64(page), node.key);
        if (err == MOON_OK) {
            w->entries++;
            err = (w->db->flags & DB_INTEGER_KEY) != 0 ? check_free(c, &node)
                  : w->name.len == 0                   ? check_named(c, &node)
                                                       : check_value(w, &node);
        }
        if (err != MOON_OK)
            return err;
    }
    return MOON_OK;
}

static enum moon_err walk_branch(struct walk *w, const char *page,
                                 uint32_t keys, int depth)
{
    struct node node;
    for (uint32_t i = 0; i < keys; i++) {
        enum moon_err err = get_node(w->c, page, i, false, &node);
        if (err != MOON_OK)
            return err;
        if (i > 0) { /* the key of the first one means nothing */
            if ((w->db->flags & DB_INTEGER_KEY) != 0 && node.key.len != 8)
                return broken(w->c, "page %llu has a bad key",
                              (unsigned long long)load64(page));
            if (w->has_last &&
                compare(w, moon_str(w->last_key, w->last_len), node.key) >= 0)
                return broken(w->c, "page %llu has keys out of order",
                              (unsigned long long)load64(page));
            memcpy(w->bound, node.key.ptr, node.key.len);
            w->bound_len = node.key.len;
            w->has_bound = true;
        }
        err = walk_page(w, node.child, depth + 1);
        if (err != MOON_OK)
            return err;
    }
    return MOON_OK;
}

static enum moon_err walk_page(struct walk *w, uint64_t page, int depth)
{
    struct checker *c = w->c;
    bool leaf = depth == w->db->depth;
    int kind;
    if (depth > w->db->depth || depth > DEPTH_MAX)
        return broken(c, "page %llu is too deep", (unsigned long long)page);
    char *at = c->levels + (size_t)(depth - 1) * c->psize;
    enum moon_err err = read_page(c, page, at, &kind);
    if (err != MOON_OK)
        return err;
    uint32_t lower = load16(at + 12), upper = load16(at + 14);
    if (kind != (leaf ? PAGE_LEAF : PAGE_BRANCH) || lower < PAGE_HEAD ||
        lower % 2 != 0 || lower > upper || upper > c->psize)
        return broken(c, "page %llu is damaged", (unsigned long long)page);
    uint32_t keys = (lower - PAGE_HEAD) / 2;
    if (keys == 0 && !leaf)
        return broken(c, "page %llu is empty", (unsigned long long)page);
    return leaf ? walk_leaf(w, at, keys) : walk_branch(w, at, keys, depth);
}

static enum moon_err walk_db(struct checker *c, const struct db *db,
                             struct moon_str name)
{
    struct walk w = {.c = c, .db = db, .name = name};
    if (db->root == NO_PAGE)
        return db->entries == 0 ? MOON_OK : broken(c, "a tree without a root");
    if (db->depth == 0)
        return broken(c, "a tree without levels");
    /* A named tree hangs on a leaf of the main one, whose page must stay. */
    char *levels = c->levels;
    c->levels = malloc((size_t)(db->depth < DEPTH_MAX ? db->depth : DEPTH_MAX) *
                       c->psize);
    enum moon_err err =
        c->levels == NULL ? MOON_ENOMEM : walk_page(&w, db->root, 1);
    free(c->levels);
    c->levels = levels;
    if (err == MOON_OK && w.entries != db->entries)
        err = broken(c, "%llu entries where %llu should be",
                     (unsigned long long)w.entries,
                     (unsigned long long)db->entries);
    return err;
}

/* ---- the file ---- */

static enum moon_err read_meta(struct checker *c, uint64_t offset,
                               struct meta *meta)
{
    char page[META_BYTES];
    enum moon_err err = read_at(c, page, sizeof(page), offset);
    if (err != MOON_OK)
        return err;
    memcpy(meta, page + PAGE_HEAD, sizeof(*meta));
    if ((load16(page + 10) & PAGE_META) == 0 || meta->magic != META_MAGIC)
        return broken(c, "not a file of LMDB");
    if (meta->version != META_VERSION)
        return broken(c, "of version %u of LMDB's format", meta->version);
    uint32_t psize = meta->free.pad;
    if (psize < PSIZE_MIN || psize > PSIZE_MAX || (psize & (psize - 1)) != 0)
        return broken(c, "with pages of %u bytes", psize);
    return MOON_OK;
}

static enum moon_err read_newest(struct checker *c, struct meta *meta)
{
    struct meta other;
    enum moon_err err = read_meta(c, 0, meta);
    if (err == MOON_OK)
        err = read_meta(c, meta->free.pad, &other);
    if (err != MOON_OK)
        return err;
    if (other.free.pad != meta->free.pad)
        return broken(c, "with pages of two sizes");
    bool second = other.txn > meta->txn;
    if (second)
        *meta = other;
    /* LMDB writes them in turn, and looks where that transaction belongs. */
    if ((meta->txn & 1) != second)
        return broken(c, "transaction %llu is on the other's page",
                      (unsigned long long)meta->txn);
    return MOON_OK;
}

/* What is behind the end of the file was never written; it must be free. */
static enum moon_err check_end(struct checker *c)
{
    for (uint64_t page = c->file_bytes / c->psize; page < c->pages; page++) {
        if ((c->seen[page >> 3] & 1u << (page & 7)) == 0)
            return broken(c, "ends early, before page %llu",
                          (unsigned long long)page);
    }
    return MOON_OK;
}

static enum moon_err check(struct checker *c, struct meta *meta)
{
    enum moon_err err = read_newest(c, meta);
    if (err != MOON_OK)
        return err;
    c->psize = meta->free.pad;
    c->pages = meta->last_page + 1;
    c->txn = meta->txn;
    if (c->pages < 2 || c->pages > c->file_bytes / c->psize + BEHIND_MAX)
        return broken(c, "ends long before page %llu",
                      (unsigned long long)meta->last_page);
    if ((meta->free.flags & DB_KINDS) != DB_INTEGER_KEY ||
        meta->main.flags != 0)
        return broken(c, "with databases of a kind that is not used here");
    c->seen = calloc(1, c->pages / 8 + 1);
    c->big = malloc(c->psize);
    if (c->seen == NULL || c->big == NULL)
        return MOON_ENOMEM;
    err = walk_db(c, &meta->free, MOON_STR_NONE);
    if (err == MOON_OK)
        err = walk_db(c, &meta->main, MOON_STR_NONE);
    return err == MOON_OK ? check_end(c) : err;
}

/* Most of it is needed, in no order: a disk reads it faster from front to
 * back, and the kernel takes no more than a piece at once. */
static void prefetch(const struct checker *c)
{
    for (uint64_t at = 0; at < c->file_bytes; at += READ_AHEAD)
        (void)readahead(c->fd, (off_t)at, READ_AHEAD);
}

enum moon_err moon_lmdb_check(int fd, moon_lmdb_visit *visit, void *ctx,
                              char why[MOON_LMDB_CHECK_WHY])
{
    struct checker c = {.fd = fd, .visit = visit, .ctx = ctx, .why = why};
    struct meta meta;
    struct stat st;
    why[0] = '\0';
    if (fstat(fd, &st) < 0) {
        (void)snprintf(why, MOON_LMDB_CHECK_WHY, "cannot be read: %s",
                       strerror(errno));
        return MOON_ESYS;
    }
    if (st.st_size == 0)
        return MOON_ENOT_FOUND;
    c.file_bytes = (uint64_t)st.st_size;
    prefetch(&c);
    enum moon_err err = check(&c, &meta);
    free(c.seen);
    free(c.big);
    return err;
}

uint64_t moon_lmdb_map_bytes(int fd)
{
    char why[MOON_LMDB_CHECK_WHY];
    struct checker c = {.fd = fd, .why = why};
    struct meta meta;
    return read_newest(&c, &meta) == MOON_OK ? meta.map_bytes : 0;
}
