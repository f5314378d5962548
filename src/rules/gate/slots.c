#include "rules/gate/slots.h"

#include "base/panic.h"

#include <stdlib.h>

enum { WAYS = 4, SECOND_US = 1000000, SPREAD = 5 /* of the reach */ };

struct slot {
    uint64_t key; /* 0: free */
    int64_t at_us;
};

struct slots {
    int64_t reach_us;
    int64_t dealt_until_us; /* the last one dealt */
    size_t sets;
    struct slot *slot; /* sets of WAYS */
};

struct slots *slots_new(int64_t reach_s, size_t count) {
    struct slots *slots = must_zalloc(sizeof *slots);
    slots->reach_us = reach_s * SECOND_US;
    slots->sets = (count + WAYS - 1) / WAYS;
    slots->slot = must_zalloc(slots->sets * WAYS * sizeof(struct slot));
    return slots;
}

void slots_free(struct slots *slots) {
    if (slots)
        free(slots->slot);
    free(slots);
}

/* ---- the table ---- */

static struct slot *set_of(const struct slots *slots, uint64_t key) {
    return &slots->slot[key % slots->sets * WAYS];
}

static bool is_over(const struct slot *s, int64_t now_us) {
    return now_us > s->at_us + SLOTS_GRACE_US;
}

static struct slot *find(const struct slots *slots, uint64_t key) {
    struct slot *set = set_of(slots, key);
    for (int i = 0; key != 0 && i < WAYS; i++)
        if (set[i].key == key)
            return &set[i];
    return NULL;
}

/* What is over makes room; what is not, never: it was promised. */
static void keep(struct slots *slots, uint64_t key, int64_t at_us, int64_t now_us) {
    struct slot *set = set_of(slots, key);
    for (int i = 0; key != 0 && i < WAYS; i++) {
        if (set[i].key != 0 && !is_over(&set[i], now_us))
            continue;
        set[i] = (struct slot){key, at_us};
        return;
    }
}

void slots_give_up(struct slots *slots, uint64_t key) {
    struct slot *s = find(slots, key);
    if (s)
        *s = (struct slot){0};
}

/* ---- dealing ---- */

static int64_t later(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t seconds_until(int64_t at_us, int64_t now_us) {
    int64_t s = (at_us - now_us + SECOND_US - 1) / SECOND_US;
    return s > 1 ? s : 1;
}

static int64_t beyond_reach_s(const struct slots *slots, uint32_t random) {
    int64_t reach_s = slots->reach_us / SECOND_US;
    int64_t spread = reach_s / SPREAD + 1;
    int64_t s = reach_s - random % spread;
    return s > 1 ? s : 1;
}

int64_t slots_deal(struct slots *slots, uint64_t key, const struct slots_pace *pace,
                   uint32_t random, int64_t now_us) {
    struct slot *own = find(slots, key);
    if (own && own->at_us > now_us)
        return seconds_until(own->at_us, now_us);
    int64_t at_us = later(later(slots->dealt_until_us, pace->earliest_us), now_us) + pace->gap_us;
    if (at_us - now_us > slots->reach_us)
        return beyond_reach_s(slots, random);
    slots->dealt_until_us = at_us;
    if (own)
        own->at_us = at_us;
    else
        keep(slots, key, at_us, now_us);
    return seconds_until(at_us, now_us);
}

bool slots_is_due(const struct slots *slots, uint64_t key, int64_t now_us) {
    const struct slot *own = find(slots, key);
    return own && now_us >= own->at_us && !is_over(own, now_us);
}
