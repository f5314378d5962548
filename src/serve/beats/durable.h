/* Heartbeats that live in Redis: what a worker can ask of it, word for word (beat_scripts.h), and
 * how a beat is sealed there.
 *
 *   storing.c   a beat is received: stored, and acknowledged once Redis has answered
 *   claims.c    beats that are due are claimed by whoever has room, sent, and settled
 *   settling.c  what became of a claimed one is told
 *   telling.c   what the controller said of an agent is told; comeback.c: when Redis was away
 *   turn.c      disconnects and forwarded beats take the agent first
 *
 * Each beat has a stamp: microseconds of Redis' clock at its receipt, rising per agent; it is its
 * sequence in rules/agents/beat.h, too. Scripts compare stamps, so that an older beat never goes
 * after a newer one, on no replica.
 *
 * Token and body are sealed (rules/trust/seal.h) under a key of the day, derived from the key of
 * the connect cache; the agent's id and the stamp are authenticated with them. Replicas share their
 * beats when they share that key.
 *
 * The status stands in the record in the clear, too, but only Redis reads it there, to decide when
 * the beat is due. What is delivered, and noted as delivered, is the status in the sealed body. */
#pragma once

#include "serve/beats/delivery.h"

struct durable;

/* NULL without Redis. */
struct durable *durable_new(struct serve *s);
void durable_free(struct durable *d); /* NULL is fine */
/* A reload: the keys may be others. NULL is fine. */
void durable_adopt(struct durable *d);

/* Is Redis the place for beats now? When all workers of the process reach it: else what one worker
 * put there another would not find. And when it takes them. */
bool durable_is_here(const struct serve *s);
/* Likewise, and is it quick enough to be waited for? */
bool durable_is_prompt(const struct serve *s);
/* A reply did not come: was it a refusal? Where Redis takes no beats at all (a right that its user
 * lacks, MISCONF, NOREPLICAS, a wrong type), it is as if it were away, until claims.c finds that it
 * does again. A full Redis does take those that are due. */
void durable_note_no_reply(struct serve *s);
/* The agent's next sequence shall compare with those of other replicas. Under its lock. */
void durable_stamp(const struct serve *s, struct agent *agent);
/* Of a lease; never 0. */
uint64_t durable_new_claim(struct serve *s);
/* What is claimed by a question asked now has to set out before this (monotonic, ms). */
int64_t durable_go_by_ms(void);

/* ---- storing ---- */

struct durable_beat {
    const struct delivery *delivery; /* its claim: who has it, should it be claimed at once */
    struct span token, body;
    uint64_t known; /* the stamp up to which we know it all settled */
    bool heed;      /* a verdict that holds is the answer, and nothing is stored */
    bool may_claim; /* there is a sender free */
};

/* What Redis said. */
struct durable_stored {
    bool stored, replaced; /* an older one was superseded by it */
    bool older;            /* it is itself older than what is there, or was settled */
    bool same;             /* it has been settled already, by whoever had it */
    bool first;            /* the fleet does not know what the controller knows of the agent */
    bool claimed;          /* ours to send, at once */
    bool due;              /* due, and not claimed */
    int verdict_status;    /* 0: none */
    char message[256];     /* of the verdict; terminated */
    bool news;             /* the rest is filled in */
    uint64_t settled;      /* up to this stamp all is settled */
    bool status_known;
    enum beat_status status; /* the controller has this */
    int64_t sent_ms;         /* monotonic; -1: never */
};

/* False: not asked. See redis_run. */
bool durable_store(struct serve *s, const struct durable_beat *beat, redis_done *done, void *arg);
void durable_read_stored(struct serve *s, const struct redis_reply *reply,
                         struct durable_stored *out);

/* ---- claiming ---- */

struct durable_claims {
    int64_t next_ms; /* until the next one is due; may be negative; -1 also when there is none */
    bool any_next;
    int64_t expired, superseded, held;
    size_t count;
};

bool durable_claim(struct serve *s, size_t limit, uint64_t claim, redis_done *done, void *arg);
void durable_read_claims(struct serve *s, const struct redis_reply *reply,
                         struct durable_claims *out);
/* The claimed beat number `i`. False: it does not open; it is given back by durable_done. The spans
 * are valid until the next call. */
bool durable_read_claimed(struct serve *s, const struct redis_reply *reply, size_t i,
                          uint64_t claim, struct parcel *out);

/* ---- settling ---- */

/* A verdict to be shared; status 0: none. */
struct durable_verdict {
    int status;
    uint64_t token; /* what a 401 binds to */
    const char *message;
    int64_t left_ms; /* it holds for so long */
};

enum durable_done_result { DURABLE_NOT_OURS, DURABLE_NOTED, DURABLE_NEWER_WAITS };

bool durable_done(struct serve *s, const struct delivery *d, enum beat_answer answer,
                  const struct durable_verdict *verdict, redis_done *done, void *arg);

/* What the controller has heard of an agent. */
struct durable_heard {
    const struct delivery *delivery; /* its claim, if any, is given back */
    bool status_known;
    bool claim_open; /* the claim is of a beat that failed: what became of it counts when it is
                        known */
    int64_t sent_ms; /* monotonic; -1: a disconnect was the last, or nothing */
};

/* It heard of the agent, and not by way of a claimed beat, or nobody could say how that one ended.
 * The reply is the number of beats that were dropped. */
bool durable_tell(struct serve *s, const struct durable_heard *heard,
                  const struct durable_verdict *verdict, redis_done *done, void *arg);

/* The reply is 1: ours. DURABLE_TAKEN_LATE: Redis was asked too late to be believed, ask again.
 * `has_begun`: the call is on its way already, a beat that is due cannot go before it. */
enum { DURABLE_TAKEN_LATE = -1 };
bool durable_take(struct serve *s, const struct agent_id *id, uint64_t claim, bool has_begun,
                  redis_done *done, void *arg);
/* We arrive. The reply is how long we are to claim nothing (ms). */
bool durable_hello(struct serve *s, bool was_away, redis_done *done, void *arg);
/* The controller has let the agent in: its verdict is lifted for all replicas. */
bool durable_lift(struct serve *s, const struct agent_id *id, redis_done *done, void *arg);
