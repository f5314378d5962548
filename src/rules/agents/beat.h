/* When is a heartbeat forwarded? Pure: states in, times out.
 *
 * Every valid beat is acknowledged; the newest is held, and goes to the controller
 *   at once       when it is the agent's first, its status changed, or the previous is older than
 *                 `expiry` (but never within `min_gap` of the last forward);
 *   in its phase  otherwise: at the agent's own point in the `interval` cycle, at least half an
 *                 interval after the last forward, and never later than `max_hold` after receipt;
 *                 a newer beat that replaces it does not move that point.
 * A beat older than `expiry` is not forwarded: the controller stamps its own clock, and a late
 * beat would forge a sign of life. */
#pragma once

#include "rules/wire/payload.h"

#include <stdint.h>

struct beat_policy {
    int64_t interval_ms; /* heartbeat.forward_interval */
    int64_t max_hold_ms;
    int64_t expiry_ms;
    int64_t min_gap_ms;
    int64_t max_rate; /* beats per second and agent; the burst is as large */
};

struct config;
/* The policy that is configured: heartbeat.*. */
struct beat_policy beat_policy_of(const struct config *config);

/* Times are monotonic milliseconds; -1: never. */
struct beat_state {
    uint64_t sequence;      /* of the newest beat received; rises, see beat_stamp */
    uint64_t settled;       /* up to this one all is settled: delivered, or of no use any more */
    uint64_t held_sequence; /* of the held beat; meaningful while held */
    bool held;
    bool sending;            /* a sender has one under way */
    bool blocked;            /* a call that keeps its place is under way: nobody may send */
    bool status_known;       /* the controller has taken `forwarded_status`, and nothing since */
    bool after_silence;      /* a beat that broke a silence was not forwarded yet */
    enum beat_status status; /* of the held beat */
    enum beat_status forwarded_status;
    int64_t received_ms;       /* when the held beat came */
    int64_t waiting_since_ms;  /* when the first of those came that it has replaced */
    int64_t last_received_ms;  /* when the newest beat came */
    int64_t last_forward_ms;   /* when one was last sent, and did not fail */
    int64_t former_forward_ms; /* the same before the one under way */
    int64_t retry_ms;          /* not before; after a failure */
    int32_t failures;          /* in a row */
    int64_t arrival_us;        /* of the rate limit (rules/gate/limit.h) */
};

void beat_init(struct beat_state *s);

/* False: above the rate; nothing was changed. */
bool beat_allowed(struct beat_state *s, const struct beat_policy *policy, int64_t now_ms);

/* The next sequence will be no less than `now_us`: so those of different processes compare. */
void beat_stamp(struct beat_state *s, int64_t now_us);

enum beat_place {
    BEAT_FIRST,    /* the controller knows nothing of this agent: whoever holds it asks at once */
    BEAT_HELD,     /* held; nothing was replaced */
    BEAT_REPLACED, /* held; an older one was superseded */
    BEAT_OLDER,    /* not held: a newer one is, or was settled */
};

/* A beat was received: its sequence. */
uint64_t beat_pass(struct beat_state *s, const struct beat_policy *policy, int64_t now_ms);

/* A beat that was received is held. */
enum beat_place beat_hold(struct beat_state *s, uint64_t sequence, enum beat_status status,
                          int64_t received_ms);

/* Would a beat with this status be passed on out of turn? */
bool beat_is_news(const struct beat_state *s, enum beat_status status);

/* When the held beat is due (may lie in the past). Only while held. `phase` is the agent's hash. */
int64_t beat_due_ms(const struct beat_state *s, const struct beat_policy *policy, uint64_t phase);

/* Is the held beat too old to be forwarded? */
bool beat_is_expired(const struct beat_state *s, const struct beat_policy *policy, int64_t now_ms);

/* The held beat is held no more, and nobody sends it. */
void beat_drop(struct beat_state *s);

/* There is no way for the held beat just now: look again then. */
void beat_put_off(struct beat_state *s, int64_t until_ms);

/* The process ends: no backoff any more. */
void beat_hurry(struct beat_state *s);

/* The held beat goes out. */
void beat_sent(struct beat_state *s, int64_t now_ms);

/* What became of a call. */
enum beat_answer {
    BEAT_TAKEN,   /* the controller has it */
    BEAT_REFUSED, /* the controller's own no: it was heard, but the controller knows no status */
    BEAT_FAILED,
};

enum beat_fate {
    BEAT_DELIVERED,  /* the controller answered */
    BEAT_SUPERSEDED, /* it failed, and a newer one is held already */
    BEAT_KEPT,       /* it failed and is held again */
};

/* The call for beat `sequence` ended. `random` spreads the retries. */
enum beat_fate beat_answered(struct beat_state *s, uint64_t sequence, enum beat_status status,
                             enum beat_answer answer, int64_t now_ms, uint32_t random);

/* ---- calls that keep their place among the beats (serve/beats/turn.c) ---- */

/* The controller took a beat that is not held but forwarded while its agent waits. Its status may
 * be unknown to us: then the next beat counts as first. Returns whether the held beat was older,
 * and is dropped. */
bool beat_passed(struct beat_state *s, uint64_t sequence, bool status_known,
                 enum beat_status status, int64_t now_ms);

/* Another process has settled what there was up to `sequence`. Nothing happens when we know better.
 */
void beat_learn(struct beat_state *s, uint64_t sequence, bool status_known, enum beat_status status,
                int64_t sent_ms);

/* A disconnect was answered by the controller: beats up to `sequence` are superseded, the next
 * counts as first. Returns whether the held beat was among them. */
bool beat_disconnected(struct beat_state *s, uint64_t sequence);
