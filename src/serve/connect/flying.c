#include "serve/connect/flying.h"

#include "base/clock.h"
#include "base/metric.h"
#include "base/panic.h"
#include "base/random.h"
#include "base/secret.h"
#include "rules/agents/tags.h"
#include "serve/cache/shelf.h"
#include "serve/connect/aboard.h"
#include "serve/connect/flying_look.h"
#include "serve/connect/lesson.h"
#include "serve/connect/replay.h"
#include "serve/gate/fetch.h"
#include "serve/limits/limiting.h"

#include <stdatomic.h>
#include <stdlib.h>

enum {
    CALL_MS = 10000,      /* then nobody waits any more, and a refresh's secret has waited enough */
    FOLLOW_MAX_MS = 8000, /* the documented client gives up at 10 s */
    ANSWER_MAX = 4 << 20, /* larger than what is kept: it is passed on all the same */
};

/* ---- patience ---- */

/* The older grant that this secret opens, if it may still be used. Referenced. */
static struct grant *usable_grant(struct serve *s, const struct agent *agent,
                                  const struct grant_pass *pass) {
    struct grant_policy policy = replay_policy(s);
    struct grant *g = agent->grant;
    bool usable = g && grant_is_of(g, pass) && grant_age(g, &policy, clock_wall_ms()) != GRANT_DEAD;
    return usable ? grant_ref(g) : NULL;
}

static struct grant *find_usable_grant(const struct passenger *p) {
    struct agents *agents = p->serve->shared->agents;
    struct agent *agent = agents_lock(agents, &p->pass.id, false);
    if (!agent)
        return NULL;
    struct grant *g = usable_grant(p->serve, agent, &p->pass);
    agents_unlock(agents, agent);
    return g;
}

static bool answer_meanwhile(struct passenger *p) {
    struct grant *g = find_usable_grant(p);
    bool answered = aboard_answer_older(p, g, "controller-slow");
    grant_unref(g);
    if (answered)
        metric_add(METRIC_CONNECT_STALE, 1);
    return answered;
}

/* ---- followers ---- */

static void count_collapsed(const struct outcome *o) {
    if (o->hit) {
        metric_add(METRIC_CONNECT_HIT, 1);
        return;
    }
    bool let_in = !o->grant && o->error == ERR_OK && o->status / 100 == 2;
    metric_add(METRIC_CONNECT_COLLAPSED, 1);
    metric_add(METRIC_BCRYPTS_AVOIDED, let_in); /* from an older grant: counted when answered */
}

/* What the leader's address was charged for is not charged to it once more. */
static enum attempt_end follower_end(const struct passenger *p) {
    const struct outcome *o = p->outcome;
    if (o->hit || o->grant)
        return ATTEMPT_CACHED;
    if (o->error != ERR_OK)
        return ATTEMPT_UNDONE;
    enum attempt_end end = limiting_end_of(o->status);
    return end != ATTEMPT_LET_IN && o->site == p->attempt.site ? ATTEMPT_UNDONE : end;
}

static void on_landed(struct letter *letter, void *receiver) {
    (void)receiver;
    struct passenger *p = container_of(letter, struct passenger, landed);
    if (p->caller.x) {
        count_collapsed(p->outcome);
        limiting_ended(p->serve, &p->attempt, follower_end(p));
    }
    aboard_answer(p);
    aboard_free(p);
}

/* Leaves the flight if it is still in the air; else its letter is on the way and will find nobody.
 */
static void leave_flight(struct passenger *p) {
    struct agents *agents = p->serve->shared->agents;
    struct agent *agent = agents_lock(agents, &p->pass.id, false);
    bool was_aboard = agent && p->aboard;
    if (was_aboard)
        flight_leave(p->flight, &p->seat);
    if (agent)
        agents_unlock(agents, agent);
    p->caller.x = NULL;
    if (was_aboard)
        aboard_free(p);
}

static void on_follower_gone(void *arg) {
    leave_flight(arg);
}

static void on_follower_tired(void *arg) {
    struct passenger *p = arg;
    if (!p->caller.x)
        return;
    bool answered = answer_meanwhile(p);
    if (!answered && p->more_patience_ms > 0) {
        timer_start(&p->patience, p->more_patience_ms);
        p->more_patience_ms = 0;
        return;
    }
    if (!answered)
        caller_refuse(p->serve, &p->caller, ERR_UPSTREAM_TIMEOUT);
    leave_flight(p);
}

static const struct exchange_watcher follower_watcher = {on_follower_gone, NULL, NULL};

/* ---- landing ---- */

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
    o->retry_after_s = f->retry_after_s;
    o->status = f->status;
    o->content_type = must_alloc(f->content_type.len + 1);
    if (f->content_type.len > 0)
        memcpy(o->content_type, f->content_type.ptr, f->content_type.len);
    o->content_type[f->content_type.len] = '\0';
    o->body = must_copy(f->body.ptr, f->body.len);
    o->body_len = f->body.len;
    o->took_us = f->took_us;
    return o;
}

/* Lands the flight: learns, takes its followers, and says how it ended for all aboard. */
static struct outcome *land(struct passenger *leader, const struct fetched *f,
                            struct list *followers) {
    struct serve *s = leader->serve;
    struct lesson lesson;
    struct grant *older = NULL;
    lesson_take(&lesson, s, &leader->pass, f, leader->flight->purges_seen, leader->peers_seen);
    struct agent *agent = agents_lock(s->shared->agents, &leader->pass.id, true);
    bool stored = lesson_learn(&lesson, s, agent);
    if (controller_failed(f))
        older = usable_grant(s, agent, &leader->pass);
    aboard_disembark(leader, followers);
    agents_unlock(s->shared->agents, agent);
    if (stored)
        shelf_keep(s->shelf, &leader->pass, lesson.grant, &lesson.tags, leader->peers_seen);
    else if (leader->looks)
        shelf_give_up(s->shelf, &leader->pass);
    lesson_release(&lesson);
    return make_outcome(f, older, stored);
}

/* A 401, 403 or 404 that is not the controller's own says nothing of the secret. */
static enum attempt_end attempt_end(const struct fetched *f) {
    char message[256];
    if (f->error != ERR_OK)
        return ATTEMPT_UNDONE;
    enum attempt_end end = limiting_end_of(f->status);
    return end == ATTEMPT_WRONG && !fetched_is_verdict(f, message) ? ATTEMPT_REFUSED : end;
}

static void on_fetched(void *arg, const struct fetched *fetched) {
    struct passenger *leader = arg;
    struct list followers;
    struct fetched f = *fetched;
    if (leader->denied != ERR_OK) { /* after it had waited */
        f.error = leader->denied;
        f.retry_after_s = leader->retry_after_s;
    }
    uint64_t site = leader->attempt.site;
    limiting_ended(leader->serve, &leader->attempt, attempt_end(&f));
    leader->fetch = NULL;
    leader->outcome = land(leader, &f, &followers);
    leader->outcome->site = site;
    aboard_tell_followers(&followers, leader->outcome);
    if (leader->caller.x)
        metric_add(leader->outcome->grant ? METRIC_CONNECT_STALE : METRIC_CONNECT_MISS, 1);
    aboard_answer(leader);
    aboard_free(leader);
}

/* Ends a flight that nobody follows. */
static bool land_if_alone(struct passenger *leader) {
    struct agents *agents = leader->serve->shared->agents;
    struct agent *agent = agents_lock(agents, &leader->pass.id, true);
    bool alone = leader->flight->follower_count == 0;
    struct list nobody;
    if (alone)
        flight_land(leader->flight, &nobody);
    agents_unlock(agents, agent);
    return alone;
}

/* The leader's client left. A call that was not sent yet, and that nobody follows, is not sent; one
 * that was goes on: its work is spent, and its answer is worth keeping. */
static void on_leader_gone(void *arg) {
    struct passenger *leader = arg;
    leader->caller.x = NULL;
    if (leader->fetch && fetch_was_sent(leader->fetch))
        return;
    if (!land_if_alone(leader))
        return;
    if (leader->look)
        shelf_cancel(leader->look);
    else
        fetch_cancel(leader->fetch);
    limiting_ended(leader->serve, &leader->attempt, ATTEMPT_UNDONE);
    aboard_free(leader);
}

static int64_t left_ms(const struct passenger *leader) {
    return leader->began_ms + ADMISSION_CONNECT_MS - clock_mono_ms();
}

/* It answers from the older grant, or at the latest that there was no answer in time; the flight
 * goes on for what it brings. */
static void on_leader_tired(void *arg) {
    struct passenger *leader = arg;
    if (!leader->caller.x)
        return;
    bool answered = answer_meanwhile(leader);
    if (!answered && left_ms(leader) > 0) {
        timer_start(&leader->patience, left_ms(leader));
        return;
    }
    if (answered)
        leader->attempt.site =
            0; /* let in: what the controller says now counts against no address */
    else
        caller_refuse(leader->serve, &leader->caller, ERR_UPSTREAM_TIMEOUT);
    leader->caller.x = NULL;
}

static const struct exchange_watcher leader_watcher = {on_leader_gone, NULL, NULL};

/* ---- boarding ---- */

/* The flight that one who asks now may join: it took off after every write that may concern him. */
static struct flight *find_flight(struct serve *s, struct agent *agent,
                                  const struct grant_pass *pass) {
    uint64_t written = tags_latest(s->shared->tags);
    return flight_find(&agent->flights, pass->proof,
                       written > agent->purged ? written : agent->purged);
}

bool flying_is_asked(struct serve *s, struct agent *agent, const struct grant_pass *pass) {
    return find_flight(s, agent, pass) != NULL;
}

static struct passenger *passenger_new(struct serve *s, const struct request *r,
                                       const struct flying_ticket *ticket) {
    struct passenger *p = must_zalloc(sizeof *p);
    p->serve = s;
    p->pass = *ticket->pass;
    p->reason = ticket->reason;
    p->is_known = ticket->is_known;
    p->first_patience_ms = ticket->patience_ms;
    p->began_ms = clock_mono_ms();
    p->looks = ticket->looks;
    p->denied = ticket->denied;
    p->retry_after_s = ticket->retry_after_s;
    p->landed.deliver = on_landed;
    list_init(&p->seat);
    str_init(&p->kept, ABOARD_KEPT_MAX);
    if (r)
        caller_keep(&p->caller, r);
    if (r)
        p->attempt = r->attempt;
    return p;
}

static struct passenger *start_flight(struct serve *s, struct agent *agent, const struct request *r,
                                      const struct flying_ticket *ticket) {
    struct passenger *p = passenger_new(s, r, ticket);
    p->leads = true;
    aboard_take_off(p, agent);
    timer_init(&p->patience, s->loop, on_leader_tired, p);
    return p;
}

static struct passenger *join_flight(struct serve *s, struct flight *flight,
                                     const struct request *r, const struct flying_ticket *ticket) {
    struct passenger *p = passenger_new(s, r, ticket);
    p->flight = flight;
    p->aboard = flight_join(flight, &p->seat);
    timer_init(&p->patience, s->loop, on_follower_tired, p);
    if (p->aboard)
        return p;
    aboard_free(p);
    return NULL;
}

struct passenger *flying_board(struct serve *s, struct agent *agent, const struct request *r,
                               const struct flying_ticket *ticket) {
    struct flight *flight = find_flight(s, agent, ticket->pass);
    if (!flight)
        return start_flight(s, agent, r, ticket);
    return join_flight(s, flight, r, ticket);
}

/* ---- departure ---- */

/* It may have waited for its turn: may it still be asked, and does anybody want the answer? */
static bool is_wanted(void *arg) {
    struct passenger *leader = arg;
    struct agents *agents = leader->serve->shared->agents;
    leader->denied = limiting_ask_again(leader->serve, &leader->attempt, &leader->retry_after_s);
    if (leader->denied != ERR_OK)
        return false;
    if (leader->caller.x)
        return true;
    struct agent *agent = agents_lock(agents, &leader->pass.id, true);
    bool followed = leader->flight->follower_count > 0;
    agents_unlock(agents, agent);
    return followed;
}

/* Only who has nothing older to answer from waits for a place. */
static struct admission_terms terms_of(struct passenger *p, bool waits) {
    struct shared *shared = p->serve->shared;
    uint64_t agent = agents_hash(shared->agents, &p->pass.id);
    return (struct admission_terms){.class = GATE_CONNECT,
                                    .wait_ms = waits ? admission_wait_ms(p->serve) : 0,
                                    .answer_by_ms = p->began_ms + ADMISSION_CONNECT_WAIT_MS,
                                    .who = agent,
                                    /* Of an unknown secret anybody may be the sender. */
                                    .is_forwarded = !p->is_known,
                                    .agent = agent,
                                    .flow = flows_find(shared->flows, agent),
                                    .is_wanted = is_wanted,
                                    .wanted_arg = p};
}

static void start_fetch(struct passenger *p, struct span head, struct span body, bool waits) {
    int64_t usual_ms = p->serve->shared->config->upstream.response_timeout_ms;
    struct call_request call = {.head = head,
                                .body = body,
                                .repeatable = true,
                                .secret = true,
                                .timeout_ms = usual_ms < CALL_MS ? usual_ms : CALL_MS};
    struct admission_terms terms = terms_of(p, waits);
    p->fetch = fetch_start(p->serve, &call, &terms, ANSWER_MAX, on_fetched, p);
}

/* Leader and followers hear the refusal that the leader has been carrying with him. */
static void deny(struct passenger *leader) {
    struct agents *agents = leader->serve->shared->agents;
    struct list followers;
    struct agent *agent = agents_lock(agents, &leader->pass.id, true);
    aboard_disembark(leader, &followers);
    agents_unlock(agents, agent);
    if (leader->looks)
        shelf_give_up(leader->serve->shelf, &leader->pass);
    leader->outcome = make_outcome(
        &(struct fetched){.error = leader->denied, .retry_after_s = leader->retry_after_s}, NULL,
        false);
    aboard_tell_followers(&followers, leader->outcome);
    aboard_answer(leader);
    aboard_free(leader);
}

/* All aboard have left while it looked: the controller is not asked for nobody. */
static bool call_off(struct passenger *leader) {
    if (leader->caller.x || !land_if_alone(leader))
        return false;
    if (leader->looks)
        shelf_give_up(leader->serve->shelf, &leader->pass);
    limiting_ended(leader->serve, &leader->attempt, ATTEMPT_UNDONE);
    aboard_free(leader);
    return true;
}

static void ask(struct passenger *p, struct span head, struct span body) {
    if (p->denied != ERR_OK) {
        deny(p);
        return;
    }
    if (call_off(p))
        return;
    if (p->caller.x)
        timer_start(&p->patience, p->first_patience_ms > 0 ? p->first_patience_ms : left_ms(p));
    start_fetch(p, head, body, p->first_patience_ms == 0);
}

static void depart_leader(struct passenger *p, const struct request *r) {
    exchange_watch(r->x, &leader_watcher, p);
    request_spell_upstream(p->serve, r);
    p->ask = ask;
    if (!p->looks || !flying_look(p, r))
        ask(p, str_span(&p->serve->head), r->body);
}

static void depart_follower(struct passenger *p, const struct request *r) {
    int64_t first_ms = p->first_patience_ms > 0 ? p->first_patience_ms : FOLLOW_MAX_MS;
    p->more_patience_ms = FOLLOW_MAX_MS - first_ms;
    exchange_watch(r->x, &follower_watcher, p);
    timer_start(&p->patience, first_ms);
}

void flying_depart(struct passenger *p, const struct request *r) {
    if (p->leads)
        depart_leader(p, r);
    else
        depart_follower(p, r);
}

static void depart_refresh(struct passenger *p, struct span body) {
    struct str *head = &p->serve->head;
    char id[AGENT_ID_HEX], correlation[RANDOM_UUID];
    agent_id_text(&p->pass.id, id);
    random_uuid(correlation);
    str_clear(head);
    str_addf(head,
             "POST /agents/%.*s/connect HTTP/1.1\r\nHost: %s\r\n"
             "Content-Type: application/json\r\nx-correlation-id: %.*s\r\n"
             "Via: 1.1 aiwm-gateway\r\nContent-Length: %zu\r\n\r\n",
             AGENT_ID_HEX, id, p->serve->shared->upstream_authority, RANDOM_UUID, correlation,
             body.len);
    start_fetch(p, str_span(head), body, false);
}

void flying_refresh(struct serve *s, const struct grant_pass *pass, struct span body) {
    struct agents *agents = s->shared->agents;
    struct flying_ticket ticket = {.pass = pass, .is_known = true, .reason = REPLAY_STALE};
    struct agent *agent = agents_lock(agents, &pass->id, true);
    bool is_asked = flying_is_asked(s, agent, pass);
    struct passenger *p = is_asked ? NULL : start_flight(s, agent, NULL, &ticket);
    agents_unlock(agents, agent);
    if (p)
        depart_refresh(p, body);
}
