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
 *        '-- no answer, 5xx, 429: answer from the older grant if there is one (stale)
 *   then everybody aboard is answered: the leader here, followers on their own workers.
 *
 * While there is an older grant nobody waits long: after a moment (1 s; 3 s when it is stale) it
 * answers, and the flight goes on without them, for what it brings. */
#include "serve/connect.h"

#include "base/clock.h"
#include "base/metric.h"
#include "base/panic.h"
#include "serve/fetch.h"
#include "serve/forward.h"
#include "serve/request.h"
#include "serve/verdict.h"

#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    WAIT_WARM_MS = 1000,
    WAIT_STALE_MS = 3000,
    FOLLOW_MAX_MS = 8000, /* the documented client gives up at 10 s */
    ANSWER_MAX = 4 << 20, /* larger than what is kept: it is passed on all the same */
};

/* How a flight ended, the same for all aboard; shared by reference count. */
struct outcome {
    _Atomic int references;
    struct grant *grant; /* answer from this older grant; else: */
    enum err error;      /* not ERR_OK: no answer */
    bool stored;
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
    struct caller caller; /* caller.x NULL: answered already, or the client has left */
    struct grant_pass pass;
    struct flight *flight; /* leader: its own; follower: valid while aboard */
    bool aboard;           /* follower: still in the flight (under the agent's lock) */
    struct timer patience;
    int64_t more_patience_ms; /* follower: should the older grant be gone when the first is over */
    struct fetch *fetch;      /* leader */
    struct outcome *outcome;
};

/* ---- answering ---- */

static void add_cache_fields(struct str *fields, const char *cache_status) {
    str_addf(fields, "Cache-Control: no-store\r\nCache-Status: aiwm-gateway; %s\r\n", cache_status);
}

static struct grant_policy grant_policy(const struct serve *s) {
    const struct config *config = s->shared->config;
    return (struct grant_policy){config->connect_cache.fresh_for_ms,
                                 config->connect_cache.stale_after_ms,
                                 config->connect_cache.dead_before_expiry_ms};
}

/* Seconds for which it is fresh; negative: since when it is not (RFC 9211 section 2.5). */
static int64_t time_to_live_s(const struct grant *g, const struct grant_policy *policy,
                              int64_t now_ms) {
    int64_t stale_at_ms = g->fetched_ms + policy->fresh_for_ms;
    int64_t dead_at_ms = g->expires_s * 1000 - policy->dead_before_expiry_ms;
    return ((stale_at_ms < dead_at_ms ? stale_at_ms : dead_at_ms) - now_ms) / 1000;
}

static void add_age_fields(struct str *fields, const struct serve *s, const struct grant *g,
                           const char *how, int64_t now_ms) {
    struct grant_policy policy = grant_policy(s);
    char memory[64];
    struct str status;
    str_init_fixed(&status, memory, sizeof memory);
    str_addf(&status, "%s; ttl=%lld", how, (long long)time_to_live_s(g, &policy, now_ms));
    str_add_char(&status, '\0');
    int64_t age_s = now_ms > g->fetched_ms ? (now_ms - g->fetched_ms) / 1000 : 0;
    str_addf(fields, "Age: %lld\r\n", (long long)age_s);
    add_cache_fields(fields, memory);
}

/* Opens the grant and answers with what is left of its life. False: it would not open. */
static bool answer_from_grant(struct serve *s, struct caller *c, const struct grant *g,
                              const struct grant_pass *pass, const char *how) {
    enum { DIGITS = 20, FIELDS_MAX = 192 };
    int64_t now_ms = clock_wall_ms();
    char *opened = must_alloc(2 * g->body_len + DIGITS);
    char *spliced = opened + g->body_len;
    bool fine = grant_open(g, pass, opened);
    if (fine) {
        size_t len = grant_splice_expiry(g, opened, now_ms / 1000, spliced);
        char memory[FIELDS_MAX];
        struct str fields;
        str_init_fixed(&fields, memory, sizeof memory);
        add_age_fields(&fields, s, g, how, now_ms);
        caller_answer(s, c, g->status, span_of(g->content_type), str_span(&fields),
                      (struct span){spliced, len});
        metric_add(METRIC_BCRYPTS_AVOIDED, 1);
    }
    OPENSSL_cleanse(opened, 2 * g->body_len + DIGITS);
    free(opened);
    return fine;
}

/* Answers from the older grant, if it is still there: the flight brings nothing, or not in time. */
static bool answer_stale(struct connecting *c, const struct grant *g) {
    return g && answer_from_grant(c->serve, &c->caller, g, &c->pass, "hit; fwd=stale");
}

static void answer_outcome(struct connecting *c, const char *cache_status) {
    struct serve *s = c->serve;
    const struct outcome *o = c->outcome;
    if (!c->caller.x || answer_stale(c, o->grant))
        return;
    if (o->error != ERR_OK) {
        caller_refuse(s, &c->caller, o->error);
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
    outcome_unref(c->outcome);
    caller_release(&c->caller);
    free(c);
}

/* ---- who does not wait for the end ---- */

/* The older grant that this secret opens, if it may still be used. Referenced. */
static struct grant *usable_grant(struct serve *s, const struct agent *agent,
                                  const struct grant_pass *pass) {
    struct grant_policy policy = grant_policy(s);
    struct grant *g = agent->grant;
    bool usable = g && grant_proof_equal(g->proof, pass->proof) &&
                  grant_age(g, &policy, clock_wall_ms()) != GRANT_DEAD;
    return usable ? grant_ref(g) : NULL;
}

static struct grant *find_usable_grant(const struct connecting *c) {
    struct agents *agents = c->serve->shared->agents;
    struct agent *agent = agents_lock(agents, &c->pass.id, false);
    if (!agent)
        return NULL;
    struct grant *g = usable_grant(c->serve, agent, &c->pass);
    agents_unlock(agents, agent);
    return g;
}

static bool answer_meanwhile(struct connecting *c) {
    struct grant *g = find_usable_grant(c);
    bool answered = answer_stale(c, g);
    grant_unref(g);
    if (answered)
        metric_add(METRIC_CONNECT_STALE, 1);
    return answered;
}

/* ---- followers ---- */

static void count_collapsed(const struct outcome *o) {
    bool let_in = !o->grant && o->error == ERR_OK && o->status / 100 == 2;
    metric_add(METRIC_CONNECT_COLLAPSED, 1);
    metric_add(METRIC_BCRYPTS_AVOIDED, let_in); /* from an older grant: counted when answered */
}

static void on_landed(struct letter *letter, void *receiver) {
    (void)receiver;
    struct connecting *c = container_of(letter, struct connecting, landed);
    if (c->caller.x)
        count_collapsed(c->outcome);
    answer_outcome(c, "fwd=miss; collapsed");
    connecting_free(c);
}

/* Leaves the flight if it is still in the air; else its letter is on the way and will find nobody.
 */
static void leave_flight(struct connecting *c) {
    struct agents *agents = c->serve->shared->agents;
    struct agent *agent = agents_lock(agents, &c->pass.id, false);
    bool was_aboard = agent && c->aboard;
    if (was_aboard)
        flight_leave(c->flight, &c->seat);
    if (agent)
        agents_unlock(agents, agent);
    c->caller.x = NULL;
    if (was_aboard)
        connecting_free(c);
}

static void on_follower_gone(void *arg) {
    leave_flight(arg);
}

static void on_follower_tired(void *arg) {
    struct connecting *c = arg;
    if (!c->caller.x)
        return;
    bool answered = answer_meanwhile(c);
    if (!answered && c->more_patience_ms > 0) {
        timer_start(&c->patience, c->more_patience_ms);
        c->more_patience_ms = 0;
        return;
    }
    if (!answered)
        caller_refuse(c->serve, &c->caller, ERR_UPSTREAM_TIMEOUT);
    leave_flight(c);
}

static const struct exchange_watcher follower_watcher = {on_follower_gone, NULL, NULL};

/* ---- the flight's end ---- */

static bool controller_failed(const struct fetched *f) {
    return f->error != ERR_OK || f->status >= 500 || f->status == 429;
}

/* `older`: what to answer from when the controller fails (taken). */
static struct outcome *make_outcome(const struct fetched *f, struct grant *older, bool stored) {
    struct outcome *o = must_zalloc(sizeof *o);
    atomic_init(&o->references, 1);
    o->grant = older;
    o->stored = stored;
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
 * leaves the agent's own grant alone; some noes are about the agent, whatever the secret. */
static bool evicts(const struct agent *agent, const struct connecting *leader,
                   const struct fetched *f) {
    char message[256];
    if (!agent->grant || !verdict_said(f, message))
        return false;
    bool whole_agent = f->status == 404 || strcmp(message, "Agent is suspended") == 0 ||
                       strcmp(message, "Agent has no secret configured") == 0;
    return whole_agent || grant_proof_equal(agent->grant->proof, leader->pass.proof);
}

/* Returns whether the grant was stored. */
static bool learn(struct agents *agents, struct agent *agent, const struct connecting *leader,
                  const struct fetched *f, struct grant *grant) {
    bool stored = grant && agent->purged <= leader->flight->purges_seen;
    if (stored)
        agents_set_grant(agents, agent, grant_ref(grant));
    if (evicts(agent, leader, f))
        agents_set_grant(agents, agent, NULL);
    /* Let in by the controller itself: whatever it said to heartbeats before is over. */
    if (f->error == ERR_OK && f->status / 100 == 2)
        verdict_lift(agent);
    return stored;
}

/* Lands the flight: learns, takes its followers, and says how it ended for all aboard. */
static struct outcome *land(struct connecting *leader, const struct fetched *f,
                            struct list *followers) {
    struct serve *s = leader->serve;
    struct grant *grant = make_grant(leader, f), *older = NULL;
    struct agent *agent = agents_lock(s->shared->agents, &leader->pass.id, true);
    bool stored = learn(s->shared->agents, agent, leader, f, grant);
    if (controller_failed(f))
        older = usable_grant(s, agent, &leader->pass);
    flight_land(leader->flight, followers);
    list_each (at, followers)
        container_of(at, struct connecting, seat)->aboard = false;
    agents_unlock(s->shared->agents, agent);
    leader->flight = NULL;
    grant_unref(grant);
    return make_outcome(f, older, stored);
}

static void tell_followers(struct list *followers, struct outcome *outcome) {
    while (!list_empty(followers)) {
        struct connecting *c = container_of(followers->next, struct connecting, seat);
        struct serve *s = c->serve;
        list_remove(&c->seat);
        atomic_fetch_add(&outcome->references, 1);
        c->outcome = outcome;
        mailbox_post(s->shared->mailbox[s->worker], &c->landed);
    }
}

static void on_fetched(void *arg, const struct fetched *f) {
    struct connecting *leader = arg;
    struct list followers;
    leader->fetch = NULL;
    leader->outcome = land(leader, f, &followers);
    tell_followers(&followers, leader->outcome);
    if (leader->caller.x)
        metric_add(leader->outcome->grant ? METRIC_CONNECT_STALE : METRIC_CONNECT_MISS, 1);
    answer_outcome(leader, leader->outcome->stored ? "fwd=miss; stored" : "fwd=miss");
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
    bool alone = leader->flight->follower_count == 0;
    struct list nobody;
    if (alone)
        flight_land(leader->flight, &nobody);
    agents_unlock(agents, agent);
    if (!alone)
        return;
    fetch_cancel(leader->fetch);
    connecting_free(leader);
}

/* It answers from the older grant; the flight goes on for what it brings. */
static void on_leader_tired(void *arg) {
    struct connecting *leader = arg;
    if (leader->caller.x && answer_meanwhile(leader))
        leader->caller.x = NULL;
}

static const struct exchange_watcher leader_watcher = {on_leader_gone, NULL, NULL};

/* ---- boarding ---- */

static struct connecting *connecting_new(struct serve *s, const struct request *r,
                                         const struct grant_pass *pass, struct flight *flight,
                                         void (*on_tired)(void *arg)) {
    struct connecting *c = must_zalloc(sizeof *c);
    c->serve = s;
    c->pass = *pass;
    c->flight = flight;
    c->landed.deliver = on_landed;
    list_init(&c->seat);
    timer_init(&c->patience, s->loop, on_tired, c);
    caller_keep(&c->caller, r);
    return c;
}

/* What is to be done once the agent is unlocked. */
struct boarding {
    enum { BOARD_CACHE, BOARD_LEAD, BOARD_FOLLOW, BOARD_FULL } how;
    struct grant *grant;    /* BOARD_CACHE: referenced */
    struct connecting *who; /* BOARD_LEAD, BOARD_FOLLOW */
    int64_t wait_ms; /* then: how long before the older grant is good enough; 0: there is none */
};

static void lead(struct request *r, const struct boarding *b) {
    struct connecting *c = b->who;
    struct serve *s = c->serve;
    exchange_watch(r->x, &leader_watcher, c);
    if (b->wait_ms > 0)
        timer_start(&c->patience, b->wait_ms);
    request_spell_upstream(s, r);
    struct call_request call = {.head = str_span(&s->head), .body = r->body, .repeatable = true};
    c->fetch = fetch_start(s, &call, ANSWER_MAX, on_fetched, c);
}

static void follow(struct request *r, const struct boarding *b) {
    int64_t first_ms = b->wait_ms > 0 ? b->wait_ms : FOLLOW_MAX_MS;
    exchange_watch(r->x, &follower_watcher, b->who);
    b->who->more_patience_ms = FOLLOW_MAX_MS - first_ms;
    timer_start(&b->who->patience, first_ms);
}

static bool wants_no_cache(const struct request *r) {
    struct span control = r->http->fields.known[HTTP_CACHE_CONTROL];
    return control.ptr && http_list_has(control, SPAN("no-cache"));
}

static int64_t wait_ms(enum grant_age age) {
    return age == GRANT_DEAD ? 0 : age == GRANT_STALE ? WAIT_STALE_MS : WAIT_WARM_MS;
}

/* Joins the flight of this proof, or starts it. */
static struct boarding board_flight(struct serve *s, struct agent *agent, struct request *r,
                                    const struct grant_pass *pass, enum grant_age older) {
    struct boarding b = {.how = BOARD_LEAD, .wait_ms = wait_ms(older)};
    struct flight *flight = flight_find(&agent->flights, pass->proof, agent->purged);
    if (!flight) {
        flight = flight_start(&agent->flights, pass->proof, agents_purges(s->shared->agents));
        b.who = connecting_new(s, r, pass, flight, on_leader_tired);
        return b;
    }
    struct connecting *c = connecting_new(s, r, pass, flight, on_follower_tired);
    c->aboard = flight_join(flight, &c->seat);
    if (c->aboard) {
        b.how = BOARD_FOLLOW;
        b.who = c;
    } else {
        b.how = BOARD_FULL;
        connecting_free(c);
    }
    return b;
}

/* Under the agent's lock. */
static struct boarding board(struct serve *s, struct agent *agent, struct request *r,
                             const struct grant_pass *pass) {
    struct grant_policy policy = grant_policy(s);
    enum grant_age age = GRANT_DEAD;
    if (agent->grant && grant_proof_equal(agent->grant->proof, pass->proof))
        age = grant_age(agent->grant, &policy, clock_wall_ms());
    if (age == GRANT_FRESH && !wants_no_cache(r))
        return (struct boarding){.how = BOARD_CACHE, .grant = grant_ref(agent->grant)};
    return board_flight(s, agent, r, pass, age);
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
    grant_pass_make(&s->shared->grant_key, &r->agent, secret, &pass);
    struct agent *agent = agents_lock(agents, &r->agent, true);
    struct boarding b = board(s, agent, r, &pass);
    agents_unlock(agents, agent);
    switch (b.how) {
    case BOARD_CACHE:
        answer_hit(s, r, b.grant, &pass);
        break;
    case BOARD_LEAD:
        lead(r, &b);
        break;
    case BOARD_FOLLOW:
        follow(r, &b);
        break;
    case BOARD_FULL:
        request_refuse(s, r, ERR_OVERLOADED);
        break;
    }
    grant_unref(b.grant);
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
