/* What a write that passed by makes untrue here. Done before its answer is passed on, so that an
 * admin who has the answer never sees the old state.
 *
 * Only the controller's 2xx proves a write, and only its answer says what it has made of it: the
 * request may be spelled in a way that we read and it ignores, or the other way round.
 *
 *   forget   the agent's cached connect and its remembered refusals: credentials, settings, status
 *   stale    by tag: what the cached connects of others depend on (instruction, deployment, models,
 *            configuration); the next connect asks the controller
 *   revoke   the agent's tokens given out until then: deleted, suspended, perhaps regenerated
 *   readmit  the agent is there and active again
 *   ask      the answer does not say whether it is suspended: its next heartbeat is forwarded
 *
 * Where nobody knows whether it was written (5xx, no answer) entries become stale and are kept, and
 * only what the sender may write: nothing for an agent's token, its own organization's for a
 * user's, anything for a universe role's. A claim must not take from anybody what a write would
 * not.
 *
 * Other replicas are told of all of it (serve/cache/peers). */
#pragma once

#include "rules/agents/agent_id.h"
#include "rules/agents/tags.h"
#include "rules/wire/payload.h"
#include "serve/request/context.h"
#include "serve/request/route.h"

struct request;

/* What may be written, and by whom; read from the request before it goes. */
struct written {
    enum effect effect;
    struct agent_id agent;            /* effects on agents */
    struct tag_set tags;              /* effects on what others depend on */
    enum payload_agent_status status; /* EFFECT_AGENT_WRITTEN: what the answer said of it */
    enum writer {
        WRITER_UNKNOWN,  /* an agent, or a token that we could not verify */
        WRITER_OF_ORG,   /* a user: `org` */
        WRITER_ANYWHERE, /* a universe role; an operator */
    } writer;
    struct tag org;
    uint64_t purges_seen; /* the purge sequence when it went */
    int64_t peers_seen;   /* the same of all replicas (serve/cache/peers) */
};

struct written purge_plan(struct serve *s, struct request *r);

/* How a call with an effect ended, as far as anybody knows. */
enum ending { ENDED_WELL, ENDED_BADLY, ENDED_UNKNOWN };

/* `date` is the controller's own (empty: none given): tokens older than that are revoked. */
void purge_after(struct serve *s, const struct written *w, enum ending ending, struct span date);

/* Does its 2xx mean something only together with the body of the answer
 * (payload_read_agent_status)? Then purge_after is called once that has come. */
bool purge_reads_answer(const struct written *w);

/* Must the call go on when its client leaves? Whether the write happened must be known. */
bool purge_matters(const struct written *w);

/* ---- the same, learnt from the controller's answer to an agent; under its lock ---- */

/* The agent's cached connect is worth nothing. `only_if_shared`: no need to tell other replicas
 * unless one of them has put it into Redis. */
void purge_forget(struct shared *shared, struct agent *agent, bool only_if_shared);
void purge_suspend(struct shared *shared, struct agent *agent, int64_t cutoff_s);
void purge_delete(struct shared *shared, struct agent *agent, int64_t cutoff_s);
/* Nobody knows whether the agent may go on: the controller answers its next heartbeat. */
void purge_doubt(struct shared *shared, struct agent *agent);
/* Let in again by who was asked at this `peers_seen`. */
void purge_readmit(struct shared *shared, struct agent *agent, int64_t peers_seen);

/* The second an answer was given, by its Date or else by our clock. */
int64_t purge_answered_s(struct span date);
