/* The controller's no to an agent (rules/agents/verdict.h), and that it has let him in: what
 * follows from that for its cached connect, and for other replicas. Under the agent's lock. */
#pragma once

#include "serve/request/context.h"

/* Notes it, and forgets the cached connect: it would hand out the refused token again. */
void verdict_keep(struct serve *s, struct agent *agent, uint64_t token_hash, int status,
                  const char *message);
/* The controller itself has let the agent in, asked at this `peers_seen` (serve/cache/peers.h):
 * whatever it said to heartbeats before is over, for all replicas. */
void verdict_let_in(struct serve *s, struct agent *agent, int64_t peers_seen);
