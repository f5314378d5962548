/* The one table all workers share: what the gateway knows of each agent.
 *
 * Sharded by a keyed hash of the id; a shard's lock covers its agents. Locks are held for a look
 * and a change, never over a call or a write, and never two at a time. */
#pragma once

#include "base/list.h"
#include "rules/agents/agent_id.h"
#include "rules/agents/beat.h"
#include "rules/agents/flight.h"
#include "rules/agents/tags.h"
#include "rules/trust/grant.h"

#include <stdint.h>

/* Bytes that are overwritten in place, time and again: a beat costs no allocation. */
struct bytes {
    char *ptr;
    uint32_t len, cap;
};

void bytes_set(struct bytes *b, struct span value);

/* The controller's own "no" to a heartbeat, repeated to the agent's next ones. */
struct verdict {
    int status;        /* 401, 403, 404 */
    uint64_t token;    /* 401 binds to this token (its hash); else 0 */
    int64_t until_ms;  /* monotonic */
    char message[256]; /* terminated */
};

/* Why tokens given out until some second are refused. */
enum revoked { REVOKED_NOT, REVOKED_DELETED, REVOKED_SUSPENDED, REVOKED_REGENERATED };

/* A token may be issued by another process of the controller than the one that answered the write,
 * with a clock that is ahead by so much. */
enum { AGENTS_CLOCKS_APART_S = 5 };

/* Tokens with iat up to a second of the controller's clock. Of deleted and suspended agents also
 * those of AGENTS_CLOCKS_APART_S later; not after a regenerate: the new credentials' token must
 * work at once. */
struct revocation {
    enum revoked why;      /* deleted or suspended: lifted when the agent is let in again */
    int64_t cutoff_s;      /* of that */
    int64_t regenerated_s; /* 0: not; never lifted */
    int64_t until_ms;      /* monotonic; by then all of them have expired */
};

struct agent {
    struct agent_id id;
    uint64_t hash;       /* of the id: agents_hash */
    struct agent *next;  /* the table's */
    struct list recent;  /* the shard's: last used first */
    struct list granted; /* the same, of those with a grant */
    /* connect */
    struct grant *grant; /* NULL: none known */
    uint64_t purged;     /* the purge sequence when it was last forgotten */
    struct list flights;
    struct tag_set tags; /* of the grant: what it depends on */
    uint64_t learnt;     /* the purge sequence when the grant was asked for */
    uint64_t trusted;    /* the JWT secrets that its token was judged by (struct serve); 0: none */
    bool outdated; /* something it depends on was written before it came here (serve/cache/shelf) */
    bool owed;     /* the controller heard a disconnect, and no connect since */
    bool refreshing; /* a refresh waits (serve/connect/refresh.c) */
    struct revocation revoked;
    uint64_t counted; /* at which address, and in which period (serve/limits/limiting); 0: never */
    /* heartbeats */
    struct beat_state beat;
    struct bytes body, token; /* of the newest beat */
    struct verdict *verdict;
    bool untold;         /* what the controller said was not told to Redis yet */
    bool lift_untold;    /* likewise, that a verdict was lifted */
    uint64_t lease;      /* that we have, or may have, in Redis; 0: none, or its sender knows it */
    bool lease_open;     /* it is of a claimed beat that failed, and Redis was not told */
    struct list waiters; /* ordered calls that wait (serve/beats/turn.c) */
    bool must_ask; /* a PUT was taken and its answer did not say whether the agent is suspended: the
                      controller answers its next heartbeat */
    bool beat_is_next;    /* one of them has gone since the held beat last had its chance */
    int64_t scheduled_ms; /* the owner's earliest appointment for it; -1: none */
};

struct agents;

enum { AGENTS_SHARDS = 64 };

/* `memory` bounds the grants (bytes), `max_agents` the entries. `key` seeds the hash. */
struct agents *agents_new(size_t memory, size_t max_agents, const uint8_t key[16]);
void agents_free(struct agents *table);

/* The agent, with its shard locked, or NULL with nothing locked (not there and not `create`). */
struct agent *agents_lock(struct agents *table, const struct agent_id *id, bool create);
/* Unlocks. An entry that knows nothing any more is dropped; so is what exceeds the bounds. */
void agents_unlock(struct agents *table, struct agent *agent);

/* Which of `workers` looks after this agent's held beats. */
size_t agents_owner(const struct agents *table, const struct agent_id *id, size_t workers);
/* The agent's hash: its phase. */
uint64_t agents_hash(const struct agents *table, const struct agent_id *id);
/* A keyed hash of a token that was verified, never 0: of its signature, which stands for all of it.
 */
uint64_t agents_token_hash(const struct agents *table, struct span token);

/* Replaces the agent's grant (takes the reference; NULL forgets). Under its lock. */
void agents_set_grant(struct agents *table, struct agent *agent, struct grant *grant);

/* Purges: one rising sequence. A fill that began before its agent's last purge is not stored. */
uint64_t agents_purges(const struct agents *table);
/* A write on something else than an agent: the next number. */
uint64_t agents_count_purge(struct agents *table);
/* Forgets the agent's grant. Under its lock. */
void agents_purge(struct agents *table, struct agent *agent);

/* Forgets the grants of all. No lock may be held. */
void agents_purge_all(struct agents *table);

/* Refuses the agent's tokens with iat <= cutoff_s, for as long as one can live. Under its lock. */
void agents_revoke(struct agents *table, struct agent *agent, enum revoked why, int64_t cutoff_s,
                   int64_t now_ms);
/* The agent is there, and active: lifts all but what a regenerate revoked. Under its lock. */
void agents_readmit(struct agents *table, struct agent *agent);
/* Is any agent revoked? Cheap: asked for each request. */
bool agents_any_revoked(const struct agents *table);
/* Why a token of this agent given out at `issued_s` is refused. Forgets a revocation that is over.
 * Under its lock. */
enum revoked agents_revoked(struct agents *table, struct agent *agent, int64_t issued_s,
                            int64_t now_ms);

/* Calls `visit` for each agent that `worker` of `workers` looks after, under its lock. With
 * AGENTS_SHARDS "workers" that is one shard. */
void agents_each_owned(struct agents *table, size_t worker, size_t workers,
                       void (*visit)(void *arg, struct agent *agent), void *arg);
