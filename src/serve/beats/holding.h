/* Beats held in memory: in their agent, from where they are sent. The way of all beats without
 * Redis, and of those that it did not take in time. */
#pragma once

#include "serve/request/answer.h"

/* A beat that was received. */
struct arrival {
    uint64_t sequence; /* of beat_pass */
    enum beat_status status;
    struct span body, token;
    int64_t received_ms; /* monotonic */
};

/* Holds it, and sends it or sees that it will be sent. Under the agent's lock; sending_launch once
 * it is unlocked. True: it is a first one and was sent; `caller` was taken, and is answered when
 * the controller has spoken. A `caller` without client (x is NULL) waits for nothing. */
bool holding_take(struct serve *s, struct agent *agent, const struct arrival *a,
                  struct caller *caller);

/* It is held in Redis by now. Under the agent's lock. */
void holding_release(struct agent *agent, uint64_t sequence);
