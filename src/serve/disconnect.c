/* A disconnect walks like this:
 *
 *   whose token it is -> wait until the agent's beat under way has ended (nobody sends meanwhile)
 *     -> the controller is asked, the agent waits
 *          |-- it said yes: beats received before the disconnect are dropped, the next is a first
 *          '-- anything else: the held beat goes on as if nothing had been */
#include "serve/disconnect.h"

#include "base/clock.h"
#include "base/metric.h"
#include "base/panic.h"
#include "serve/fetch.h"
#include "serve/flush.h"
#include "serve/request.h"

#include <stdlib.h>

enum { ANSWER_MAX = 65536 };

struct leaving {
    struct flush_departure departure;
    struct serve *serve;
    struct caller caller; /* caller.x NULL: the client has left; the disconnect goes on */
    struct agent_id agent;
    uint64_t sequence; /* of the last beat received before */
    struct str head, body;
};

static void leaving_free(struct leaving *l) {
    caller_release(&l->caller);
    str_release(&l->head);
    str_release(&l->body);
    free(l);
}

static void count_dropped(bool dropped) {
    if (!dropped)
        return;
    metric_add(METRIC_BEATS_SUPERSEDED, 1);
    metric_add(METRIC_BEATS_HELD, -1);
}

/* Lets beats flow again, after what the controller said. */
static void unblock(struct leaving *l, bool disconnected) {
    struct agents *agents = l->serve->shared->agents;
    struct agent *agent = agents_lock(agents, &l->agent, true);
    agent->beat.blocked = false;
    if (disconnected)
        count_dropped(beat_disconnected(&agent->beat, l->sequence));
    if (!list_empty(&agent->waiters)) { /* another disconnect of the same agent */
        struct flush_departure *next =
            container_of(agent->waiters.next, struct flush_departure, link);
        list_remove(&next->link);
        agent->beat.blocked = true;
        mailbox_post(l->serve->shared->mailbox[next->worker], &next->go);
    } else if (agent->beat.held && !agent->beat.sending) {
        flush_schedule(l->serve, agent);
    }
    agents_unlock(agents, agent);
}

static void on_answered(void *arg, const struct fetched *result) {
    struct leaving *l = arg;
    unblock(l, result->error == ERR_OK && result->status / 100 == 2);
    if (l->caller.x && result->error == ERR_OK)
        caller_answer(l->serve, &l->caller, result->status, result->content_type, SPAN_NONE,
                      result->body);
    else if (l->caller.x)
        caller_refuse(l->serve, &l->caller, result->error);
    leaving_free(l);
}

static void ask(struct leaving *l) {
    struct call_request call = {.head = str_span(&l->head), .body = str_span(&l->body)};
    fetch_start(l->serve, &call, ANSWER_MAX, on_answered, l);
}

static void on_go(struct letter *letter, void *receiver) {
    struct serve *s = receiver;
    struct leaving *l = container_of(letter, struct leaving, departure.go);
    if (s->closing)
        leaving_free(l);
    else
        ask(l);
}

static void on_gone(void *arg) {
    struct leaving *l = arg;
    l->caller.x = NULL;
}

static const struct exchange_watcher watcher = {on_gone, NULL, NULL};

static struct leaving *leaving_new(struct serve *s, const struct request *r) {
    struct leaving *l = must_zalloc(sizeof *l);
    l->serve = s;
    l->agent = r->agent;
    l->departure.worker = s->worker;
    l->departure.go.deliver = on_go;
    caller_keep(&l->caller, r);
    request_spell_upstream(s, r);
    str_init(&l->head, s->head.len);
    str_add(&l->head, str_span(&s->head));
    str_init(&l->body, r->body.len);
    str_add(&l->body, r->body);
    return l;
}

void disconnect_journey(struct serve *s, struct request *r) {
    request_authenticate(s, r);
    enum err error = request_authorize(s, r);
    if (error == ERR_OK && !r->has_agent)
        error = ERR_BAD_AGENT_ID;
    if (error != ERR_OK) {
        request_refuse(s, r, error);
        return;
    }
    struct leaving *l = leaving_new(s, r);
    exchange_watch(r->x, &watcher, l);
    struct agents *agents = s->shared->agents;
    struct agent *agent = agents_lock(agents, &r->agent, true);
    bool must_wait = agent->beat.sending || agent->beat.blocked;
    l->sequence = agent->beat.sequence;
    if (must_wait)
        list_push_back(&agent->waiters, &l->departure.link);
    agent->beat.blocked = true;
    agents_unlock(agents, agent);
    if (!must_wait)
        ask(l);
}
