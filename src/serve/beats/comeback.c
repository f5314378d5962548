#include "serve/beats/comeback.h"

#include "serve/beats/appointments.h"
#include "serve/beats/storing.h"
#include "serve/beats/telling.h"

#include <stdatomic.h>

struct visit {
    struct serve *serve;
    bool complete;
};

static bool is_under_way(const struct agent *agent) {
    return agent->beat.sending || agent->beat.blocked;
}

static void visit_agent(void *arg, struct agent *agent) {
    struct visit *v = arg;
    if (!v->complete)
        return;
    v->complete = telling_catch_up(v->serve, agent);
    if (v->complete && agent->beat.held && !is_under_way(agent))
        v->complete = storing_move(v->serve, agent);
}

bool comeback_tell(struct serve *s, redis_done *on_hello, void *arg) {
    struct visit v = {s, true};
    uint64_t arrivals = atomic_load(&s->shared->beats.arrivals);
    if (!durable_hello(s, atomic_load(&s->shared->beats.spoke), on_hello, arg))
        return false;
    agents_each_owned(s->shared->agents, s->worker, s->shared->worker_count, visit_agent, &v);
    if (v.complete)
        telling_note_complete(s, arrivals);
    return v.complete;
}

static void gather(void *arg, struct agent *agent) {
    struct visit *v = arg;
    if (v->complete && agent->beat.held && !is_under_way(agent))
        v->complete = storing_move(v->serve, agent);
}

bool comeback_gather(struct serve *s) {
    struct visit v = {s, true};
    agents_each_owned(s->shared->agents, s->worker, s->shared->worker_count, gather, &v);
    return v.complete;
}

static void make_appointment(void *arg, struct agent *agent) {
    struct serve *s = arg;
    if (!agent->beat.held || is_under_way(agent))
        return;
    agent->scheduled_ms = -1;
    appointments_schedule(s, agent);
}

void comeback_go_on(struct serve *s) {
    if (s->appointments && !s->closing)
        agents_each_owned(s->shared->agents, s->worker, s->shared->worker_count, make_appointment,
                          s);
}
