/* An intrusive doubly linked ring: the head is a link that points at itself when empty. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

#define container_of(pointer, type, member)                                                        \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

static inline void list_init(struct list *l) {
    l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l) {
    return l->next == l;
}

static inline void list_insert_between(struct list *l, struct list *prev, struct list *next) {
    l->prev = prev;
    l->next = next;
    prev->next = next->prev = l;
}

static inline void list_push_front(struct list *head, struct list *l) {
    list_insert_between(l, head, head->next);
}

static inline void list_push_back(struct list *head, struct list *l) {
    list_insert_between(l, head->prev, head);
}

/* Harmless on a link that is in no list but was initialised. */
static inline void list_remove(struct list *l) {
    l->prev->next = l->next;
    l->next->prev = l->prev;
    list_init(l);
}

#define list_each(at, head) for (struct list *at = (head)->next; at != (head); at = at->next)
/* The element at `at` may be removed. */
#define list_each_safe(at, head)                                                                   \
    for (struct list *at = (head)->next, *at##_next = at->next; at != (head);                      \
         at = at##_next, at##_next = at->next)
