/* A call that keeps its place among an agent's heartbeats: it waits for the one under way, nobody
 * sends while it is asked, and what was received before it never goes after it. With Redis that
 * holds for all replicas: the agent is taken there first.
 *
 * Two kinds: a disconnect, and a beat that is not held but forwarded while its agent waits. The
 * agent's client may leave: the call is made all the same, it was received. A user's call that
 * still waits is dropped when its client leaves.
 *
 * At most one of these calls goes between two deliveries of the agent's held beat: a client whose
 * calls fail one after the other would else keep it from the controller indefinitely. With Redis
 * its script says so (beat_take). Those whose client has waited for queue.wait are refused.
 *
 * A beat forwarded here counts as received and delivered once the controller has taken it, and
 * nowhere before: until then nobody has acknowledged it, and its agent hears what went wrong. */
#pragma once

#include "rules/wire/payload.h"
#include "serve/request/context.h"

struct request;
struct turn;

struct turn_kind {
    bool is_beat;      /* else a disconnect */
    bool status_known; /* of a beat whose body we could read */
    enum beat_status status;
};

/* Under the agent's lock. NULL: too many wait already (a controller that hangs would keep the
 * agent's beats waiting behind all of them); refuse it with ERR_OVERLOADED. */
struct turn *turn_take(struct serve *s, const struct request *r, struct agent *agent,
                       const struct turn_kind *kind);
/* Asks, unless it has to wait. Call it once the agent is unlocked. */
void turn_launch(struct turn *t);

/* The loops of all workers have stopped: nobody waits for Redis, or for a turn, any more. */
void turn_abandon_all(struct serve *s);

/* A call of this agent's has ended, or its held beat cannot go: what is next goes, or is scheduled.
 * Under the agent's lock; harmless while one is under way. */
void turn_go_on(struct serve *s, struct agent *agent);
