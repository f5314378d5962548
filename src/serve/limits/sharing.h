/* Limits that replicas count together. Each decides at once, by its own tables
 * (serve/limits/limiting.h); every 200 ms, give or take a fifth, it tells Redis what its clients
 * took since and takes over what has become of it with what the others told (the second half of
 * rules/gate/limits.h).
 *
 *   a client's call --> rules/gate/limits: yes or no
 *                            |  every 200 ms: the busiest that were used
 *                            v
 *                       one script: a sorted set a limit, a score a key
 *                            |  told ones, and those of others that are near their limit
 *                            v
 *                       rules/gate/limits
 *
 * So a fleet allows what one replica would, and each of the others at most one burst more to one
 * who asks all of them within a fifth of a second; who takes that owes it
 * (tests/unit/test_limits_shared).
 *
 * While Redis is away each replica gives its part: a limit divided by the replicas last known.
 * Keys in Redis are keyed hashes: no address, no agent and no secret can be read from them. Runs in
 * the main thread's loop. */
#pragma once

#include "io/redis.h"
#include "serve/request/context.h"

struct sharing;

enum {
    SHARING_EVERY_MS = 200,
    SHARING_KEYS = 100,   /* told of each limit at a time, at most */
    SHARING_LEARNT = 128, /* heard of each limit at a time, at most */
};

/* Borrows `redis`; sharing_free before it goes. */
struct sharing *sharing_new(struct shared *shared, struct loop *loop, struct redis *redis);
void sharing_free(struct sharing *sh); /* NULL is fine */
