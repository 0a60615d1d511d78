/* A doubly linked ring with a head, embedded in what it links: a member can
 * leave whatever ring it is in, also one that somebody walks over.
 *
 * A zeroed link is in no ring; a head is initialised and never removed. */
#ifndef MOON_STATE_CHAIN_H
#define MOON_STATE_CHAIN_H

#include <stdbool.h>
#include <stddef.h>

struct moon_chain {
    struct moon_chain *prev, *next;
};

static inline void moon_chain_init(struct moon_chain *head)
{
    head->prev = head->next = head;
}

static inline bool moon_chain_is_empty(const struct moon_chain *head)
{
    return head->next == head;
}

static inline bool moon_chain_is_in(const struct moon_chain *link)
{
    return link->next != NULL;
}

/* As the last one; must be in no ring. */
static inline void moon_chain_add(struct moon_chain *head,
                                  struct moon_chain *link)
{
    link->prev = head->prev;
    link->next = head;
    link->prev->next = link->next->prev = link;
}

/* Does nothing if it is in no ring. */
static inline void moon_chain_remove(struct moon_chain *link)
{
    if (link->next == NULL)
        return;
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->prev = link->next = NULL;
}

/* The first, out of the ring; NULL if it is empty. */
static inline struct moon_chain *moon_chain_take(struct moon_chain *head)
{
    struct moon_chain *first = head->next;
    if (first == head)
        return NULL;
    head->next = first->next;
    first->next->prev = head;
    first->prev = first->next = NULL;
    return first;
}

/* All of `from` to the initialised `to`, which is empty. */
static inline void moon_chain_move(struct moon_chain *from,
                                   struct moon_chain *to)
{
    if (moon_chain_is_empty(from))
        return;
    *to = *from;
    to->prev->next = to->next->prev = to;
    moon_chain_init(from);
}

#endif
