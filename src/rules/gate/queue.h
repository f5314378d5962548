/* Who waits for a place at the controller, and who is next. Pure; a waiting one is a link.
 *
 * Flows take turns, one each: an organization with a thousand waiting calls does not make another's
 * only one wait for all of them. Within a flow it is first come, first served. A flow is any
 * number, modulo QUEUE_FLOWS (rules/gate/flows): two that share a line share their turns. */
#pragma once

#include "base/list.h"

#include <stdint.h>

enum { QUEUE_FLOWS = 64 };

struct queue_entry {
    struct list link;
    uint8_t line;
};

struct queue_line {
    struct list entries;
    int64_t count;
};

struct queue {
    struct queue_line line[QUEUE_FLOWS];
    int64_t count; /* all of them */
    uint32_t turn; /* the flow that is next */
};

void queue_init(struct queue *q);
/* How many would go before one of this flow that came now, if nobody else came. */
int64_t queue_ahead(const struct queue *q, uint64_t flow);
void queue_add(struct queue *q, struct queue_entry *entry, uint64_t flow);
/* One leaves, wherever it stands. */
void queue_remove(struct queue *q, struct queue_entry *entry);
/* Takes out who is next; NULL: nobody waits. */
struct queue_entry *queue_take(struct queue *q);
