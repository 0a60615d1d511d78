#include "state/redis_reply.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>

/* For each element of an array there is room from the start for this much text;
 * what is more comes from further blocks. Arrays beyond ELEMENTS_AT_ONCE have
 * room for their pointers only: how many there are is only what the peer says.
 */
enum {
    TEXT_EACH = 16,
    ELEMENTS_AT_ONCE = 64,
    BLOCK_BYTES = 8192,
    ALIGN = _Alignof(struct redisReply),
};

struct block {
    struct block *next;
};

struct root {
    struct redisReply reply; /* first */
    bool joined;             /* its elements are roots */
    struct block *blocks;
    char *at, *end; /* what is free in the newest block, or behind this */
};

static struct root *new_root(size_t room)
{
    struct root *root = malloc(sizeof(*root) + room);
    if (root == NULL)
        return NULL;
    *root = (struct root){.at = (char *)(root + 1)};
    root->end = root->at + room;
    return root;
}

void moon_redis_reply_free(struct redisReply *reply)
{
    struct root *root = (struct root *)(void *)reply;
    if (root == NULL)
        return;
    for (size_t i = 0; root->joined && i < reply->elements; i++)
        moon_redis_reply_free(reply->element[i]);
    for (struct block *block = root->blocks; block != NULL;) {
        struct block *next = block->next;
        free(block);
        block = next;
    }
    free(root);
}

static void *add_block(struct root *root, size_t bytes)
{
    bool alone = bytes > BLOCK_BYTES / 4;
    struct block *block =
        malloc(sizeof(*block) + (alone ? bytes : (size_t)BLOCK_BYTES));
    if (block == NULL)
        return NULL;
    block->next = root->blocks;
    root->blocks = block;
    char *start = (char *)(block + 1);
    if (!alone) {
        root->at = start + bytes;
        root->end = start + BLOCK_BYTES;
    }
    return start;
}

/* Aligned for all that a reply consists of. */
static void *take(struct root *root, size_t bytes)
{
    bytes = (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if ((size_t)(root->end - root->at) < bytes)
        return add_block(root, bytes);
    char *start = root->at;
    root->at += bytes;
    return start;
}

static struct root *root_of(const redisReadTask *task)
{
    while (task->parent != NULL)
        task = task->parent;
    return task->obj;
}

/* A reply for the task, in its place, with room behind a root. */
static struct redisReply *new_reply(const redisReadTask *task, size_t room,
                                    struct root **root)
{
    if (task->parent == NULL) {
        *root = new_root(room);
        struct redisReply *reply = *root == NULL ? NULL : &(*root)->reply;
        if (reply != NULL)
            reply->type = task->type;
        return reply;
    }
    *root = root_of(task);
    struct redisReply *reply = take(*root, sizeof(*reply));
    if (reply == NULL)
        return NULL;
    *reply = (struct redisReply){.type = task->type};
    struct redisReply *parent = task->parent->obj;
    parent->element[task->idx] = reply;
    return reply;
}

static void *create_string(const redisReadTask *task, char *text, size_t len)
{
    struct root *root;
    /* Rounded up as take() does. */
    struct redisReply *reply = new_reply(task, len + 1 + ALIGN, &root);
    if (reply == NULL)
        return NULL;
    reply->str = take(root, len + 1);
    if (reply->str == NULL) {
        if (task->parent == NULL)
            moon_redis_reply_free(reply);
        return NULL;
    }
    memcpy(reply->str, text, len);
    reply->str[len] = '\0';
    reply->len = len;
    return reply;
}

static void *create_array(const redisReadTask *task, int elements)
{
    struct root *root;
    size_t count = elements > 0 ? (size_t)elements : 0;
    size_t pointers = count * sizeof(struct redisReply *);
    size_t room = pointers;
    if (count <= ELEMENTS_AT_ONCE)
        room += count * (sizeof(struct redisReply) + TEXT_EACH);
    struct redisReply *reply = new_reply(task, room + ALIGN, &root);
    if (reply == NULL)
        return NULL;
    reply->element = count == 0 ? NULL : take(root, pointers);
    if (count > 0 && reply->element == NULL) {
        if (task->parent == NULL)
            moon_redis_reply_free(reply);
        return NULL;
    }
    reply->elements = count;
    return reply;
}

static void *create_integer(const redisReadTask *task, long long value)
{
    struct root *root;
    struct redisReply *reply = new_reply(task, 0, &root);
    if (reply != NULL)
        reply->integer = value;
    return reply;
}

static void *create_nil(const redisReadTask *task)
{
    struct root *root;
    struct redisReply *reply = new_reply(task, 0, &root);
    if (reply != NULL)
        reply->type = REDIS_REPLY_NIL; /* the task's is what it might be */
    return reply;
}

/* The reader gives back roots only. */
static void free_object(void *reply)
{
    moon_redis_reply_free(reply);
}

redisReplyObjectFunctions moon_redis_reply_functions = {
    .createString = create_string,
    .createArray = create_array,
    .createInteger = create_integer,
    .createNil = create_nil,
    .freeObject = free_object,
};

struct redisReply *moon_redis_reply_join(struct redisReply **replies,
                                         size_t count)
{
    struct root *root = new_root(count * sizeof(struct redisReply *));
    if (root == NULL)
        return NULL;
    root->joined = true;
    root->reply.type = REDIS_REPLY_ARRAY;
    root->reply.elements = count;
    root->reply.element = (struct redisReply **)(void *)root->at;
    if (count > 0)
        memcpy(root->reply.element, replies,
               count * sizeof(struct redisReply *));
    return &root->reply;
}
