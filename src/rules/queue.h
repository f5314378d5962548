/* Who waits for a place at the controller, and who is next. Pure; a waiting one is a link.
 *
 * Those who come at the time they were told to (rules/slots) go first, in the order of coming.
 * Among the others flows take turns, one each: an organization with a thousand waiting calls does
 * not make another's only one wait for all of them. Within a flow it is first come, first served.
 *
 * A flow is any number, hashed to one of QUEUE_FLOWS: two that share a line share their turns. */
#pragma once

#include "base/list.h"

#include <stdint.h>

enum { QUEUE_FLOWS = 16 };

struct queue_entry {
    struct list link;
    uint8_t line; /* QUEUE_FLOWS: the first line, of those who were told to come */
};

struct queue_line {
    struct list entries;
    int64_t count;
};

struct queue {
    struct queue_line line[QUEUE_FLOWS + 1];
    int64_t count; /* all of them */
    uint32_t turn; /* the flow that is next */
};

/* Who somebody is. */
struct queue_rank {
    uint64_t flow;
    bool was_told; /* to come now */
};

void queue_init(struct queue *q);
/* How many would go before one that came now, if nobody else came. */
int64_t queue_ahead(const struct queue *q, const struct queue_rank *rank);
void queue_add(struct queue *q, struct queue_entry *entry, const struct queue_rank *rank);
/* One leaves, wherever it stands. */
void queue_remove(struct queue *q, struct queue_entry *entry);
/* Takes out who is next; NULL: nobody waits. */
struct queue_entry *queue_take(struct queue *q);
