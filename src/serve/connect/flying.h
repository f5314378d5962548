/* Flights: of all who ask the controller for the same connect at once, one goes.
 *
 *   boarding   under the agent's lock: lead a new flight, or follow the one in the air
 *   departure  the leader looks at the shelf, perhaps, and asks the controller; a follower waits
 *              for its letter
 *   patience   while there is an older grant nobody waits long: it answers, and the flight goes on
 *   landing    what came is learnt: stored with its tags, or what this secret opened is forgotten
 *   arrival    all aboard are answered (aboard.h), the leader here, followers on their own workers
 */
#pragma once

#include "rules/agents/plan.h"
#include "serve/connect/replay.h"

struct passenger;

struct flying_ticket {
    const struct grant_pass *pass;
    bool is_known; /* this secret has opened the agent before */
    enum replay_reason reason;
    int64_t patience_ms; /* then answer from the older grant; 0: there is none to wait less for */
    bool looks;        /* at what other replicas have learnt (serve/cache/shelf), before it asks */
    enum err denied;   /* not ERR_OK: it may look, but must not ask; then this is the refusal */
    int retry_after_s; /* of the refusal */
};

/* Under the agent's lock. NULL when the flight is full. */
struct passenger *flying_board(struct serve *s, struct agent *agent, const struct request *r,
                               const struct flying_ticket *ticket);
/* Is a flight for this proof in the air that may be joined? Under the agent's lock. */
bool flying_is_asked(struct serve *s, struct agent *agent, const struct grant_pass *pass);

/* Once the agent is unlocked. */
void flying_depart(struct passenger *p, const struct request *r);
/* A refresh, for which nobody waits, unless somebody asks already. `body` is the request's, which
 * holds the secret, and is copied. */
void flying_refresh(struct serve *s, const struct grant_pass *pass, struct span body);
