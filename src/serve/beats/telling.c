#include "serve/beats/telling.h"

#include "base/clock.h"
#include "base/metric.h"
#include "base/panic.h"
#include "rules/agents/verdict.h"

#include <stdatomic.h>
#include <stdlib.h>

struct telling {
    struct list told; /* replies that are awaited */
    size_t count;
    uint64_t arrivals; /* of Redis, that was told everything */
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
    list_push_back(&s->telling->told, &t->link);
    s->telling->count++;
    return t;
}

static void told_free(struct told *t) {
    list_remove(&t->link);
    t->serve->telling->count--;
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

static struct durable_verdict verdict_to_share(const struct agent *agent, int64_t now_ms) {
    const struct verdict *v = agent->verdict;
    int64_t left_ms = verdict_left_ms(agent, now_ms);
    if (left_ms == 0)
        return (struct durable_verdict){0};
    return (struct durable_verdict){v->status, v->token, v->message, left_ms};
}

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
    struct durable_verdict verdict = verdict_to_share(agent, clock_mono_ms());
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

void telling_note(struct serve *s, struct agent *agent) {
    if (!s->redis)
        return;
    agent->untold = true;
    if (!durable_is_here(s))
        atomic_store(&s->shared->beats.spoke, true);
    else
        (void)tell(s, agent, true); /* else when it comes back */
}

void telling_give_back_later(struct serve *s, const struct delivery *d, bool open) {
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

void telling_note_lift(struct serve *s, struct agent *agent) {
    if (!s->redis)
        return;
    agent->lift_untold = true;
    if (durable_is_here(s))
        (void)lift(s, agent);
}

/* ---- what is under way ---- */

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
    if (durable_take(s, &agent->id, agent->lease, true, on_taken, t))
        return true;
    told_free(t);
    return false;
}

/* ---- when it has come back ---- */

bool telling_catch_up(struct serve *s, struct agent *agent) {
    if (agent->lift_untold && !lift(s, agent))
        return false;
    if (agent->untold && !tell(s, agent, !is_under_way(agent)))
        return false;
    return !is_under_way(agent) || take(s, agent);
}

bool telling_is_complete(const struct serve *s) {
    return s->telling->arrivals == atomic_load(&s->shared->beats.arrivals);
}

void telling_note_complete(struct serve *s, uint64_t arrivals) {
    s->telling->arrivals = arrivals;
}

/* ---- life ---- */

bool telling_is_idle(const struct serve *s) {
    return !s->telling || s->telling->count == 0;
}

struct telling *telling_new(struct serve *s) {
    if (!s->redis)
        return NULL;
    struct telling *t = must_zalloc(sizeof *t);
    list_init(&t->told);
    return t;
}

void telling_free(struct telling *t) {
    if (!t)
        return;
    list_each_safe (at, &t->told)
        told_free(container_of(at, struct told, link));
    free(t);
}
