/* One worker's share of the gateway (serve/request/context.h): from what the server tells to the
 * journeys.
 *
 *   bytes --> io/server --> serve.c --> routes.c (the table of contents)
 *                              |-- connect.c    from cache, or one flight to the controller
 *                              |-- heartbeat.c  acknowledged here ---> sending.c --> controller
 *                              |-- disconnect.c in its turn among the beats (turn.c)
 *                              '-- forward.c    everything else, streamed */
#pragma once

#include "serve/request/context.h"

/* The worker's server, upstream and parts are made by the caller (app/worker). */
void serve_init(struct serve *s, struct shared *shared, size_t worker, struct loop *loop,
                struct upstream *upstream);
void serve_release(struct serve *s);
/* A new generation of configuration: what this worker has made of the old one is made anew. */
void serve_adopt(struct serve *s, const struct config *config);
/* What the server shall tell: pass as its events, with the struct serve as argument. */
extern const struct server_events serve_events;
