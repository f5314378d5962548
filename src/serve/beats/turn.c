#include "serve/beats/turn.h"

#include "base/clock.h"
#include "base/metric.h"
#include "base/panic.h"
#include "serve/beats/appointments.h"
#include "serve/beats/delivery.h"
#include "serve/beats/durable.h"
#include "serve/beats/telling.h"
#include "serve/beats/verdict.h"
#include "serve/gate/fetch.h"
#include "serve/request/access.h"
#include "serve/request/answer.h"

#include <stdlib.h>

enum {
    ANSWER_MAX = 65536,
    WAITING_MAX = 8, /* of the agent's own calls, and as many of users' */
    TAKE_AGAIN_MS = 50,
    CALL_MS = 10000, /* the documented client gives up then; the agent's beats wait meanwhile */
};

struct turn {
    struct list link;    /* in agent->waiters */
    struct letter go;    /* to its own worker, when it may ask */
    struct serve *serve; /* of that worker */
    struct turn_kind kind;
    struct caller caller; /* caller.x NULL: the client has left */
    struct agent_id agent;
    uint64_t token_hash;
    uint64_t flow;        /* of the caller's organization */
    uint64_t purges_seen; /* the purge sequence when it was asked */
    uint64_t sequence;    /* a disconnect: of the last beat before it; a beat: its own */
    bool is_own;          /* of the agent's own token: goes before users' */
    bool waits;
    bool is_in_line;         /* in agent->waiters; under the agent's lock */
    struct timer patience;   /* while it waits for other calls of the agent */
    struct timer take_again; /* the agent, in Redis: somebody else has it */
    int64_t taken_ms;        /* monotonic */
    int64_t give_up_ms;      /* monotonic: then it is not waited for any more */
    struct str head, body;
};

static void turn_free(struct turn *t) {
    timer_stop(&t->patience);
    timer_stop(&t->take_again);
    list_remove(&t->link);
    caller_release(&t->caller);
    str_release(&t->head);
    str_release(&t->body);
    free(t);
}

/* While the breaker is open the beat cannot go, and the call is refused at once. */
static bool beat_goes_first(struct serve *s, const struct agent *agent) {
    return agent->beat_is_next && agent->beat.held && admission_pause_ms(s->shared) == 0 &&
           appointments_due_ms(s, agent) <= clock_mono_ms();
}

void turn_go_on(struct serve *s, struct agent *agent) {
    if (agent->beat.sending || agent->beat.blocked)
        return;
    if (list_empty(&agent->waiters) || beat_goes_first(s, agent)) {
        if (agent->beat.held)
            appointments_schedule(s, agent);
        return;
    }
    struct turn *next = container_of(agent->waiters.next, struct turn, link);
    list_remove(&next->link);
    next->is_in_line = false;
    agent->beat.blocked = true;
    mailbox_post(s->shared->mailbox[next->serve->worker], &next->go);
}

/* ---- the answer ---- */

static void count_dropped(bool dropped) {
    if (!dropped)
        return;
    metric_add(METRIC_BEATS_SUPERSEDED, 1);
    metric_add(METRIC_BEATS_HELD, -1);
}

static void note_disconnected(struct turn *t, struct agent *agent) {
    count_dropped(beat_disconnected(&agent->beat, t->sequence));
    /* The cached connect stays, so that a restart of the fleet finds it; but the controller's
     * lastConnectedAt is empty now, and shall be mended by a connect it sees. */
    agent->owed = agent->grant != NULL;
}

static void note_passed(struct turn *t, struct agent *agent) {
    metric_add(METRIC_BEATS_RECEIVED, 1);
    metric_add(METRIC_BEATS_DELIVERED, 1);
    delivery_time(t->taken_ms);
    count_dropped(beat_passed(&agent->beat, t->sequence, t->kind.status_known, t->kind.status,
                              clock_mono_ms()));
}

static void settle(struct turn *t, const struct fetched *result) {
    struct serve *s = t->serve;
    struct agents *agents = s->shared->agents;
    bool taken = result->error == ERR_OK && result->status / 100 == 2;
    char message[256];
    struct agent *agent = agents_lock(agents, &t->agent, true);
    agent->beat.blocked = false;
    agent->beat_is_next = true;
    /* An answer from before a write says nothing about what came of it. */
    if (t->kind.is_beat && agent->purged <= t->purges_seen &&
        (taken || fetched_is_verdict(result, message)))
        agent->must_ask = false;
    if (taken && t->kind.is_beat)
        note_passed(t, agent);
    else if (taken)
        note_disconnected(t, agent);
    else if (t->kind.is_beat && fetched_is_verdict(result, message))
        verdict_keep(s, agent, t->token_hash, result->status, message);
    telling_note(s, agent);
    turn_go_on(s, agent);
    agents_unlock(agents, agent);
}

static void on_answered(void *arg, const struct fetched *result) {
    struct turn *t = arg;
    settle(t, result);
    if (result->took_us > 0)
        access_mark_asked(t->caller.x, t->serve, result->took_us);
    if (t->caller.x && result->error == ERR_OK)
        caller_answer(t->serve, &t->caller, result->status, result->content_type, SPAN_NONE,
                      result->body);
    else if (t->caller.x)
        caller_refuse_until(t->serve, &t->caller, result->error, result->retry_after_s);
    turn_free(t);
}

/* ---- the call ---- */

static void ask(struct turn *t) {
    t->purges_seen = agents_purges(t->serve->shared->agents);
    struct call_request call = {.head = str_span(&t->head),
                                .body = str_span(&t->body),
                                .repeatable = t->kind.is_beat,
                                .timeout_ms = CALL_MS};
    struct admission_terms terms = {.class = GATE_CONTROL,
                                    .wait_ms = admission_wait_ms(t->serve),
                                    .flow = t->flow,
                                    .is_forwarded = true};
    fetch_start(t->serve, &call, &terms, ANSWER_MAX, on_answered, t);
}

/* ---- the agent, in Redis ---- */

static void on_taken(void *arg, const struct redis_reply *reply) {
    struct turn *t = arg;
    bool ours = redis_integer(reply) == 1;
    if (reply && !ours && clock_mono_ms() >= t->give_up_ms) {
        on_answered(t, &(struct fetched){.error = ERR_UPSTREAM_TIMEOUT});
    } else if (reply && !ours) {
        timer_start(&t->take_again, TAKE_AGAIN_MS);
    } else { /* no reply: Redis is away, and everybody on his own */
        list_remove(&t->link);
        ask(t);
    }
}

static uint64_t lease(struct turn *t) {
    struct agents *agents = t->serve->shared->agents;
    struct agent *agent = agents_lock(agents, &t->agent, true);
    if (agent->lease == 0)
        agent->lease = durable_new_claim(t->serve);
    uint64_t claim = agent->lease;
    agents_unlock(agents, agent);
    return claim;
}

static void take(void *arg) {
    struct turn *t = arg;
    struct serve *s = t->serve;
    list_remove(&t->link);
    /* Without the breaker Redis would say that a beat goes first, which cannot go either. */
    if (admission_pause_ms(s->shared) == 0 && durable_is_here(s) &&
        durable_take(s, &t->agent, lease(t), false, on_taken, t))
        list_push_back(&s->turns, &t->link);
    else
        ask(t);
}

static void begin(struct turn *t) {
    t->give_up_ms = clock_mono_ms() + CALL_MS;
    take(t);
}

static void on_go(struct letter *letter, void *receiver) {
    struct serve *s = receiver;
    struct turn *t = container_of(letter, struct turn, go);
    timer_stop(&t->patience);
    if (s->closing)
        turn_free(t);
    else
        begin(t);
}

/* False: its letter is on the way, or its call. */
static bool leave_line(struct turn *t) {
    struct agents *agents = t->serve->shared->agents;
    struct agent *agent = agents_lock(agents, &t->agent, true);
    bool was_in_line = t->is_in_line;
    if (was_in_line)
        list_remove(&t->link);
    t->is_in_line = false;
    agents_unlock(agents, agent);
    return was_in_line;
}

/* An agent's own call was received and will be made; a user's that nobody waits for would only
 * stand in the agent's way. */
static void on_gone(void *arg) {
    struct turn *t = arg;
    t->caller.x = NULL;
    if (!t->is_own && leave_line(t))
        turn_free(t);
}

static void on_patience_over(void *arg) {
    struct turn *t = arg;
    if (!t->caller.x || !leave_line(t))
        return;
    caller_refuse(t->serve, &t->caller, ERR_CONTROLLER_BUSY);
    turn_free(t);
}

static const struct exchange_watcher watcher = {on_gone, NULL, NULL};

static struct turn *turn_new(struct serve *s, const struct request *r,
                             const struct turn_kind *kind) {
    struct turn *t = must_zalloc(sizeof *t);
    t->serve = s;
    t->kind = *kind;
    t->is_own = request_is_own(r);
    t->agent = r->agent;
    t->taken_ms = clock_mono_ms();
    t->token_hash = agents_token_hash(s->shared->agents, r->token);
    t->flow = r->claims.org[0] == '\0'
                  ? FLOW_UNKNOWN
                  : flows_of(agents_token_hash(s->shared->agents, span_of(r->claims.org)));
    t->go.deliver = on_go;
    timer_init(&t->patience, s->loop, on_patience_over, t);
    timer_init(&t->take_again, s->loop, take, t);
    list_init(&t->link);
    caller_keep(&t->caller, r);
    request_spell_upstream(s, r);
    str_init(&t->head, s->head.len);
    str_add(&t->head, str_span(&s->head));
    str_init(&t->body, r->body.len);
    str_add(&t->body, r->body);
    exchange_watch(r->x, &watcher, t);
    return t;
}

static bool is_full(const struct agent *agent, bool is_own) {
    int count = 0;
    list_each (at, &agent->waiters)
        count += container_of(at, struct turn, link)->is_own == is_own;
    return count >= WAITING_MAX;
}

/* Behind its like: the agent's own, then users'. */
static void stand_in_line(struct turn *t, struct agent *agent) {
    struct list *before = agent->waiters.next;
    while (before != &agent->waiters &&
           (!t->is_own || container_of(before, struct turn, link)->is_own))
        before = before->next;
    list_insert_between(&t->link, before->prev, before);
    t->is_in_line = true;
}

struct turn *turn_take(struct serve *s, const struct request *r, struct agent *agent,
                       const struct turn_kind *kind) {
    if (is_full(agent, request_is_own(r)))
        return NULL;
    struct turn *t = turn_new(s, r, kind);
    struct beat_policy policy = beat_policy_of(s->shared->config);
    struct beat_state *beat = &agent->beat;
    durable_stamp(s, agent);
    t->sequence = kind->is_beat ? beat_pass(beat, &policy, clock_mono_ms()) : beat->sequence;
    bool is_under_way = beat->sending || beat->blocked;
    t->waits = is_under_way || !list_empty(&agent->waiters) || beat_goes_first(s, agent);
    if (t->waits) {
        stand_in_line(t, agent);
        turn_go_on(s, agent);
    } else {
        beat->blocked = true;
    }
    return t;
}

void turn_launch(struct turn *t) {
    if (t->waits)
        timer_start(&t->patience, admission_wait_ms(t->serve));
    else
        begin(t);
}

/* Those of this worker: the clients of others may still be there. */
static void abandon_waiters(void *arg, struct agent *agent) {
    list_each_safe (at, &agent->waiters) {
        struct turn *t = container_of(at, struct turn, link);
        if (t->serve == arg)
            turn_free(t);
    }
}

void turn_abandon_all(struct serve *s) {
    agents_each_owned(s->shared->agents, 0, 1, abandon_waiters, s);
    list_each_safe (at, &s->turns)
        turn_free(container_of(at, struct turn, link));
}
