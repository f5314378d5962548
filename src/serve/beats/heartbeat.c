/* A heartbeat walks like this, in the controller's order of checks:
 *
 *   its JSON (400) -> its token (401) -> its fields (400) -> its id (400) -> whose it is (403)
 *      |
 *      v
 *   under the agent's lock: the controller's last "no" is repeated (401, 403, 404)
 *                           too many a second (429)
 *      |
 *      |-- not plain JSON, large, a token about to expire, or an -> in its turn (turn.c): the
 *      |   agent that may have been suspended or deleted            controller is asked, the agent
 *      v                                                            waits
 *   held, in place of an older one
 *      |
 *      |-- the agent's first: sent at once, and its verdict awaited for a second
 *      |-- due now: sent at once
 *      '-- else: an appointment (appointments.h)
 *   201. */
#include "serve/beats/heartbeat.h"

#include "base/clock.h"
#include "base/metric.h"
#include "rules/agents/verdict.h"
#include "serve/beats/durable.h"
#include "serve/beats/sending.h"
#include "serve/beats/storing.h"
#include "serve/beats/turn.h"
#include "serve/limits/limiting.h"
#include "serve/request/answer.h"

enum {
    BODY_HELD_MAX = 8192,  /* larger ones are not held in memory for a minute */
    TOKEN_LEFT_MIN_S = 90, /* one that expires sooner may not live until its beat is forwarded */
};

/* ---- taking a beat ---- */

struct beat {
    bool passes; /* not held: forwarded, its agent waits */
    struct turn_kind kind;
};

/* What became of it under the agent's lock, and so what is to be done once that is released. */
struct reception {
    enum {
        STORES,  /* it goes to Redis */
        HELD,    /* in memory */
        WAITS,   /* likewise, and a first one: its agent waits for the verdict */
        PASSES,  /* in its turn */
        CROWDED, /* too many turns are waiting */
        REFUSED, /* the controller's no is repeated */
        TOO_MANY,
    } as;
    struct turn *turn;
    struct verdict verdict;
    struct arrival arrival;     /* what is stored */
    struct storing_facts facts; /* likewise */
};

static void note_organization(struct serve *s, const struct agent *agent, const struct request *r) {
    struct shared *shared = s->shared;
    if (r->claims.org[0] == '\0')
        return;
    flows_note(shared->flows, agent->hash,
               flows_of(agents_token_hash(shared->agents, span_of(r->claims.org))));
}

static struct arrival arrive(struct serve *s, struct agent *agent, const struct request *r,
                             const struct beat *beat) {
    struct beat_policy policy = beat_policy_of(s->shared->config);
    int64_t now = clock_mono_ms();
    durable_stamp(s, agent);
    if (!agent->beat.status_known) /* the first that we see: its connect may have been elsewhere */
        note_organization(s, agent, r);
    return (struct arrival){.sequence = beat_pass(&agent->beat, &policy, now),
                            .status = beat->kind.status,
                            .body = r->body,
                            .token = r->token,
                            .received_ms = now};
}

static void hold(struct serve *s, struct agent *agent, const struct request *r,
                 const struct arrival *a, struct reception *out) {
    struct caller caller = {0};
    if (!agent->beat.status_known) /* else it is no first one, and nobody waits */
        caller_keep(&caller, r);
    out->as = holding_take(s, agent, a, &caller) ? WAITS : HELD;
    caller_release(&caller);
}

static void take(struct serve *s, struct agent *agent, const struct request *r,
                 const struct beat *beat, struct reception *out) {
    struct beat_policy policy = beat_policy_of(s->shared->config);
    int64_t now_ms = clock_mono_ms();
    const struct verdict *v = verdict_for(s->shared->agents, agent, r->token, now_ms);
    bool passes = beat->passes || agent->must_ask;
    bool shared = passes ? durable_is_here(s) : durable_is_prompt(s);
    if (v && !shared) { /* else Redis, or the controller itself, knows whether it still holds */
        out->as = REFUSED;
        out->verdict = *v;
    } else if (!beat_allowed(&agent->beat, &policy, now_ms)) {
        out->as = TOO_MANY;
    } else if (passes) {
        out->turn = turn_take(s, r, agent, &beat->kind);
        out->as = out->turn ? PASSES : CROWDED;
    } else {
        out->arrival = arrive(s, agent, r, beat);
        out->facts =
            (struct storing_facts){.settled = agent->beat.settled,
                                   .had_verdict = v != NULL,
                                   .urgent = beat_is_news(&agent->beat, beat->kind.status)};
        out->as = STORES;
        if (!shared)
            hold(s, agent, r, &out->arrival, out);
    }
}

static void answer_held(struct serve *s, struct request *r) {
    metric_add(METRIC_BEATS_ACK_MEMORY, s->redis != NULL);
    request_answer_success(s, r, s->redis != NULL);
}

/* Redis takes no more questions. */
static void hold_after_all(struct serve *s, struct request *r, struct reception *taken) {
    struct agents *agents = s->shared->agents;
    struct agent *agent = agents_lock(agents, &r->agent, true);
    hold(s, agent, r, &taken->arrival, taken);
    agents_unlock(agents, agent);
    sending_launch(s->sending);
    if (taken->as == HELD)
        answer_held(s, r);
}

static void carry_on(struct serve *s, struct request *r, struct reception *taken) {
    sending_launch(s->sending);
    switch (taken->as) {
    case STORES:
        if (!storing_start(s, r, &taken->arrival, &taken->facts))
            hold_after_all(s, r, taken);
        break;
    case HELD:
        answer_held(s, r);
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
    if (request_is_own(r))
        limiting_known(s, r, agent);
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
        request_count_refused_token(r->fault);
        request_refuse(s, r, token_fault_err(r->fault));
        return;
    }
    if (verdict.kind == PAYLOAD_INVALID) {
        request_refuse_payload(s, r, &verdict);
        return;
    }
    int retry_after_s = 0;
    bool passes = must_pass(r, &verdict);
    enum err error = r->has_agent ? request_authorize(s, r) : ERR_BAD_AGENT_ID;
    if (error == ERR_OK && passes)
        error = limiting_control(s, r, &retry_after_s);
    if (error != ERR_OK) {
        request_refuse_until(s, r, error, retry_after_s);
        return;
    }
    receive(s, r,
            &(struct beat){.passes = passes,
                           .kind = {.is_beat = true,
                                    .status_known = verdict.kind == PAYLOAD_FINE,
                                    .status = status}});
}
