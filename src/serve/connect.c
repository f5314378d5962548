/* A connect walks like this:
 *
 *   read the body ---- not JSON as we know it ---------------> forwarded, never cached (bypass)
 *        |
 *   make the pass (proof and seal key) from id and secret
 *        |
 *   under the agent's lock:  a fresh grant of the same proof -> answered from cache (hit)
 *        |                   somebody asks the same already --> follow that flight (collapsed)
 *        v
 *   lead a flight: ask the controller
 *        |-- 2xx: store it, unless the agent was forgotten since the flight began
 *        |-- 401, 403, 404 of the controller's own: forget what this secret opened
 *        '-- no answer, 5xx, 429: answer from an older grant if there is one (stale)
 *   then everybody aboard is answered: the leader here, followers on their own workers. */
#include "serve/connect.h"

#include "base/clock.h"
#include "base/metric.h"
#include "base/panic.h"
#include "serve/fetch.h"
#include "serve/forward.h"
#include "serve/request.h"

#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { FOLLOW_MAX_MS = 8000 /* the documented client gives up at 10 s */ };

/* How a flight ended, the same for all aboard; shared by reference count. */
struct outcome {
    _Atomic int references;
    enum err error;      /* not ERR_OK: no answer, and no older grant */
    struct grant *grant; /* answer from this older grant; else: */
    int status;
    char *content_type; /* terminated */
    char *body;
    size_t body_len;
};

/* One connect that waits: a flight's leader, or a follower. */
struct connecting {
    struct letter landed; /* to a follower's worker */
    struct list seat;     /* in the flight, for followers */
    struct serve *serve;
    struct caller caller;
    struct grant_pass pass;
    bool aboard;           /* follower: still in the flight (under the agent's lock) */
    struct timer patience; /* followers */
    struct fetch *fetch;   /* leader */
    struct grant *older;   /* leader: what to answer from when the controller fails */
    struct outcome *outcome;
};

/* ---- answering ---- */

static void add_cache_fields(struct str *fields, const char *cache_status) {
    str_addf(fields, "Cache-Control: no-store\r\nCache-Status: aiwm-gateway; %s\r\n", cache_status);
}

/* Opens the grant and answers with what is left of its life. False: it would not open. */
static bool answer_from_grant(struct serve *s, struct caller *c, const struct grant *g,
                              const struct grant_pass *pass, const char *how) {
    enum { DIGITS = 20 };
    int64_t now_ms = clock_wall_ms();
    char *opened = must_alloc(2 * g->body_len + DIGITS);
    char *spliced = opened + g->body_len;
    bool fine = grant_open(g, pass, opened);
    if (fine) {
        size_t len = grant_splice_expiry(g, opened, now_ms / 1000, spliced);
        char status[64], memory[192];
        int64_t dead_s = s->shared->config->connect_cache.dead_before_expiry_ms / 1000;
        int64_t age_s = now_ms > g->fetched_ms ? (now_ms - g->fetched_ms) / 1000 : 0;
        struct str fields, text;
        str_init_fixed(&text, status, sizeof status);
        str_addf(&text, "%s; ttl=%lld", how, (long long)(g->expires_s - now_ms / 1000 - dead_s));
        str_add_char(&text, '\0');
        str_init_fixed(&fields, memory, sizeof memory);
        str_addf(&fields, "Age: %lld\r\n", (long long)age_s);
        add_cache_fields(&fields, status);
        caller_answer(s, c, g->status, span_of(g->content_type), str_span(&fields),
                      (struct span){spliced, len});
        metric_add(METRIC_BCRYPTS_AVOIDED, 1);
    }
    OPENSSL_cleanse(opened, 2 * g->body_len + DIGITS);
    free(opened);
    return fine;
}

static void answer_outcome(struct connecting *c, const char *cache_status) {
    struct serve *s = c->serve;
    const struct outcome *o = c->outcome;
    if (!c->caller.x)
        return;
    if (o->grant && answer_from_grant(s, &c->caller, o->grant, &c->pass, "hit; fwd=stale")) {
        metric_add(METRIC_CONNECT_STALE, 1);
        return;
    }
    if (o->error != ERR_OK || o->grant) {
        caller_refuse(s, &c->caller, o->grant ? ERR_UPSTREAM_CLOSED : o->error);
        return;
    }
    char memory[128];
    struct str fields;
    str_init_fixed(&fields, memory, sizeof memory);
    add_cache_fields(&fields, cache_status);
    caller_answer(s, &c->caller, o->status, span_of(o->content_type), str_span(&fields),
                  (struct span){o->body, o->body_len});
}

static void outcome_unref(struct outcome *o) {
    if (!o || atomic_fetch_sub(&o->references, 1) > 1)
        return;
    grant_unref(o->grant);
    free(o->content_type);
    if (o->body)
        OPENSSL_cleanse(o->body, o->body_len);
    free(o->body);
    free(o);
}

static void connecting_free(struct connecting *c) {
    timer_stop(&c->patience);
    grant_pass_cleanse(&c->pass);
    grant_unref(c->older);
    outcome_unref(c->outcome);
    caller_release(&c->caller);
    free(c);
}

/* ---- followers ---- */

static void on_landed(struct letter *letter, void *receiver) {
    (void)receiver;
    struct connecting *c = container_of(letter, struct connecting, landed);
    answer_outcome(c, "fwd=miss; collapsed");
    connecting_free(c);
}

/* Leaves the flight if it is still in the air; else its letter is on the way and will find nobody.
 */
static void leave_flight(struct connecting *c) {
    struct agents *agents = c->serve->shared->agents;
    struct agent *agent = agents_lock(agents, &c->pass.id, false);
    bool was_aboard = agent && c->aboard;
    if (was_aboard) {
        struct flight *flight = flight_find(&agent->flights, c->pass.proof);
        invariant(flight);
        flight_leave(flight, &c->seat);
    }
    if (agent)
        agents_unlock(agents, agent);
    c->caller.x = NULL;
    if (was_aboard)
        connecting_free(c);
}

static void on_follower_gone(void *arg) {
    leave_flight(arg);
}

static void on_patience_over(void *arg) {
    struct connecting *c = arg;
    if (!c->caller.x)
        return;
    caller_refuse(c->serve, &c->caller, ERR_UPSTREAM_TIMEOUT);
    leave_flight(c);
}

static const struct exchange_watcher follower_watcher = {on_follower_gone, NULL, NULL};

/* ---- the flight's end ---- */

static bool controller_failed(const struct fetched *f) {
    return f->error != ERR_OK || f->status >= 500 || f->status == 429;
}

static struct outcome *make_outcome(struct connecting *leader, const struct fetched *f) {
    struct outcome *o = must_zalloc(sizeof *o);
    atomic_init(&o->references, 1);
    if (controller_failed(f) && leader->older) {
        o->grant = leader->older;
        leader->older = NULL;
        return o;
    }
    o->error = f->error;
    o->status = f->status;
    o->content_type = must_alloc(f->content_type.len + 1);
    if (f->content_type.len > 0)
        memcpy(o->content_type, f->content_type.ptr, f->content_type.len);
    o->content_type[f->content_type.len] = '\0';
    o->body = must_copy(f->body.ptr, f->body.len);
    o->body_len = f->body.len;
    return o;
}

/* A grant of this answer, or NULL where it is none to keep. */
static struct grant *make_grant(const struct connecting *leader, const struct fetched *f) {
    struct connect_answer answer;
    bool keepable = leader->serve->shared->config->connect_cache.enabled && f->error == ERR_OK &&
                    (f->status == 200 || f->status == 201) &&
                    payload_read_connect_answer(f->body, &answer);
    if (!keepable)
        return NULL;
    struct grant_facts facts = {.status = f->status,
                                .fetched_ms = clock_wall_ms(),
                                .expires_s = answer.expires_s,
                                .expires_in_at = answer.expires_in_at,
                                .expires_in_len = answer.expires_in_len,
                                .content_type = f->content_type};
    return grant_seal(&leader->pass, &facts, f->body);
}

/* The controller's no: what this secret opened must not open again. A stranger's wrong secret
 * leaves the agent's own grant alone; a deleted or suspended agent has none left. */
static bool evicts(const struct agent *agent, const struct connecting *leader,
                   const struct fetched *f) {
    char message[256];
    if (f->error != ERR_OK || !agent->grant || !payload_is_verdict(f->status, f->body, message))
        return false;
    bool whole_agent = f->status == 404 || strcmp(message, "Agent is suspended") == 0;
    return whole_agent || grant_proof_equal(agent->grant->proof, leader->pass.proof);
}

static void learn(struct agents *agents, struct agent *agent, const struct connecting *leader,
                  const struct fetched *f, uint64_t purges_seen, struct grant *grant) {
    bool still_true = agent->purged <= purges_seen;
    if (grant && still_true)
        agents_set_grant(agents, agent, grant_ref(grant));
    if (evicts(agent, leader, f))
        agents_set_grant(agents, agent, NULL);
    /* Answered by the controller itself: whatever it said to heartbeats before is over. */
    if (f->error == ERR_OK && f->status / 100 == 2) {
        free(agent->verdict);
        agent->verdict = NULL;
    }
}

/* Lands the flight: learns, and takes its followers. */
static void land(struct connecting *leader, const struct fetched *f, struct list *followers) {
    struct agents *agents = leader->serve->shared->agents;
    struct grant *grant = make_grant(leader, f);
    struct agent *agent = agents_lock(agents, &leader->pass.id, true);
    struct flight *flight = flight_find(&agent->flights, leader->pass.proof);
    invariant(flight);
    learn(agents, agent, leader, f, flight->purges_seen, grant);
    flight_land(flight, followers);
    list_each (at, followers)
        container_of(at, struct connecting, seat)->aboard = false;
    agents_unlock(agents, agent);
    grant_unref(grant);
}

static void on_fetched(void *arg, const struct fetched *f) {
    struct connecting *leader = arg;
    struct list followers;
    leader->fetch = NULL;
    land(leader, f, &followers);
    leader->outcome = make_outcome(leader, f);
    while (!list_empty(&followers)) {
        struct connecting *c = container_of(followers.next, struct connecting, seat);
        list_remove(&c->seat);
        atomic_fetch_add(&leader->outcome->references, 1);
        c->outcome = leader->outcome;
        struct serve *s = c->serve;
        mailbox_post(s->shared->mailbox[s->worker], &c->landed);
    }
    answer_outcome(leader, leader->outcome->status / 100 == 2 ? "fwd=miss; stored" : "fwd=miss");
    connecting_free(leader);
}

/* The leader's client left. A call that was not sent yet, and that nobody follows, is not sent; one
 * that was goes on: its work is spent, and its answer is worth keeping. */
static void on_leader_gone(void *arg) {
    struct connecting *leader = arg;
    leader->caller.x = NULL;
    if (fetch_was_sent(leader->fetch))
        return;
    struct agents *agents = leader->serve->shared->agents;
    struct agent *agent = agents_lock(agents, &leader->pass.id, true);
    struct flight *flight = flight_find(&agent->flights, leader->pass.proof);
    invariant(flight);
    bool alone = flight->follower_count == 0;
    struct list nobody;
    if (alone)
        flight_land(flight, &nobody);
    agents_unlock(agents, agent);
    if (!alone)
        return;
    fetch_cancel(leader->fetch);
    connecting_free(leader);
}

static const struct exchange_watcher leader_watcher = {on_leader_gone, NULL, NULL};

/* ---- boarding ---- */

static struct connecting *connecting_new(struct serve *s, const struct request *r,
                                         const struct grant_pass *pass) {
    struct connecting *c = must_zalloc(sizeof *c);
    c->serve = s;
    c->pass = *pass;
    c->landed.deliver = on_landed;
    list_init(&c->seat);
    timer_init(&c->patience, s->loop, on_patience_over, c);
    caller_keep(&c->caller, r);
    return c;
}

static void lead(struct serve *s, struct request *r, const struct grant_pass *pass,
                 struct grant *older) {
    struct connecting *c = connecting_new(s, r, pass);
    c->older = older;
    metric_add(METRIC_CONNECT_MISS, 1);
    exchange_watch(r->x, &leader_watcher, c);
    request_spell_upstream(s, r);
    struct call_request call = {.head = str_span(&s->head), .body = r->body, .repeatable = true};
    c->fetch = fetch_start(s, &call, GRANT_BODY_MAX, on_fetched, c);
}

static void follow(struct request *r, struct connecting *c) {
    metric_add(METRIC_CONNECT_COLLAPSED, 1);
    exchange_watch(r->x, &follower_watcher, c);
    timer_start(&c->patience, FOLLOW_MAX_MS);
}

static bool wants_no_cache(const struct request *r) {
    struct span control = r->http->fields.known[HTTP_CACHE_CONTROL];
    return control.ptr && http_list_has(control, SPAN("no-cache"));
}

enum boarding { BOARD_CACHE, BOARD_LEAD, BOARD_FOLLOW, BOARD_FULL };

/* Under the agent's lock. *grant: to answer from, or to fall back on (referenced). */
static enum boarding board(struct serve *s, struct agent *agent, struct request *r,
                           const struct grant_pass *pass, struct grant **grant,
                           struct connecting **follower) {
    const struct config *config = s->shared->config;
    struct grant_policy policy = {config->connect_cache.fresh_for_ms,
                                  config->connect_cache.stale_after_ms,
                                  config->connect_cache.dead_before_expiry_ms};
    if (agent->grant && grant_proof_equal(agent->grant->proof, pass->proof)) {
        enum grant_age age = grant_age(agent->grant, &policy, clock_wall_ms());
        if (age != GRANT_DEAD)
            *grant = grant_ref(agent->grant);
        if (age == GRANT_FRESH && !wants_no_cache(r))
            return BOARD_CACHE;
    }
    struct flight *flight = flight_find(&agent->flights, pass->proof);
    if (!flight) {
        flight_start(&agent->flights, pass->proof, agents_purges(s->shared->agents));
        return BOARD_LEAD;
    }
    struct connecting *c = connecting_new(s, r, pass);
    c->aboard = flight_join(flight, &c->seat);
    if (!c->aboard) {
        connecting_free(c);
        return BOARD_FULL;
    }
    *follower = c;
    return BOARD_FOLLOW;
}

static void answer_hit(struct serve *s, struct request *r, const struct grant *grant,
                       const struct grant_pass *pass) {
    struct caller caller;
    caller_keep(&caller, r);
    metric_add(METRIC_CONNECT_HIT, 1);
    if (!answer_from_grant(s, &caller, grant, pass, "hit"))
        caller_refuse(s, &caller, ERR_UPSTREAM_CLOSED);
    caller_release(&caller);
}

static void connect_with_secret(struct serve *s, struct request *r, struct span secret) {
    struct agents *agents = s->shared->agents;
    struct grant_pass pass;
    struct grant *grant = NULL;
    struct connecting *follower = NULL;
    grant_pass_make(&s->shared->grant_key, &r->agent, secret, &pass);
    struct agent *agent = agents_lock(agents, &r->agent, true);
    enum boarding how = board(s, agent, r, &pass, &grant, &follower);
    agents_unlock(agents, agent);
    switch (how) {
    case BOARD_CACHE:
        answer_hit(s, r, grant, &pass);
        break;
    case BOARD_LEAD:
        lead(s, r, &pass, grant);
        grant = NULL;
        break;
    case BOARD_FOLLOW:
        follow(r, follower);
        break;
    case BOARD_FULL:
        request_refuse(s, r, ERR_OVERLOADED);
        break;
    }
    grant_unref(grant);
    grant_pass_cleanse(&pass);
}

void connect_journey(struct serve *s, struct request *r) {
    const struct http_fields *fields = &r->http->fields;
    char secret[PAYLOAD_SECRET_MAX];
    size_t secret_len = 0;
    struct payload_verdict verdict;
    payload_read_connect(fields->known[HTTP_CONTENT_TYPE], fields->known[HTTP_CONTENT_ENCODING],
                         r->body, &verdict, secret, &secret_len);
    if (verdict.kind == PAYLOAD_FOREIGN) {
        metric_add(METRIC_CONNECT_BYPASS, 1);
        forward_journey(s, r);
    } else if (verdict.kind != PAYLOAD_FINE) {
        request_refuse_payload(s, r, &verdict);
    } else if (!r->has_agent) {
        request_refuse(s, r, ERR_BAD_AGENT_ID);
    } else {
        connect_with_secret(s, r, (struct span){secret, secret_len});
    }
    OPENSSL_cleanse(secret, secret_len);
}
