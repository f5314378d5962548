#include "rules/agents/tags.h"

#include "base/siphash.h"

#include <stdatomic.h>

enum { TAG_NAME_MAX = 64 /* ids have 24; what is longer is told apart by its beginning */ };

struct tag tag_of(enum tag_kind kind, struct span name) {
    /* No secret key: who may write may make anything stale anyway. */
    uint8_t key[16] = {(uint8_t)kind};
    char lower[TAG_NAME_MAX];
    size_t len = name.len < sizeof lower ? name.len : sizeof lower;
    for (size_t i = 0; i < len; i++) {
        char c = name.ptr[i];
        lower[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    return (struct tag){(uint16_t)(siphash(key, (struct span){lower, len}) % TAGS_SLOTS)};
}

void tag_set_add(struct tag_set *set, struct tag tag) {
    if (set->count < TAGS_PER_ANSWER)
        set->at[set->count++] = tag;
}

bool tag_set_has(const struct tag_set *set, struct tag tag) {
    for (size_t i = 0; i < set->count; i++)
        if (set->at[i].slot == tag.slot)
            return true;
    return false;
}

static void raise_to(_Atomic uint64_t *stamp, uint64_t sequence) {
    uint64_t seen = atomic_load(stamp);
    while (seen < sequence && !atomic_compare_exchange_weak(stamp, &seen, sequence))
        ;
}

void tags_write(struct tags *tags, struct tag tag, uint64_t sequence) {
    raise_to(&tags->written[tag.slot], sequence);
    raise_to(&tags->latest, sequence);
}

uint64_t tags_latest(const struct tags *tags) {
    return atomic_load(&tags->latest);
}

bool tags_written_since(const struct tags *tags, const struct tag_set *set, uint64_t sequence) {
    for (size_t i = 0; i < set->count; i++)
        if (atomic_load(&tags->written[set->at[i].slot]) > sequence)
            return true;
    return false;
}
