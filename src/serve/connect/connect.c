/* A connect walks like this:
 *
 *   read the body ---- not JSON as we know it ---------------> forwarded, never cached (bypass)
 *        |
 *   make the pass (proof and seal key) from id and secret
 *        |------------ refused a moment ago -----------------> the controller's no, repeated
 *        |
 *   under the agent's lock, rules/agents/plan says:
 *        |-- from cache: what this very secret opened --------> answered; perhaps a refresh later
 *        '-- ask: lead a flight to the controller, or follow the one in the air (flying.c);
 *                 of an agent unknown here it looks first what other replicas have learnt */
#include "serve/connect/connect.h"

#include "base/clock.h"
#include "base/metric.h"
#include "base/secret.h"
#include "rules/agents/refusals.h"
#include "serve/cache/shelf.h"
#include "serve/connect/facts.h"
#include "serve/connect/flying.h"
#include "serve/connect/refresh.h"
#include "serve/connect/replay.h"
#include "serve/forward/forward.h"
#include "serve/limits/limiting.h"
#include "serve/request/answer.h"

static bool wants_no_cache(const struct request *r) {
    struct span control = r->http->fields.known[HTTP_CACHE_CONTROL];
    return control.ptr && http_list_has(control, SPAN("no-cache"));
}

static enum replay_reason reason_of(const struct plan_facts *facts) {
    if (plan_age(facts) == GRANT_DEAD)
        return REPLAY_MISS;
    return facts->no_cache ? REPLAY_REQUEST : REPLAY_STALE;
}

/* Has another replica perhaps learnt what is not known here? */
static bool may_be_shared(const struct serve *s, const struct plan_facts *facts) {
    return plan_age(facts) == GRANT_DEAD && !facts->no_cache && shelf_may_look(s->shelf);
}

/* What is to be done once the agent is unlocked. */
struct boarding {
    struct grant *grant;         /* answer from it; referenced. Else: */
    struct passenger *passenger; /* let it depart. Else: */
    enum err error;              /* refuse */
    int retry_after_s;
};

/* May it be asked for? Else what is known answers, if it can. What an admin has written is asked
 * for however often: that is no excess of the agent's. */
static struct boarding limit(struct serve *s, struct agent *agent, struct request *r,
                             const struct grant_pass *pass, const struct plan_facts *facts) {
    struct boarding b = {.error = ERR_OK};
    if (facts->known && facts->written && !facts->no_cache) {
        limiting_exempt(s, r);
        return b;
    }
    b.error = limiting_ask(s, r, pass->proof, facts->known, &b.retry_after_s);
    if (b.error != ERR_OK && facts->known && facts->age != GRANT_DEAD)
        b.grant = grant_ref(agent->grant);
    return b;
}

/* Under the agent's lock. */
static struct boarding board(struct serve *s, struct agent *agent, struct request *r,
                             const struct grant_pass *pass) {
    struct plan_facts facts = facts_gather(s, agent, pass, wants_no_cache(r));
    if (facts.known)
        limiting_known(s, r, agent);
    /* To follow a flight that is in the air costs the controller nothing. */
    bool follows = flying_is_asked(s, agent, pass);
    bool may_ask = !plan_needs_place(&facts) || follows || refresh_take_place(s);
    struct plan plan = plan_connect(&facts, may_ask);
    if (plan.refresh)
        refresh_want(s->refresh, agent, pass, r->body);
    if (!plan.ask)
        return (struct boarding){.grant = grant_ref(agent->grant)};
    bool looks = may_be_shared(s, &facts);
    struct boarding b = {.error = ERR_OK};
    if (follows)
        limiting_exempt(s, r);
    else
        b = limit(s, agent, r, pass, &facts);
    if (b.error != ERR_OK && !looks)
        return b;
    struct flying_ticket ticket = {.pass = pass,
                                   .is_known = facts.known,
                                   .reason = reason_of(&facts),
                                   .patience_ms = plan.patience_ms,
                                   .looks = looks,
                                   .denied = b.error,
                                   .retry_after_s = b.retry_after_s};
    b.passenger = flying_board(s, agent, r, &ticket);
    if (!b.passenger && plan.patience_ms > 0) /* the flight is full */
        b.grant = grant_ref(agent->grant);
    b.error = ERR_OVERLOADED;
    return b;
}

static void answer_hit(struct serve *s, struct request *r, const struct grant *grant,
                       const struct grant_pass *pass) {
    struct caller caller;
    caller_keep(&caller, r);
    metric_add(METRIC_CONNECT_HIT, 1);
    if (!replay_answer(s, &caller, grant, pass, NULL))
        caller_refuse(s, &caller, ERR_UPSTREAM_CLOSED);
    caller_release(&caller);
}

static void connect_with_pass(struct serve *s, struct request *r, const struct grant_pass *pass) {
    struct agents *agents = s->shared->agents;
    struct agent *agent = agents_lock(agents, &r->agent, true);
    struct boarding b = board(s, agent, r, pass);
    agents_unlock(agents, agent);
    if (b.grant)
        answer_hit(s, r, b.grant, pass);
    else if (b.passenger)
        flying_depart(b.passenger, r);
    else
        request_refuse_until(s, r, b.error, b.retry_after_s);
    grant_unref(b.grant);
}

static void connect_with_secret(struct serve *s, struct request *r, struct span secret) {
    struct grant_pass pass;
    struct refusal refusal;
    const struct grant_keys *keys = s->shared->grant_keys;
    grant_pass_make(&keys->current, &r->agent, secret, &pass);
    if (keys->has_previous)
        grant_pass_add_previous(&keys->previous, secret, &pass);
    if (refusals_find(s->shared->refusals, &r->agent, pass.proof, clock_mono_ms(), &refusal)) {
        metric_add(METRIC_CONNECT_REFUSED, 1);
        request_refuse_verdict(s, r, refusal.status, refusal.message);
    } else {
        connect_with_pass(s, r, &pass);
    }
    grant_pass_cleanse(&pass);
}

/* A connect that is refused here, with a 4xx, counts as a failure. False: its address has too many,
 * and was told so. */
static bool count_failure(struct serve *s, struct request *r) {
    int retry_after_s = 0;
    enum err error = limiting_malformed(s, r, &retry_after_s);
    if (error != ERR_OK)
        request_refuse_until(s, r, error, retry_after_s);
    return error == ERR_OK;
}

/* A body that we do not read: its secret is nobody's we know, and limited like one. */
static void connect_unread(struct serve *s, struct request *r) {
    int retry_after_s = 0;
    enum err error = r->has_agent ? limiting_ask(s, r, NULL, false, &retry_after_s)
                                  : limiting_malformed(s, r, &retry_after_s);
    metric_add(METRIC_CONNECT_BYPASS, 1);
    if (error == ERR_OK)
        forward_journey(s, r);
    else
        request_refuse_until(s, r, error, retry_after_s);
}

void connect_journey(struct serve *s, struct request *r) {
    const struct http_fields *fields = &r->http->fields;
    char secret[PAYLOAD_SECRET_MAX];
    size_t secret_len = 0;
    struct payload_verdict verdict;
    payload_read_connect(fields->known[HTTP_CONTENT_TYPE], fields->known[HTTP_CONTENT_ENCODING],
                         r->body, &verdict, secret, &secret_len);
    if (verdict.kind == PAYLOAD_FOREIGN) {
        connect_unread(s, r);
    } else if (verdict.kind != PAYLOAD_FINE) {
        if (count_failure(s, r))
            request_refuse_payload(s, r, &verdict);
    } else if (!r->has_agent) {
        if (count_failure(s, r))
            request_refuse(s, r, ERR_BAD_AGENT_ID);
    } else {
        connect_with_secret(s, r, (struct span){secret, secret_len});
    }
    secret_cleanse(secret, secret_len);
}
