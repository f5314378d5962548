/* A worker's share of the beats: its parts, and who of them tells whom.
 *
 *   a beat is received (heartbeat.c) -- stored (storing.h), or held in memory (holding.h)
 *   it is due -- by appointment (appointments.h), or claimed in Redis (claims.h)
 *   it goes   -- by itself (sending.h), or in bulk (bulk.h)
 *   it ends   -- where it is held (settling.h) */
#pragma once

#include "serve/request/context.h"

void beats_init(struct serve *s);
/* Frees what beats_init made. */
void beats_release(struct serve *s);
/* A reload: keys, the service token, and whether bulk is wanted may be others. */
void beats_adopt(struct serve *s);

/* Redis came, or went. */
void beats_on_redis(struct serve *s, bool here);
/* There may be room at the controller. */
void beats_wake(struct serve *s);
/* TERM (shared->draining is set): what is held by this worker's agents is due now. */
void beats_drain(struct serve *s);
/* Has nothing to wait for. */
bool beats_are_idle(const struct serve *s);
/* The loops have stopped: what was not sent is held again, nobody waits for Redis any more. */
void beats_close(struct serve *s);
