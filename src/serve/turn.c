#include "serve/turn.h"

#include "base/clock.h"
#include "base/metric.h"
#include "base/panic.h"
#include "serve/fetch.h"
#include "serve/flush.h"
#include "serve/request.h"
#include "serve/verdict.h"

#include <stdlib.h>

enum {
    ANSWER_MAX = 65536,
    WAITING_MAX = 8,
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
    uint64_t sequence; /* a disconnect: of the last beat before it; a beat: its own */
    bool waits;
    struct str head, body;
};

static void turn_free(struct turn *t) {
    caller_release(&t->caller);
    str_release(&t->head);
    str_release(&t->body);
    free(t);
}

bool turn_next(struct serve *s, struct agent *agent) {
    if (list_empty(&agent->waiters))
        return false;
    struct turn *next = container_of(agent->waiters.next, struct turn, link);
    list_remove(&next->link);
    agent->beat.blocked = true;
    mailbox_post(s->shared->mailbox[next->serve->worker], &next->go);
    return true;
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
    if (taken && t->kind.is_beat)
        note_passed(t, agent);
    else if (taken)
        note_disconnected(t, agent);
    else if (t->kind.is_beat && verdict_said(result, message))
        verdict_keep(s, agent, t->token_hash, result->status, message);
    if (!turn_next(s, agent) && agent->beat.held)
        flush_schedule(s, agent);
    agents_unlock(agents, agent);
}

static void on_answered(void *arg, const struct fetched *result) {
    struct turn *t = arg;
    settle(t, result);
    if (t->caller.x && result->error == ERR_OK)
        caller_answer(t->serve, &t->caller, result->status, result->content_type, SPAN_NONE,
                      result->body);
    else if (t->caller.x)
        caller_refuse_until(t->serve, &t->caller, result->error, result->retry_after_s);
    turn_free(t);
}

/* ---- the call ---- */

static void ask(struct turn *t) {
    struct call_request call = {.head = str_span(&t->head),
                                .body = str_span(&t->body),
                                .repeatable = t->kind.is_beat,
                                .timeout_ms = CALL_MS};
    struct admission_terms terms = {.class = GATE_HEARTBEAT,
                                    .wait_ms = admission_wait_ms(t->serve)};
    fetch_start(t->serve, &call, &terms, ANSWER_MAX, on_answered, t);
}

/* The loops have stopped, and this is the only thread: nobody will be next. */
static void give_up_all(struct turn *t) {
    struct agents *agents = t->serve->shared->agents;
    struct agent *agent = agents_lock(agents, &t->agent, true);
    list_each_safe (at, &agent->waiters) {
        list_remove(at);
        turn_free(container_of(at, struct turn, link));
    }
    agents_unlock(agents, agent);
    turn_free(t);
}

static void on_go(struct letter *letter, void *receiver) {
    struct serve *s = receiver;
    struct turn *t = container_of(letter, struct turn, go);
    if (s->closing)
        give_up_all(t);
    else
        ask(t);
}

static void on_gone(void *arg) {
    struct turn *t = arg;
    t->caller.x = NULL;
}

static const struct exchange_watcher watcher = {on_gone, NULL, NULL};

static struct turn *turn_new(struct serve *s, const struct request *r,
                             const struct turn_kind *kind) {
    struct turn *t = must_zalloc(sizeof *t);
    t->serve = s;
    t->kind = *kind;
    t->agent = r->agent;
    t->token_hash = agents_token_hash(s->shared->agents, r->token);
    t->go.deliver = on_go;
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

static bool is_full(const struct agent *agent) {
    int count = 0;
    list_each (at, &agent->waiters)
        count++;
    return count >= WAITING_MAX;
}

struct turn *turn_take(struct serve *s, const struct request *r, struct agent *agent,
                       const struct turn_kind *kind) {
    if (is_full(agent))
        return NULL;
    struct turn *t = turn_new(s, r, kind);
    struct beat_state *beat = &agent->beat;
    t->sequence = kind->is_beat ? beat_pass(beat, clock_mono_ms()) : beat->sequence;
    t->waits = beat->sending || beat->blocked;
    if (t->waits)
        list_push_back(&agent->waiters, &t->link);
    beat->blocked = true;
    return t;
}

void turn_launch(struct turn *t) {
    if (!t->waits)
        ask(t);
}
