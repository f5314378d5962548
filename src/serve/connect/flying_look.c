/* It walks like this:
 *
 *   nothing there, too late, no Redis --> the controller, as if there were no shelf (or the
 *                                         refusal, where the limits let him look only)
 *   found: known here from now on, and judged as if it had been before
 *        |-- fresh enough, or a storm --> all aboard are answered from it
 *        '-- else, if there is a place -> followers are answered from it; the leader asks, with
 *                                         patience */
#include "serve/connect/flying_look.h"

#include "base/metric.h"
#include "base/panic.h"
#include "base/secret.h"
#include "serve/cache/shelf.h"
#include "serve/connect/facts.h"
#include "serve/connect/refresh.h"
#include "serve/limits/limiting.h"

#include <stdatomic.h>

static struct span kept_body(const struct passenger *p) {
    return span_from(str_span(&p->kept), p->kept_head);
}

static void ask_controller(struct passenger *p) {
    struct str kept = p->kept; /* p may be gone afterwards */
    size_t head_len = p->kept_head;
    str_init(&p->kept, ABOARD_KEPT_MAX);
    p->ask(p, (struct span){kept.ptr, head_len}, span_from(str_span(&kept), head_len));
    secret_cleanse(kept.ptr, kept.len);
    str_release(&kept);
}

/* What the shelf has is known here from now on. Referenced; NULL where it is not true any more, or
 * something newer is here. Under the agent's lock. */
static struct grant *take_from_shelf(struct passenger *p, struct agent *agent,
                                     const struct looked *found) {
    uint64_t seen = p->flight->purges_seen;
    if (!found->grant || agent->purged > seen || (agent->grant && agent->learnt > seen))
        return NULL;
    agents_set_grant(p->serve->shared->agents, agent, grant_ref(found->grant));
    agent->tags = found->tags;
    agent->learnt = seen;
    agent->outdated = found->stale;
    agent->trusted = 0; /* it may be from before the last start */
    return grant_ref(found->grant);
}

/* As if the grant had been here before. Under the agent's lock. */
static struct plan plan_again(struct passenger *p, struct agent *agent) {
    struct serve *s = p->serve;
    struct plan_facts facts = facts_gather(s, agent, &p->pass, false);
    bool may_choose = p->caller.x && p->denied == ERR_OK;
    bool may_ask = !plan_needs_place(&facts) || (may_choose && refresh_take_place(s));
    struct plan plan = plan_connect(&facts, may_ask);
    if (plan.refresh)
        refresh_want(s->refresh, agent, &p->pass, kept_body(p));
    return plan;
}

/* Takes the reference. */
static struct outcome *make_hit(struct grant *grant) {
    struct outcome *o = must_zalloc(sizeof *o);
    atomic_init(&o->references, 1);
    o->grant = grant;
    o->hit = true;
    o->error = ERR_UPSTREAM_CLOSED; /* should it not open: it did a moment ago */
    return o;
}

/* Whether the leader is to ask the controller all the same. The flight may have ended for its
 * followers; a leader who asks has one. */
static bool settle(struct passenger *p, struct agent *agent, struct list *followers) {
    struct plan plan = plan_again(p, agent);
    bool is_dead = plan.ask && plan.patience_ms == 0; /* too old to be given to anybody */
    if (is_dead)
        return true;
    aboard_disembark(p, followers);
    if (plan.ask)
        aboard_take_off(p, agent);
    p->first_patience_ms = plan.patience_ms;
    p->reason = REPLAY_STALE;
    return plan.ask;
}

static void on_looked(void *arg, const struct looked *found) {
    struct passenger *p = arg;
    struct agents *agents = p->serve->shared->agents;
    bool asks = true;
    struct list followers;
    list_init(&followers);
    p->look = NULL;
    struct agent *agent = agents_lock(agents, &p->pass.id, true);
    struct grant *grant = take_from_shelf(p, agent, found);
    if (grant)
        asks = settle(p, agent, &followers);
    agents_unlock(agents, agent);
    struct outcome *hit = grant ? make_hit(grant) : NULL;
    aboard_tell_followers(&followers, hit);
    if (asks) {
        aboard_outcome_unref(hit);
        ask_controller(p);
        return;
    }
    p->outcome = hit;
    limiting_ended(p->serve, &p->attempt, ATTEMPT_CACHED);
    metric_add(METRIC_CONNECT_HIT, p->caller.x != NULL);
    aboard_answer(p);
    aboard_free(p);
}

bool flying_look(struct passenger *p, const struct request *r) {
    str_add(&p->kept, str_span(&p->serve->head));
    p->kept_head = p->kept.len;
    str_add(&p->kept, r->body);
    if (!p->kept.overflow)
        p->look = shelf_look(p->serve->shelf, &p->pass, on_looked, p);
    if (!p->look)
        aboard_drop_kept(p);
    return p->look != NULL;
}
