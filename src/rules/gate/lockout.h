/* Guessing an agent's secret, slowed down without locking the agent out.
 *
 * Secrets the gateway does not know may be tried `limit` at a time. Beyond that the agent is
 * locked: of all who try, one gets a place every `place_gap_us`, dealt round robin over the
 * addresses they come from, so that one who hammers gets no more than one who asks once. A place is
 * kept for PLACE_KEPT_US after it is due: a client that knows nothing of Retry-After and comes back
 * after five minutes finds it. An agent is locked until nobody has failed for LOCKED_US.
 *
 * Who presents a secret that the gateway knows never comes here. At most LOCKOUT_ADDRESSES wait for
 * one agent; whoever finds that full gets no place, so that many addresses together can still delay
 * an agent the gateway does not know yet.
 *
 * Bounded: the table has a fixed size; of a set the agent goes whose last failure is the oldest,
 * and falls back to `limit`. Thread safe. Agents and addresses are keyed hashes
 * (rules/gate/limits). */
#pragma once

#include "rules/gate/limits.h"

enum { LOCKOUT_ADDRESSES = 16 };
#define LOCKOUT_LOCKED_US INT64_C(60000000)
#define LOCKOUT_KEPT_US   INT64_C(600000000)

struct lockout;

/* Room for `agents` that are locked at the same time, 300 bytes each, and for `keys` that are
 * not. */
struct lockout *lockout_new(size_t agents, size_t keys, const uint8_t hash_key[16]);
/* NULL is fine. */
void lockout_free(struct lockout *l);

struct lockout_policy {
    struct limit limit;
    int64_t place_gap_us;
};

/* 0: it may be tried now, and counts as failed unless lockout_forgive is called. Else how long to
 * wait, microseconds: a place is reserved for then. */
int64_t lockout_try(struct lockout *l, const struct lockout_policy *policy, uint64_t agent,
                    uint64_t address, int64_t now_us);
/* The try was let in, or never came to be judged. */
void lockout_forgive(struct lockout *l, const struct lockout_policy *policy, uint64_t agent);
/* The controller refused it. */
void lockout_failed(struct lockout *l, uint64_t agent, int64_t now_us);
/* Is the agent locked? */
bool lockout_is_locked(struct lockout *l, uint64_t agent, int64_t now_us);
/* What was tried of agents that are not locked: for replicas that count together. */
struct limits *lockout_tries(struct lockout *l);
