#include "rules/gate/queue.h"

void queue_init(struct queue *q) {
    *q = (struct queue){0};
    for (int i = 0; i < QUEUE_FLOWS; i++)
        list_init(&q->line[i].entries);
}

/* Of each other flow as many have their turn before ours as wait in our own line and one more. */
int64_t queue_ahead(const struct queue *q, uint64_t flow) {
    uint64_t own = flow % QUEUE_FLOWS;
    int64_t ahead = 0, rounds = q->line[own].count + 1;
    for (uint64_t i = 0; i < QUEUE_FLOWS; i++) {
        int64_t count = q->line[i].count;
        ahead += i == own || count < rounds ? count : rounds;
    }
    return ahead;
}

void queue_add(struct queue *q, struct queue_entry *entry, uint64_t flow) {
    entry->line = (uint8_t)(flow % QUEUE_FLOWS);
    list_push_back(&q->line[entry->line].entries, &entry->link);
    q->line[entry->line].count++;
    q->count++;
}

void queue_remove(struct queue *q, struct queue_entry *entry) {
    list_remove(&entry->link);
    q->line[entry->line].count--;
    q->count--;
}

struct queue_entry *queue_take(struct queue *q) {
    for (uint32_t i = 0; i < QUEUE_FLOWS; i++) {
        struct queue_line *line = &q->line[(q->turn + i) % QUEUE_FLOWS];
        if (line->count == 0)
            continue;
        struct queue_entry *first = container_of(line->entries.next, struct queue_entry, link);
        q->turn = first->line + 1U;
        queue_remove(q, first);
        return first;
    }
    return NULL;
}
