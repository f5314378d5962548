/* A heartbeat walks like this, in the controller's order of checks:
 *
 *   its JSON (400) -> its token (401) -> its fields (400) -> its id (400) -> whose it is (403)
 *      |
 *      v
 *   under the agent's lock: the controller's last "no" is repeated (401, 403, 404)
 *                           too many a second (429)
 *      |
 *      |-- not plain JSON, large, or a token about to expire -----> in its turn (turn.c): the
 *      |                                                            controller is asked, the agent
 *      v                                                            waits
 *   held, in place of an older one
 *      |
 *      |-- the agent's first: sent at once, and its verdict awaited for a second
 *      |-- due now: sent at once
 *      '-- else: an appointment with flush
 *   201. */
#include "serve/heartbeat.h"

#include "base/clock.h"
#include "base/metric.h"
#include "base/panic.h"
#include "serve/flush.h"
#include "serve/request.h"
#include "serve/turn.h"
#include "serve/verdict.h"

#include <stdlib.h>

enum {
    BODY_HELD_MAX = 8192,  /* larger ones are not held in memory for a minute */
    TOKEN_LEFT_MIN_S = 90, /* one that expires sooner may not live until its beat is forwarded */
    FIRST_WAIT_MS = 1000,
};

/* ---- a first beat waits for the verdict ---- */

struct first_beat {
    struct flush_waiter waiter;
    struct serve *serve;
    struct caller caller;
    struct timer patience;
};

static void first_beat_free(struct first_beat *b) {
    timer_stop(&b->patience);
    caller_release(&b->caller);
    free(b);
}

static void on_verdict(struct flush_waiter *w, int verdict_status, const char *message) {
    struct first_beat *b = container_of(w, struct first_beat, waiter);
    if (verdict_status != 0)
        caller_refuse_verdict(b->serve, &b->caller, verdict_status, message);
    else
        caller_answer_success(b->serve, &b->caller);
    first_beat_free(b);
}

/* It is held: that is what was promised. */
static void on_patience_over(void *arg) {
    struct first_beat *b = arg;
    flush_forget(b->serve->flush, &b->waiter);
    caller_answer_success(b->serve, &b->caller);
    first_beat_free(b);
}

static void on_gone(void *arg) {
    struct first_beat *b = arg;
    flush_forget(b->serve->flush, &b->waiter);
    first_beat_free(b);
}

static const struct exchange_watcher watcher = {on_gone, NULL, NULL};

static struct first_beat *first_beat_new(struct serve *s, const struct request *r) {
    struct first_beat *b = must_zalloc(sizeof *b);
    b->waiter.done = on_verdict;
    b->serve = s;
    timer_init(&b->patience, s->loop, on_patience_over, b);
    caller_keep(&b->caller, r);
    return b;
}

/* ---- taking a beat ---- */

struct beat {
    bool passes; /* not held: forwarded, its agent waits */
    struct turn_kind kind;
};

/* Sends it, or sees that it will be sent. Returns whether a first beat's caller waits. */
static bool pass_on(struct serve *s, struct agent *agent, const struct request *r,
                    enum beat_place place, const struct beat_policy *policy) {
    bool may_send = !agent->beat.sending && !agent->beat.blocked;
    if (may_send && place == BEAT_FIRST) {
        struct first_beat *b = first_beat_new(s, r);
        if (flush_prepare(s->flush, agent, &b->waiter)) {
            exchange_watch(r->x, &watcher, b);
            timer_start(&b->patience, FIRST_WAIT_MS);
            return true;
        }
        first_beat_free(b);
    }
    uint64_t phase = agents_hash(s->shared->agents, &agent->id);
    bool due = beat_due_ms(&agent->beat, policy, phase) <= clock_mono_ms();
    if (may_send && due && flush_send(s->flush, agent))
        return false;
    if (may_send)
        flush_schedule(s, agent);
    return false;
}

/* What became of it under the agent's lock, and so what is to be done once that is released. */
struct reception {
    enum {
        HELD,
        WAITS,   /* held, and a first one: its agent waits for the verdict */
        PASSES,  /* in its turn */
        CROWDED, /* too many turns are waiting */
        REFUSED, /* the controller's no is repeated */
        TOO_MANY,
    } as;
    struct turn *turn;
    struct verdict verdict;
};

static void hold(struct serve *s, struct agent *agent, const struct request *r,
                 const struct beat *beat, struct reception *out) {
    struct beat_policy policy = flush_policy(s->shared->config);
    enum beat_place place = beat_receive(&agent->beat, &policy, beat->kind.status, clock_mono_ms());
    bytes_set(&agent->body, r->body);
    bytes_set(&agent->token, r->token);
    metric_add(METRIC_BEATS_RECEIVED, 1);
    metric_add(place == BEAT_REPLACED ? METRIC_BEATS_SUPERSEDED : METRIC_BEATS_HELD, 1);
    out->as = pass_on(s, agent, r, place, &policy) ? WAITS : HELD;
}

static void take(struct serve *s, struct agent *agent, const struct request *r,
                 const struct beat *beat, struct reception *out) {
    struct beat_policy policy = flush_policy(s->shared->config);
    const struct verdict *v = verdict_for(s, agent, r->token);
    if (v) {
        out->as = REFUSED;
        out->verdict = *v;
    } else if (!beat_allowed(&agent->beat, &policy, clock_mono_ms())) {
        out->as = TOO_MANY;
    } else if (beat->passes) {
        out->turn = turn_take(s, r, agent, &beat->kind);
        out->as = out->turn ? PASSES : CROWDED;
    } else {
        hold(s, agent, r, beat, out);
    }
}

static void carry_on(struct serve *s, struct request *r, const struct reception *taken) {
    flush_launch(s->flush);
    switch (taken->as) {
    case HELD:
        request_answer_success(s, r);
        break;
    case WAITS:
        break;
    case PASSES:
        turn_launch(taken->turn);
        break;
    case CROWDED:
        request_refuse(s, r, ERR_OVERLOADED);
        break;
    case REFUSED:
        request_refuse_verdict(s, r, taken->verdict.status, taken->verdict.message);
        break;
    case TOO_MANY:
        metric_add(METRIC_LIMITED_BEAT, 1);
        request_refuse(s, r, ERR_RATE_LIMITED);
        break;
    }
}

static void receive(struct serve *s, struct request *r, const struct beat *beat) {
    struct agents *agents = s->shared->agents;
    struct reception taken;
    struct agent *agent = agents_lock(agents, &r->agent, true);
    take(s, agent, r, beat, &taken);
    agents_unlock(agents, agent);
    carry_on(s, r, &taken);
}

/* ---- judging it ---- */

static bool must_pass(const struct request *r, const struct payload_verdict *v) {
    int64_t left_s = r->claims.expires_s - clock_wall_ms() / 1000;
    return v->kind == PAYLOAD_FOREIGN || r->body.len > BODY_HELD_MAX || left_s < TOKEN_LEFT_MIN_S;
}

void heartbeat_journey(struct serve *s, struct request *r) {
    const struct http_fields *fields = &r->http->fields;
    struct payload_verdict verdict;
    enum beat_status status = BEAT_ONLINE;
    payload_read_beat(fields->known[HTTP_CONTENT_TYPE], fields->known[HTTP_CONTENT_ENCODING],
                      r->body, &verdict, &status);
    if (verdict.kind == PAYLOAD_SYNTAX) {
        request_refuse_payload(s, r, &verdict);
        return;
    }
    request_authenticate(s, r);
    if (!r->verified) {
        metric_add(METRIC_TOKENS_REFUSED, 1);
        request_refuse(s, r, token_fault_err(r->fault));
        return;
    }
    if (verdict.kind == PAYLOAD_INVALID) {
        request_refuse_payload(s, r, &verdict);
        return;
    }
    enum err error = r->has_agent ? request_authorize(s, r) : ERR_BAD_AGENT_ID;
    if (error != ERR_OK) {
        request_refuse(s, r, error);
        return;
    }
    receive(s, r,
            &(struct beat){.passes = must_pass(r, &verdict),
                           .kind = {.is_beat = true,
                                    .status_known = verdict.kind == PAYLOAD_FINE,
                                    .status = status}});
}
