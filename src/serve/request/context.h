/* What all journeys work with: one worker's share of the gateway, and what all workers share. */
#pragma once

#include "io/loop.h"
#include "io/mailbox.h"
#include "io/redis.h"
#include "io/server.h"
#include "io/upstream.h"
#include "rules/agents/agents.h"
#include "rules/agents/refusals.h"
#include "rules/agents/tags.h"
#include "rules/config/config.h"
#include "rules/gate/flows.h"
#include "rules/trust/grant.h"
#include "rules/trust/token.h"
#include "serve/request/route.h"

/* Heartbeats in Redis, as all workers see them (serve/beats/durable.h). */
struct beats_shared {
    uint64_t replica;           /* this process, among all */
    _Atomic int here;           /* workers that reach Redis */
    _Atomic uint64_t arrivals;  /* how often all of them did again */
    _Atomic uint64_t claims;    /* leases given out */
    _Atomic uint64_t spilled;   /* beats held in memory though Redis was here: it was slow */
    _Atomic bool refused;       /* Redis is here, and refuses what beats need */
    _Atomic int64_t refused_ms; /* monotonic: when it did last */
    _Atomic bool greeted;       /* Redis told a worker that nobody need be waited for */
    _Atomic bool spoke;         /* something was settled, or held, without Redis */
    _Atomic int64_t held;       /* in Redis, as last heard */
};

/* What seals and opens cached connects. */
struct grant_keys {
    struct grant_key current;
    struct grant_key previous; /* before the last change */
    bool has_previous;
};

struct limiting;

/* Shared by all workers, immutable but for what locks itself, and for what a reload replaces: that
 * is used within one turn of the loop only, never kept. */
struct shared {
    const struct config *_Atomic config; /* the running generation's, as are these two: */
    const struct grant_keys *_Atomic grant_keys;
    const char *_Atomic upstream_authority; /* "host:port", terminated */
    struct agents *agents;
    struct flows *flows; /* the organizations of agents */
    struct tags *tags;
    struct refusals *refusals;
    struct limiting *limiting;
    _Atomic int
        limits_share; /* what we may give is a limit's so many'th part (serve/limits/sharing.h) */
    _Atomic int64_t refresh_arrival_us; /* of the refresh rate (serve/connect/refresh.c) */
    const struct redis_options *redis;  /* NULL: there is none */
    struct beats_shared beats;
    struct peers *peers; /* NULL: there is no Redis, and no others */
    struct server_limits limits;
    size_t worker_count;
    size_t controller_connections; /* of each worker, at most */
    struct mailbox **mailbox;      /* of each worker */
    struct admission *admission;   /* the gate to the controller (serve/gate/admission.h) */
    _Atomic int replicas;          /* of the gateway that share the controller, this one included */
    _Atomic int bulk_state;        /* enum bulk_state (serve/beats/bulk.h) */
    _Atomic bool draining;         /* TERM: what is held is due now */
    /* The access log's (serve/request/access.h): of failures and of the others, and what both left
     * out. */
    _Atomic int64_t access_arrival_us[2];
    _Atomic int64_t access_left_out;
};

struct admission;
struct desk;
struct peers;
struct refresh;
struct shelf;
struct durable;
struct telling;
struct settling;
struct bulk;
struct sending;
struct appointments;
struct storing_queue;
struct claims;
struct shedding;
struct access;

struct serve {
    struct shared *shared;
    size_t worker; /* this one's number */
    struct loop *loop;
    struct server *server;
    struct upstream *upstream;
    struct redis *redis; /* NULL: none is configured */
    struct token_verifier *verifier;
    uint64_t trust;    /* which secrets the verifier has: changes with them. Never 0 */
    struct desk *desk; /* at the gate to the controller */
    struct refresh *refresh;
    struct shelf *shelf;
    /* Beats (serve/beats/beats.h) */
    struct settling *settling;
    struct bulk *bulk;
    struct sending *sending;
    struct appointments *appointments;
    struct storing_queue *storing;
    /* NULL without Redis: */
    struct durable *durable;
    struct telling *telling;
    struct claims *claims;
    struct list turns; /* that wait for their agent there (serve/beats/turn.c) */
    struct shedding *shedding;
    struct access *access;
    int refusal_retry_after_s; /* from on_head to the on_refusal that follows it; 0: the usual */
    struct match match;        /* of the head that was judged last (serve.c) */
    struct str fields, body, head; /* builders for what is being answered or asked */
    int64_t reported_foreign_ms;   /* when a foreign token was last logged */
    bool closing;                  /* the loops have stopped: nothing new is begun */
};
