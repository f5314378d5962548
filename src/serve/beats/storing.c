#include "serve/beats/storing.h"

#include "base/clock.h"
#include "base/metric.h"
#include "base/panic.h"
#include "base/secret.h"
#include "rules/agents/verdict.h"
#include "serve/beats/appointments.h"
#include "serve/beats/await.h"
#include "serve/beats/durable.h"
#include "serve/beats/sending.h"
#include "serve/beats/telling.h"
#include "serve/beats/turn.h"
#include "serve/beats/verdict.h"

#include <stdlib.h>

enum { LOOK_AGAIN_MS = 50 }; /* Redis refused it: not again at once */

struct storing_queue {
    struct serve *serve;
    storing_due *on_due;
    struct list waiting; /* agents wait for these: the oldest first */
    struct list others;  /* nobody does: held in memory meanwhile, or moved from there */
    struct timer budget;
};

struct storing {
    struct list link;
    struct serve *serve;
    struct caller caller; /* caller.x NULL: the client has left, or was answered, or never was */
    struct delivery delivery;
    bool reserved;    /* a sender is kept free for it */
    bool had_verdict; /* the agent had one here: Redis says whether it holds */
    bool in_memory;   /* the beat is held there, too */
    size_t token_len, body_len;
    char bytes[]; /* token, body */
};

static void storing_free(struct storing *st) {
    list_remove(&st->link);
    caller_release(&st->caller);
    secret_cleanse(st->bytes, st->token_len);
    free(st);
}

static struct span token_of(const struct storing *st) {
    return (struct span){st->bytes, st->token_len};
}

static struct span body_of(const struct storing *st) {
    return (struct span){st->bytes + st->token_len, st->body_len};
}

/* ---- without Redis after all ---- */

/* Answers unless the agent waits for the controller's word. */
static void fall_back(struct storing *st) {
    struct serve *s = st->serve;
    struct agents *agents = s->shared->agents;
    struct arrival a = {.sequence = st->delivery.sequence,
                        .status = st->delivery.status,
                        .body = body_of(st),
                        .token = token_of(st),
                        .received_ms = st->delivery.received_ms};
    struct agent *agent = agents_lock(agents, &st->delivery.id, true);
    bool waits = holding_take(s, agent, &a, &st->caller);
    agents_unlock(agents, agent);
    sending_launch(s->sending);
    st->in_memory = true;
    if (!waits && st->caller.x) {
        metric_add(METRIC_BEATS_ACK_MEMORY, 1);
        caller_answer_success(s, &st->caller, true);
    }
    caller_release(&st->caller);
}

static void on_budget_over(void *arg) {
    struct storing_queue *q = arg;
    int64_t budget_ms = q->serve->shared->config->heartbeat.ack_budget_ms;
    while (!list_empty(&q->waiting)) {
        struct storing *st = container_of(q->waiting.next, struct storing, link);
        int64_t left_ms = st->delivery.received_ms + budget_ms - clock_mono_ms();
        if (left_ms > 0) {
            timer_start(&q->budget, left_ms);
            return;
        }
        list_remove(&st->link);
        list_push_back(&q->others, &st->link);
        fall_back(st);
    }
}

/* ---- Redis has answered ---- */

static void on_gone(void *arg) {
    struct storing *st = arg;
    st->caller.x = NULL;
}

static const struct exchange_watcher watcher = {on_gone, NULL, NULL};

static void learn_verdict(struct storing *st, struct agent *agent, const struct durable_stored *r) {
    if (r->verdict_status == 0)
        verdict_forget(agent);
    else if (!st->had_verdict)
        verdict_keep(st->serve, agent, st->delivery.token, r->verdict_status, r->message);
}

/* What the agent's entry here has to know of it, mostly nothing. */
static void learn(struct storing *st, const struct durable_stored *r) {
    struct agents *agents = st->serve->shared->agents;
    bool concerns_verdict = st->had_verdict || r->verdict_status != 0;
    if (!r->news && !concerns_verdict && !st->in_memory)
        return;
    struct agent *agent = agents_lock(agents, &st->delivery.id, true);
    if (r->news)
        beat_learn(&agent->beat, r->settled, r->status_known, r->status, r->sent_ms);
    if (concerns_verdict)
        learn_verdict(st, agent, r);
    if (st->in_memory && r->verdict_status == 0) {
        holding_release(agent, st->delivery.sequence);
        turn_go_on(st->serve, agent);
    }
    agents_unlock(agents, agent);
}

static void count(const struct storing *st, const struct durable_stored *r) {
    if (r->verdict_status != 0)
        return;
    if (!st->in_memory)
        metric_add(METRIC_BEATS_RECEIVED, 1);
    if (r->replaced || (r->older && !r->same))
        metric_add(METRIC_BEATS_SUPERSEDED, 1);
}

/* It was given to us. Returns whether its agent waits for the controller's word. */
static bool send_claimed(struct storing *st, bool first) {
    struct serve *s = st->serve;
    struct parcel p = {.delivery = st->delivery, .body = body_of(st), .token = token_of(st)};
    if (first && st->caller.x) {
        sending_carry(s->sending, &p, await_waiter(await_new(s, &st->caller, false)));
        return true;
    }
    sending_carry_any(s->sending, &p);
    return false;
}

static void answer(struct storing *st, const struct durable_stored *r) {
    bool waits = r->claimed && send_claimed(st, r->first);
    if (waits || !st->caller.x)
        return;
    if (r->verdict_status != 0) {
        caller_refuse_verdict(st->serve, &st->caller, r->verdict_status, r->message);
        return;
    }
    metric_add(METRIC_BEATS_ACK_DURABLE, 1);
    caller_answer_success(st->serve, &st->caller, false);
}

/* It is held in memory until Redis takes it: somebody has to look after it. */
static void keep_in_memory(struct storing *st) {
    struct agents *agents = st->serve->shared->agents;
    struct agent *agent = agents_lock(agents, &st->delivery.id, false);
    if (!agent)
        return;
    if (agent->beat.held && !agent->beat.sending && !agent->beat.blocked) {
        beat_put_off(&agent->beat, clock_mono_ms() + LOOK_AGAIN_MS);
        turn_go_on(st->serve, agent);
    }
    agents_unlock(agents, agent);
}

static void store_no_more(struct storing *st) {
    struct serve *s = st->serve;
    durable_note_no_reply(s);
    if (st->reserved && !redis_is_here(s->redis)) /* it may have been given to us */
        telling_give_back_later(s, &st->delivery, false);
    if (st->in_memory)
        keep_in_memory(st);
    else
        fall_back(st);
}

static void on_stored(void *arg, const struct redis_reply *reply) {
    struct storing *st = arg;
    struct serve *s = st->serve;
    struct durable_stored r;
    if (st->reserved)
        sending_unreserve(s->sending, 1);
    if (reply) {
        durable_read_stored(s, reply, &r);
        learn(st, &r);
        count(st, &r);
        answer(st, &r);
        if (r.due)
            s->storing->on_due(s);
    } else {
        store_no_more(st);
    }
    storing_free(st);
}

/* ---- asking ---- */

static struct storing *storing_new(struct serve *s, const struct arrival *a,
                                   const struct agent_id *id) {
    struct storing *st = must_alloc(sizeof *st + a->token.len + a->body.len);
    *st = (struct storing){.serve = s,
                           .delivery = {.id = *id,
                                        .sequence = a->sequence,
                                        .status = a->status,
                                        .token = agents_token_hash(s->shared->agents, a->token),
                                        .received_ms = a->received_ms},
                           .token_len = a->token.len,
                           .body_len = a->body.len};
    list_init(&st->link);
    memcpy(st->bytes, a->token.ptr, a->token.len);
    if (a->body.len > 0)
        memcpy(st->bytes + a->token.len, a->body.ptr, a->body.len);
    return st;
}

static bool may_claim(const struct serve *s) {
    return durable_is_here(s) && telling_is_complete(s);
}

static bool ask(struct storing *st, const struct storing_facts *facts, bool heed) {
    struct serve *s = st->serve;
    bool reserved = facts->urgent && may_claim(s) && sending_reserve(s->sending, 1);
    if (reserved) {
        st->delivery.claim = durable_new_claim(s);
        st->delivery.go_by_ms = durable_go_by_ms();
    }
    struct durable_beat beat = {.delivery = &st->delivery,
                                .token = token_of(st),
                                .body = body_of(st),
                                .known = facts->settled,
                                .heed = heed,
                                .may_claim = reserved};
    st->reserved = reserved;
    if (durable_store(s, &beat, on_stored, st))
        return true;
    if (reserved)
        sending_unreserve(s->sending, 1);
    return false;
}

bool storing_start(struct serve *s, const struct request *r, const struct arrival *a,
                   const struct storing_facts *facts) {
    struct storing_queue *q = s->storing;
    struct storing *st = storing_new(s, a, &r->agent);
    st->had_verdict = facts->had_verdict;
    if (!ask(st, facts, true)) {
        storing_free(st);
        return false;
    }
    caller_keep(&st->caller, r);
    exchange_watch(r->x, &watcher, st);
    list_push_back(&q->waiting, &st->link);
    if (!timer_pending(&q->budget))
        timer_start(&q->budget, s->shared->config->heartbeat.ack_budget_ms);
    return true;
}

bool storing_move(struct serve *s, struct agent *agent) {
    struct arrival a = {.sequence = agent->beat.held_sequence,
                        .status = agent->beat.status,
                        .body = {agent->body.ptr, agent->body.len},
                        .token = {agent->token.ptr, agent->token.len},
                        .received_ms = agent->beat.received_ms};
    struct storing *st = storing_new(s, &a, &agent->id);
    st->in_memory = true;
    if (!ask(st, &(struct storing_facts){.settled = agent->beat.settled, .urgent = true}, false)) {
        storing_free(st);
        return false;
    }
    list_push_back(&s->storing->others, &st->link);
    return true;
}

/* ---- life ---- */

struct storing_queue *storing_queue_new(struct serve *s, storing_due *on_due) {
    struct storing_queue *q = must_zalloc(sizeof *q);
    q->serve = s;
    q->on_due = on_due;
    list_init(&q->waiting);
    list_init(&q->others);
    timer_init(&q->budget, s->loop, on_budget_over, q);
    return q;
}

static void free_all(struct list *l) {
    list_each_safe (at, l)
        storing_free(container_of(at, struct storing, link));
}

void storing_queue_free(struct storing_queue *q) {
    timer_stop(&q->budget);
    free_all(&q->waiting);
    free_all(&q->others);
    free(q);
}
