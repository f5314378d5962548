/* What this replica of the gateway and the others tell each other through Redis. Runs in the main
 * thread's loop, on connections of its own; workers reach it by letter.
 *
 *   a write that passed by --peers_tell--> journal --> script --> Redis: purged there, and an entry
 *                                                                 in the stream of events
 *   the stream --serve/redis/tail--> the others' notices are applied here as if the write had
 *                                    passed by us
 *
 * What could not be told while Redis was away waits in the journal, and is told first when it
 * returns. What others told meanwhile stands in the stream; where that was trimmed or lost, all
 * that is cached here counts as stale. So it does when nothing was heard for PEERS_DEAF_MS.
 *
 * Replicas count each other by their presence (shared->replicas), and what clients take together
 * (serve/limits/sharing). */
#pragma once

#include "rules/redis/notice.h"
#include "serve/request/context.h"

struct peers;

enum { PEERS_DEAF_MS = 60000, PEERS_JOURNAL_AGENTS = 4096, PEERS_REPLICA_ID = 16 };

/* Sets shared->peers; before the workers start. Leaves it NULL where no Redis is configured. */
void peers_start(struct shared *shared, struct loop *loop);
/* We are about to end: the others need not count on us. */
void peers_leave(struct peers *p);
/* Has all been told that can be told now? */
bool peers_is_quiet(const struct peers *f);
/* After the workers have ended. */
void peers_free(struct shared *shared);

/* ---- for workers; thread safe; `shared` may have none ---- */

/* Tells the others. What it says has been done here already. */
void peers_tell(struct shared *shared, const struct notice *n);
/* Does Redis know all that we have to tell? Else what is found there may be untrue. */
bool peers_has_told_all(const struct shared *shared);
/* Nothing was heard from the others for too long. */
bool peers_is_deaf(const struct shared *shared);
/* The last purge, of whichever replica, that we have heard of; 0: of none. Who asks the controller
 * after this asks after that purge. */
int64_t peers_seen(const struct shared *shared);
/* Our name: PEERS_REPLICA_ID hex digits, made at the start. */
struct span peers_replica(const struct shared *shared);
