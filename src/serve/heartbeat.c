/* A heartbeat walks like this, in the controller's order of checks:
 *
 *   its JSON (400) -> its token (401) -> its fields (400) -> its id (400) -> whose it is (403)
 *      |
 *      |-- not plain JSON, large, or a token about to expire -----> forwarded, the agent waits
 *      v
 *   under the agent's lock: the controller's last "no" is repeated (401, 403, 404)
 *                           too many a second (429)
 *                           held, in place of an older one
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
#include "serve/forward.h"
#include "serve/request.h"

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

static void refuse_rate(struct serve *s, struct request *r) {
    request_refuse(s, r, ERR_RATE_LIMITED);
}

/* The controller's last word on this agent, if it still holds for this token. */
static bool verdict_holds(struct serve *s, struct agent *agent, const struct request *r,
                          struct verdict *out) {
    struct verdict *v = agent->verdict;
    if (!v)
        return false;
    if (clock_mono_ms() >= v->until_ms) {
        free(v);
        agent->verdict = NULL;
        return false;
    }
    if (v->token != 0 && v->token != agents_token_hash(s->shared->agents, r->token))
        return false;
    *out = *v;
    return true;
}

enum taking { TAKEN, TAKEN_WAITS, TAKE_REFUSED, TAKE_TOO_MANY };

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
    if (may_send && due && flush_prepare(s->flush, agent, NULL))
        return false;
    if (may_send)
        flush_schedule(s, agent);
    return false;
}

static enum taking take(struct serve *s, struct agent *agent, const struct request *r,
                        enum beat_status status, struct verdict *verdict) {
    struct beat_policy policy = flush_policy(s->shared->config);
    int64_t now = clock_mono_ms();
    if (verdict_holds(s, agent, r, verdict))
        return TAKE_REFUSED;
    if (!beat_allowed(&agent->beat, &policy, now))
        return TAKE_TOO_MANY;
    enum beat_place place = beat_receive(&agent->beat, &policy, status, now);
    bytes_set(&agent->body, r->body);
    bytes_set(&agent->token, r->token);
    metric_add(METRIC_BEATS_RECEIVED, 1);
    metric_add(place == BEAT_REPLACED ? METRIC_BEATS_SUPERSEDED : METRIC_BEATS_HELD, 1);
    return pass_on(s, agent, r, place, &policy) ? TAKEN_WAITS : TAKEN;
}

static void hold(struct serve *s, struct request *r, enum beat_status status) {
    struct agents *agents = s->shared->agents;
    struct verdict verdict;
    struct agent *agent = agents_lock(agents, &r->agent, true);
    enum taking taking = take(s, agent, r, status, &verdict);
    agents_unlock(agents, agent);
    flush_launch(s->flush);
    switch (taking) {
    case TAKEN:
        request_answer_success(s, r);
        break;
    case TAKEN_WAITS:
        break;
    case TAKE_REFUSED:
        request_refuse_verdict(s, r, verdict.status, verdict.message);
        break;
    case TAKE_TOO_MANY:
        refuse_rate(s, r);
        break;
    }
}

static bool must_ask_controller(const struct request *r, const struct payload_verdict *v) {
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
    if (error != ERR_OK)
        request_refuse(s, r, error);
    else if (must_ask_controller(r, &verdict))
        forward_authorized(s, r);
    else
        hold(s, r, status);
}
