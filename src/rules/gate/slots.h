/* A refused connect's Retry-After is a slot: a second at which a place is kept for it. Pure.
 *
 * Slots are dealt one after the other at the pace at which the controller works off connects, so
 * that clients who obey arrive as fast as they can be served and no faster. Who comes at its time
 * is recognised by its key, so that it can be let in where others are refused. Who comes earlier
 * and is refused again hears the same second as before: impatience moves nobody back, nor forward.
 * A slot is kept for SLOTS_GRACE_US after its time.
 *
 * Beyond `reach_s` nothing is dealt: such clients are told a time in the last fifth of the reach,
 * spread at random, to come and ask again. Memory is bounded; a slot that finds no room in the
 * table is dealt all the same, and its owner only not recognised. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SLOTS_GRACE_US = 30000000 };

struct slots;

/* `reach_s` 1 or more; `count` is how many slots are remembered, rounded up to a multiple of 4. */
struct slots *slots_new(int64_t reach_s, size_t count);
void slots_free(struct slots *slots);

/* The controller's pace and the first moment at which it makes sense to come. */
struct slots_pace {
    int64_t gap_us;      /* between two slots */
    int64_t earliest_us; /* not before this; may lie in the past */
};

/* Deals a slot to `key` (0: to somebody who will not be recognised). Returns in how many seconds it
 * is, rounded up: 1 to reach_s. */
int64_t slots_deal(struct slots *slots, uint64_t key, const struct slots_pace *pace,
                   uint32_t random, int64_t now_us);
/* Does one that asks now come at its time? */
bool slots_is_due(const struct slots *slots, uint64_t key, int64_t now_us);
/* It got in: it needs no slot any more. */
void slots_give_up(struct slots *slots, uint64_t key);
