/* One limit for very many keys (agents, addresses): a bounded table of rules/gate/limit's integers.
 *
 * A key whose integer lies in the past is as good as one that is not there, so forgetting it loses
 * nothing. That is what makes room: within a set (eight keys) the one that goes is the one whose
 * integer is the smallest, the idlest. A flood of keys that come once pushes out each other; one
 * that has used more than one of its burst is still there when the flood is over. Where a key is
 * forgotten too early it gets its burst anew: the table errs in its favour.
 *
 * Keys are 64-bit keyed hashes (limits_key): nobody can choose two that meet in a set. Thread safe;
 * the locks are the innermost of all. */
#pragma once

#include "base/span.h"
#include "rules/gate/limit.h"

#include <stddef.h>

struct limits;

/* Keys of one table may have limits of different rates, and a key's may change: what is kept is
 * time. They should agree in burst * gap, the time in which all that was used is there again. */

/* Room for `keys`, rounded up to a power of two, 24 bytes each. */
struct limits *limits_new(size_t keys, const uint8_t hash_key[16]);
/* NULL is fine. */
void limits_free(struct limits *t);
/* Never 0. `what` tells kinds of keys apart that may be spelled alike. */
uint64_t limits_key(const struct limits *t, char what, struct span bytes);
/* The key of two keys together, an agent at an address, say. */
uint64_t limits_key_of_both(uint64_t a, uint64_t b);

/* Takes one, or says in *wait_us when it may come again. */
bool limits_take(struct limits *t, uint64_t key, const struct limit *limit, int64_t now_us,
                 int64_t *wait_us);
/* 0: limits_take would take one now. */
int64_t limits_wait_us(struct limits *t, uint64_t key, const struct limit *limit, int64_t now_us);
/* One that has happened (limit_charge). */
void limits_charge(struct limits *t, uint64_t key, const struct limit *limit, int64_t now_us);
/* Gives one back that was taken. */
void limits_refund(struct limits *t, uint64_t key, const struct limit *limit);
/* The key's integer; 0 when it is not there. */
int64_t limits_arrival_us(struct limits *t, uint64_t key);

/* ---- several replicas ----
 *
 * Each decides alone, and tells a common ledger now and then what it took; the ledger keeps one
 * arrival time a key (serve/redis/sharing_script.c), and says what it has come to. Replicas count
 * alike when they share the hash key. Times cross as "how far ahead of now", so that clocks need
 * not agree. */

/* What was taken here since the last export, as time (the gap of each; negative: given back). So
 * replicas need not agree on a key's rate: each counts what it took by its own. */
struct limits_told {
    uint64_t key;
    int64_t spent_us;
    int64_t ahead_us; /* how far the integer lies ahead of now, 0 or more */
};

/* Tells up to `max` keys in `out`, those that are nearest their limit, in no order, and returns how
 * many. All others are told never: *dropped counts them. Costs a look at what was used only. */
size_t limits_export(struct limits *t, int64_t now_us, struct limits_told *out, size_t max,
                     size_t *dropped);
/* The ledger's word on a key that was told: its integer, to which is added what was taken here
 * since. */
void limits_settle(struct limits *t, uint64_t key, int64_t arrival_us);
/* The same for a key that others have told: it never falls by that. */
void limits_learn(struct limits *t, uint64_t key, int64_t arrival_us);
