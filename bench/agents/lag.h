/* How late the generator itself is: a tick every millisecond, and how long each had to wait for its
 * turn. After a stall all the ticks it swallowed are counted, each with its own wait, so quantiles
 * are those of a request that comes at any time (and not of those lucky enough to be asked). */
#pragma once

#include "agents/record.h"
#include "io/loop.h"

struct lag {
    int fd;
    int64_t next_us; /* the first tick not yet counted */
    struct record *record;
    struct event event;
};

/* False when no descriptor can be had. */
bool lag_start(struct lag *lag, struct loop *loop, struct record *record);
void lag_stop(struct lag *lag);
