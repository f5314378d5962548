#include "rules/tags.h"

#include "base/siphash.h"

#include <stdatomic.h>

struct tag tag_of(enum tag_kind kind, struct span name) {
    /* No secret key: who may write may make anything stale anyway. */
    uint8_t key[16] = {(uint8_t)kind};
    return (struct tag){(uint16_t)(siphash(key, name) % TAGS_SLOTS)};
}

void tag_set_add(struct tag_set *set, struct tag tag) {
    if (set->count < TAGS_PER_ANSWER)
        set->at[set->count++] = tag;
}

void tags_write(struct tags *tags, struct tag tag, uint64_t sequence) {
    _Atomic uint64_t *stamp = &tags->written[tag.slot];
    uint64_t seen = atomic_load(stamp);
    while (seen < sequence && !atomic_compare_exchange_weak(stamp, &seen, sequence))
        ;
}

bool tags_written_since(const struct tags *tags, const struct tag_set *set, uint64_t sequence) {
    for (size_t i = 0; i < set->count; i++)
        if (atomic_load(&tags->written[set->at[i].slot]) > sequence)
            return true;
    return false;
}
