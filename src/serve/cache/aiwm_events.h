/* What the controller itself tells of its agents: updates and deletions that did not pass the
 * gateway are forgotten here as if they had. Follows the events of the controller's queue of agents
 * (rules/redis/aiwm_event) in the controller's own Redis, in the main thread's loop.
 *
 *   an entry "added" --> the job, asked for in its hash --> the agent's cached connect and its
 *                                                           remembered refusals are forgotten
 *
 * It only reads. Nobody is revoked or let in by what stands there: it is not the controller that
 * vouches for it, but whoever can write to that Redis. Where entries may have been missed (the
 * stream was trimmed past us), all that is cached counts as stale. */
#pragma once

#include "io/redis.h"
#include "serve/request/context.h"

struct aiwm_events;

/* NULL when `options->url` is. `stream` ends in ":events"; the jobs' hashes have keys that begin
 * as it does. Borrows everything. */
struct aiwm_events *aiwm_events_start(struct shared *shared, struct loop *loop,
                                      const struct redis_options *options, const char *stream);
void aiwm_events_free(struct aiwm_events *e); /* NULL is fine */
