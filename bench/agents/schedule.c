#include "agents/schedule.h"

#include "base/panic.h"

#include <stdlib.h>

struct entry {
    int64_t due_us;
    uint32_t number;
};

struct schedule {
    size_t count; /* in the heap */
    struct entry *heap;
    uint32_t *place; /* of each number in the heap, plus one; 0: not in it */
};

struct schedule *schedule_new(size_t count) {
    struct schedule *s = must_zalloc(sizeof *s);
    s->heap = must_alloc((count + 1) * sizeof *s->heap);
    s->place = must_zalloc((count + 1) * sizeof *s->place);
    return s;
}

void schedule_free(struct schedule *s) {
    free(s->heap);
    free(s->place);
    free(s);
}

static void put(struct schedule *s, size_t at, struct entry e) {
    s->heap[at] = e;
    s->place[e.number] = (uint32_t)at + 1;
}

static void rise(struct schedule *s, size_t at, struct entry e) {
    while (at > 0 && s->heap[(at - 1) / 2].due_us > e.due_us) {
        put(s, at, s->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    put(s, at, e);
}

/* Moves earlier children up; the place that is left. */
static size_t sink(struct schedule *s, size_t at, int64_t due_us) {
    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < s->count && s->heap[child + 1].due_us < s->heap[child].due_us)
            child++;
        if (child >= s->count || s->heap[child].due_us >= due_us)
            return at;
        put(s, at, s->heap[child]);
        at = child;
    }
}

static void take_out(struct schedule *s, size_t at) {
    s->place[s->heap[at].number] = 0;
    struct entry last = s->heap[--s->count];
    if (at < s->count)
        rise(s, sink(s, at, last.due_us), last);
}

void schedule_set(struct schedule *s, size_t number, int64_t due_us) {
    if (s->place[number] > 0)
        take_out(s, s->place[number] - 1);
    if (due_us == SCHEDULE_NEVER)
        return;
    rise(s, s->count++, (struct entry){due_us, (uint32_t)number});
}

int64_t schedule_next_us(const struct schedule *s) {
    return s->count ? s->heap[0].due_us : SCHEDULE_NEVER;
}

bool schedule_take(struct schedule *s, int64_t now_us, size_t *number) {
    if (schedule_next_us(s) > now_us || s->count == 0)
        return false;
    *number = s->heap[0].number;
    take_out(s, 0);
    return true;
}
