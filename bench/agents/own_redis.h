/* A Redis of our own for the gateway that is started: it keeps what it is told (AOF) in a directory
 * that goes with it, and comes back on the same port. */
#pragma once

#include "agents/child.h"

struct own_redis {
    struct child child;
    int port;           /* 0: not chosen yet */
    char directory[64]; /* "": none yet */
};

void own_redis_init(struct own_redis *r);
/* Also again, after it was killed. False when there is no redis-server, or it does not serve. */
bool own_redis_start(struct own_redis *r, int ms);
/* And its directory. Idempotent. */
void own_redis_stop(struct own_redis *r, int ms);
