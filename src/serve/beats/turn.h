/* A call that keeps its place among an agent's heartbeats: it waits for the one under way, nobody
 * sends while it is asked, and what was received before it never goes after it. With Redis that
 * holds for all replicas: the agent is taken there first.
 *
 * Two kinds: a disconnect, and a beat that is not held but forwarded while its agent waits. The
 * client may leave: the call is made all the same, it was received.
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

/* The loops have stopped: nobody waits for Redis any more. */
void turn_abandon_all(struct serve *s);

/* The agent's sender is done: whoever waits is next. False: nobody does. Under the agent's lock. */
bool turn_next(struct serve *s, struct agent *agent);
