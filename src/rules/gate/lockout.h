/* Guessing an agent's secret, slowed down without locking the agent out.
 *
 *   in flight  a try takes from its own address' share of the agent: `limit`. It is given back
 *              when the try is let in, or when nobody judged it. So what one address sends, however
 *              much of it and however late it is answered, keeps no other address waiting
 *   judged     only a secret that the controller has found to be wrong counts against the agent.
 *              Beyond `limit` of them, from all addresses together, the agent is locked
 *   locked     of all who try, one gets a place every `place_gap_us`, dealt round robin over the
 *              addresses they come from, so that one who hammers gets no more than one who asks
 *              once. A place is kept for LOCKOUT_KEPT_US after it is due: a client that knows
 *              nothing of Retry-After and comes back after five minutes finds it. The agent is
 *              locked until nobody has failed for LOCKOUT_LOCKED_US
 *
 * A try that had to wait before it could be sent is asked for once more when its turn comes
 * (lockout_try_again): others may have been judged since. So of tries that all began before the
 * first was judged at most `limit` are judged, and those that were at the controller by then.
 *
 * Who presents a secret that the gateway knows never comes here. At most LOCKOUT_ADDRESSES wait for
 * one agent; whoever finds that full gets no place, so that many addresses together can still delay
 * an agent the gateway does not know yet.
 *
 * Bounded: the tables have a fixed size; of a set of locked agents that one goes whose last failure
 * is the oldest, and falls back to `limit`. Thread safe. Agents and addresses are keyed hashes
 * (rules/gate/limits). */
#pragma once

#include "rules/gate/limits.h"

enum { LOCKOUT_ADDRESSES = 16 };
#define LOCKOUT_LOCKED_US INT64_C(60000000)
#define LOCKOUT_KEPT_US   INT64_C(600000000)

struct lockout;

/* Room for `agents` that are locked at the same time, 300 bytes each, for `keys` that are not, and
 * for as many shares of addresses. */
struct lockout *lockout_new(size_t agents, size_t keys, const uint8_t hash_key[16]);
/* NULL is fine. */
void lockout_free(struct lockout *l);

struct lockout_policy {
    struct limit limit;
    int64_t place_gap_us;
};

/* What a try holds. */
enum lockout_hold {
    LOCKOUT_NOTHING,
    LOCKOUT_SHARE, /* of its address: given back by lockout_return, or kept where it failed */
    LOCKOUT_PLACE, /* of those dealt while the agent is locked: used up */
};

/* 0: it may be tried now, and *hold says by what. Else how long to wait, microseconds: while the
 * agent is locked, a place is reserved for then. */
int64_t lockout_try(struct lockout *l, const struct lockout_policy *policy, uint64_t agent,
                    uint64_t address, int64_t now_us, enum lockout_hold *hold);
/* Of one that holds a share, and has waited: 0, it may still be tried; else as above. The share is
 * still held. */
int64_t lockout_try_again(struct lockout *l, const struct lockout_policy *policy, uint64_t agent,
                          uint64_t address, int64_t now_us);
/* One that holds a share was let in, or never came to be judged. */
void lockout_return(struct lockout *l, const struct lockout_policy *policy, uint64_t agent,
                    uint64_t address);
/* The controller found the secret to be wrong. */
void lockout_failed(struct lockout *l, const struct lockout_policy *policy, uint64_t agent,
                    int64_t now_us);
/* Is the agent locked? */
bool lockout_is_locked(struct lockout *l, uint64_t agent, int64_t now_us);
/* The wrong secrets of agents that are not locked: for replicas that count together. */
struct limits *lockout_tries(struct lockout *l);
