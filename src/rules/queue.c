#include "rules/queue.h"

enum { TOLD = QUEUE_FLOWS };

void queue_init(struct queue *q) {
    *q = (struct queue){0};
    for (int i = 0; i <= TOLD; i++)
        list_init(&q->line[i].entries);
}

static uint8_t line_of(const struct queue_rank *rank) {
    return (uint8_t)(rank->was_told ? TOLD : rank->flow % QUEUE_FLOWS);
}

/* Of each other flow as many have their turn before ours as wait in our own line and one more. */
int64_t queue_ahead(const struct queue *q, const struct queue_rank *rank) {
    uint8_t own = line_of(rank);
    int64_t ahead = q->line[TOLD].count;
    if (own == TOLD)
        return ahead;
    int64_t rounds = q->line[own].count + 1;
    for (uint8_t i = 0; i < QUEUE_FLOWS; i++) {
        int64_t count = q->line[i].count;
        ahead += i == own ? count : count < rounds ? count : rounds;
    }
    return ahead;
}

void queue_add(struct queue *q, struct queue_entry *entry, const struct queue_rank *rank) {
    entry->line = line_of(rank);
    list_push_back(&q->line[entry->line].entries, &entry->link);
    q->line[entry->line].count++;
    q->count++;
}

void queue_remove(struct queue *q, struct queue_entry *entry) {
    list_remove(&entry->link);
    q->line[entry->line].count--;
    q->count--;
}

static struct queue_entry *take_first(struct queue *q, uint32_t line) {
    struct queue_entry *first = container_of(q->line[line].entries.next, struct queue_entry, link);
    queue_remove(q, first);
    return first;
}

struct queue_entry *queue_take(struct queue *q) {
    if (q->line[TOLD].count > 0)
        return take_first(q, TOLD);
    for (uint32_t i = 0; i < QUEUE_FLOWS; i++) {
        uint32_t line = (q->turn + i) % QUEUE_FLOWS;
        if (q->line[line].count == 0)
            continue;
        q->turn = line + 1;
        return take_first(q, line);
    }
    return NULL;
}
