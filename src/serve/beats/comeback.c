#include "serve/beats/comeback.h"

#include "base/clock.h"
#include "base/metric.h"
#include "base/panic.h"
#include "serve/beats/flush.h"
#include "serve/beats/storing.h"
#include "serve/beats/verdict.h"

#include <stdatomic.h>
#include <stdlib.h>

struct comeback {
    struct list told; /* replies that are awaited */
    size_t count;
};

/* Something said to Redis, until it has answered. */
struct told {
    struct list link;
    struct serve *serve;
    struct agent_id id;
    uint64_t settled;
    uint64_t lease;  /* that was asked for, or given back; else 0 */
    bool lease_open; /* as in the agent */
    bool lift;
};

static struct told *told_new(struct serve *s, const struct agent *agent) {
    struct told *t = must_zalloc(sizeof *t);
    *t = (struct told){.serve = s, .id = agent->id, .settled = agent->beat.settled};
    list_push_back(&s->comeback->told, &t->link);
    s->comeback->count++;
    return t;
}

static void told_free(struct told *t) {
    list_remove(&t->link);
    t->serve->comeback->count--;
    free(t);
}

/* It has been heard, unless there is more by now. */
static void forget(struct told *t) {
    struct agents *agents = t->serve->shared->agents;
    struct agent *agent = agents_lock(agents, &t->id, false);
    if (!agent)
        return;
    if (t->lift)
        agent->lift_untold = false;
    else if (agent->beat.settled == t->settled)
        agent->untold = false;
    agents_unlock(agents, agent);
}

/* The lease may be ours still: it is given back again when Redis comes back. */
static void keep_lease(struct told *t) {
    struct agents *agents = t->serve->shared->agents;
    struct agent *agent = t->lease != 0 ? agents_lock(agents, &t->id, false) : NULL;
    if (!agent)
        return;
    if (agent->lease == 0) {
        agent->lease = t->lease;
        agent->lease_open = t->lease_open;
    }
    agents_unlock(agents, agent);
}

static void on_told(void *arg, const struct redis_reply *reply) {
    struct told *t = arg;
    if (reply)
        forget(t);
    else
        keep_lease(t);
    if (reply && !t->lift)
        metric_add(METRIC_BEATS_SUPERSEDED, redis_integer(reply));
    told_free(t);
}

/* ---- one agent ---- */

static bool tell(struct serve *s, struct agent *agent, bool gives_back) {
    const struct beat_state *b = &agent->beat;
    struct delivery d = {.id = agent->id,
                         .sequence = b->settled,
                         .status = b->forwarded_status,
                         .claim = gives_back ? agent->lease : 0};
    struct durable_heard heard = {.delivery = &d,
                                  .status_known = b->status_known,
                                  .claim_open = gives_back && agent->lease_open,
                                  .sent_ms = b->last_forward_ms};
    struct durable_verdict verdict = verdict_to_share(agent);
    struct told *t = told_new(s, agent);
    t->lease = d.claim;
    t->lease_open = heard.claim_open;
    if (!durable_tell(s, &heard, &verdict, on_told, t)) {
        told_free(t);
        return false;
    }
    if (gives_back) {
        agent->lease = 0;
        agent->lease_open = false;
    }
    return true;
}

void comeback_note(struct serve *s, struct agent *agent) {
    if (!s->redis)
        return;
    agent->untold = true;
    if (!durable_is_here(s))
        atomic_store(&s->shared->beats.spoke, true);
    else
        (void)tell(s, agent, true); /* else when it comes back */
}

void comeback_give_back_later(struct serve *s, const struct delivery *d, bool open) {
    struct agents *agents = s->shared->agents;
    struct agent *agent = agents_lock(agents, &d->id, true);
    agent->untold = true;
    agent->lease = d->claim;
    agent->lease_open = open;
    agents_unlock(agents, agent);
}

static bool lift(struct serve *s, struct agent *agent) {
    struct told *t = told_new(s, agent);
    t->lift = true;
    if (durable_lift(s, &agent->id, on_told, t))
        return true;
    told_free(t);
    return false;
}

void comeback_note_lift(struct serve *s, struct agent *agent) {
    if (!s->redis)
        return;
    agent->lift_untold = true;
    if (durable_is_here(s))
        (void)lift(s, agent);
}

/* ---- all of them ---- */

static bool take(struct serve *s, struct agent *agent);

static bool is_under_way(const struct agent *agent) {
    return agent->beat.sending || agent->beat.blocked;
}

static void take_again(struct serve *s, const struct told *t) {
    struct agents *agents = s->shared->agents;
    struct agent *agent = agents_lock(agents, &t->id, false);
    if (!agent)
        return;
    if (agent->lease == t->lease && is_under_way(agent))
        (void)take(s, agent);
    agents_unlock(agents, agent);
}

/* Where somebody else has the agent nothing can be done about it. */
static void on_taken(void *arg, const struct redis_reply *reply) {
    struct told *t = arg;
    if (reply && redis_integer(reply) == DURABLE_TAKEN_LATE)
        take_again(t->serve, t);
    told_free(t);
}

/* A call that began without Redis keeps the agent to itself until it has ended. */
static bool take(struct serve *s, struct agent *agent) {
    if (agent->lease == 0)
        agent->lease = durable_new_claim(s);
    struct told *t = told_new(s, agent);
    t->lease = agent->lease;
    if (durable_take(s, &agent->id, agent->lease, on_taken, t))
        return true;
    told_free(t);
    return false;
}

struct visit {
    struct serve *serve;
    bool complete;
};

static void visit_agent(void *arg, struct agent *agent) {
    struct visit *v = arg;
    struct serve *s = v->serve;
    bool fine = v->complete;
    if (fine && agent->lift_untold)
        fine = lift(s, agent);
    if (fine && agent->untold)
        fine = tell(s, agent, !is_under_way(agent));
    if (fine && is_under_way(agent))
        fine = take(s, agent);
    else if (fine && agent->beat.held)
        fine = storing_move(s, agent);
    v->complete = fine;
}

bool comeback_tell(struct serve *s, redis_done *on_hello, void *arg) {
    struct visit v = {s, true};
    if (!durable_hello(s, atomic_load(&s->shared->beats.spoke), on_hello, arg))
        return false;
    agents_each_owned(s->shared->agents, s->worker, s->shared->worker_count, visit_agent, &v);
    return v.complete;
}

static void gather(void *arg, struct agent *agent) {
    struct visit *v = arg;
    if (v->complete && agent->beat.held && !agent->beat.sending && !agent->beat.blocked)
        v->complete = storing_move(v->serve, agent);
}

bool comeback_gather(struct serve *s) {
    struct visit v = {s, true};
    agents_each_owned(s->shared->agents, s->worker, s->shared->worker_count, gather, &v);
    return v.complete;
}

static void make_appointment(void *arg, struct agent *agent) {
    struct serve *s = arg;
    if (!agent->beat.held || agent->beat.sending || agent->beat.blocked)
        return;
    agent->scheduled_ms = -1;
    flush_schedule(s, agent);
}

void comeback_go_on(struct serve *s) {
    if (s->flush && !s->closing)
        agents_each_owned(s->shared->agents, s->worker, s->shared->worker_count, make_appointment,
                          s);
}

/* ---- life ---- */

bool comeback_is_idle(const struct serve *s) {
    return !s->comeback || s->comeback->count == 0;
}

struct comeback *comeback_new(struct serve *s) {
    if (!s->redis)
        return NULL;
    struct comeback *b = must_zalloc(sizeof *b);
    list_init(&b->told);
    return b;
}

void comeback_free(struct comeback *b) {
    if (!b)
        return;
    list_each_safe (at, &b->told)
        told_free(container_of(at, struct told, link));
    free(b);
}
