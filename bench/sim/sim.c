#include "sim/sim.h"

#include "base/panic.h"
#include "rules/gate/gate.h"

#include <stdlib.h>
#include <string.h>

enum {
    PATIENCE_US = 10 * SIM_SECOND,
    WAIT_US = 8 * SIM_SECOND,
    LOCAL_US = 300 * SIM_SECOND,
    RETRIES = 3,
    NEVER = -1,
};

static const int64_t pause_us[RETRIES] = {1 * SIM_SECOND, 2 * SIM_SECOND, 4 * SIM_SECOND};

/* ---- what happens when ---- */

enum what { ARRIVE, LEAVE, IMPATIENT, DONE, PROBE };

struct event {
    int64_t at_us;
    uint64_t order; /* of those at the same time the earlier made goes first */
    enum what what;
    int agent;
    int attempt;
};

struct agent {
    struct gate_ticket ticket;
    int attempt; /* a number; events of an older one are nobody's */
    int tries;   /* since it last worked alone */
    bool waits;  /* for an answer */
    bool asked;  /* the controller has its secret, or will get it */
    bool queued; /* at the gate */
    bool cached, connected, told;
    int64_t since_us;
};

struct job {
    int agent, attempt;
};

struct sim {
    const struct sim_setup *setup;
    struct sim_result *result;
    struct agent *agents;
    struct gate gate;
    struct event *heap;
    size_t count, cap;
    uint64_t order;
    struct job *jobs; /* a ring: what the controller has not begun */
    size_t first_job, job_count, job_cap;
    int busy; /* processors */
    int connected;
    int64_t now_us;
    uint32_t random;
};

static uint32_t draw(struct sim *s) {
    s->random ^= s->random << 13;
    s->random ^= s->random >> 17;
    s->random ^= s->random << 5;
    return s->random;
}

static bool is_before(const struct event *a, const struct event *b) {
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void swap(struct event *a, struct event *b) {
    struct event keep = *a;
    *a = *b;
    *b = keep;
}

static void later(struct sim *s, int64_t at_us, enum what what, int agent, int attempt) {
    if (s->count == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 1024;
        s->heap = must_realloc(s->heap, s->cap * sizeof *s->heap);
    }
    size_t i = s->count++;
    s->heap[i] = (struct event){at_us, s->order++, what, agent, attempt};
    for (; i > 0 && is_before(&s->heap[i], &s->heap[(i - 1) / 2]); i = (i - 1) / 2)
        swap(&s->heap[i], &s->heap[(i - 1) / 2]);
}

static struct event next(struct sim *s) {
    struct event top = s->heap[0];
    s->heap[0] = s->heap[--s->count];
    for (size_t i = 0;;) {
        size_t least = i, left = 2 * i + 1, right = left + 1;
        if (left < s->count && is_before(&s->heap[left], &s->heap[least]))
            least = left;
        if (right < s->count && is_before(&s->heap[right], &s->heap[least]))
            least = right;
        if (least == i)
            return top;
        swap(&s->heap[i], &s->heap[least]);
        i = least;
    }
}

/* ---- the controller ---- */

static bool is_down(const struct sim *s) {
    return s->setup->down_from_us > 0 && s->now_us >= s->setup->down_from_us &&
           s->now_us < s->setup->down_until_us;
}

static int64_t cost_us(struct sim *s) {
    bool slow = s->setup->slow_from_us > 0 && s->now_us >= s->setup->slow_from_us;
    bool swings = s->setup->swing > 0 && s->now_us / s->setup->swing_us % 2 == 1;
    int64_t cost = s->setup->cost_us * (slow ? 2 : 1) * (swings ? s->setup->swing : 1);
    return cost + (int64_t)(draw(s) % (uint32_t)(cost / 5)) - cost / 10; /* a tenth up and down */
}

static void compare(struct sim *s, struct job job) {
    s->busy++;
    later(s, s->now_us + cost_us(s), DONE, job.agent, job.attempt);
}

static void note_load(struct sim *s) {
    int at_once = s->busy + (int)s->job_count;
    if (at_once > s->result->most_at_once)
        s->result->most_at_once = at_once;
}

static void submit(struct sim *s, int agent) {
    struct job job = {agent, s->agents[agent].attempt};
    s->agents[agent].asked = true;
    if (s->busy < s->setup->processors)
        compare(s, job);
    else
        s->jobs[(s->first_job + s->job_count++) % s->job_cap] = job;
    note_load(s);
}

static void begin_next_job(struct sim *s) {
    s->busy--;
    if (s->job_count == 0)
        return;
    struct job job = s->jobs[s->first_job];
    s->first_job = (s->first_job + 1) % s->job_cap;
    s->job_count--;
    compare(s, job);
}

/* ---- an agent ---- */

static void connected(struct sim *s, struct agent *a) {
    int64_t waited = s->now_us - a->since_us;
    a->waits = false;
    a->connected = true;
    s->connected++;
    if (waited > s->result->longest_wait_us)
        s->result->longest_wait_us = waited;
    int n = s->connected, all = s->setup->agents;
    if (n == (all + 1) / 2)
        s->result->half_us = s->now_us;
    if (n == all - all / 10)
        s->result->most_us = s->now_us;
    if (n == all)
        s->result->all_us = s->now_us;
}

/* No answer, or one that it takes for none. */
static void try_later(struct sim *s, int agent) {
    struct agent *a = &s->agents[agent];
    int64_t pause = a->tries < RETRIES ? pause_us[a->tries] : LOCAL_US;
    a->waits = false;
    a->attempt++;
    a->tries = a->tries < RETRIES ? a->tries + 1 : 0;
    later(s, s->now_us + pause, ARRIVE, agent, a->attempt);
}

static void refused(struct sim *s, int agent, int64_t after_s) {
    struct agent *a = &s->agents[agent];
    s->result->refusals++;
    s->result->refused_in_time += a->told;
    a->told = s->setup->obeys;
    if (s->setup->gives_up_when_refused)
        a->tries = RETRIES;
    if (!s->setup->obeys) {
        try_later(s, agent);
        return;
    }
    a->waits = false;
    a->attempt++;
    later(s, s->now_us + after_s * SIM_SECOND + draw(s) % 50000, ARRIVE, agent, a->attempt);
}

/* ---- the gateway ---- */

static struct gate_wish wish_of(int agent) {
    return (struct gate_wish){
        .class = GATE_CONNECT, .wait_us = WAIT_US, .who = (uint64_t)agent + 1};
}

static void refuse(struct sim *s, int agent) {
    struct gate_wish wish = wish_of(agent);
    refused(s, agent, gate_retry_after_s(&s->gate, &wish, draw(s), s->now_us));
}

static void end_call(struct sim *s, int agent, enum gate_result result) {
    gate_answered(&s->gate, &s->agents[agent].ticket, result, s->now_us);
    gate_out(&s->gate, &s->agents[agent].ticket, s->now_us);
}

static void let_in(struct sim *s, int agent) {
    s->agents[agent].queued = false;
    if (!is_down(s)) {
        submit(s, agent);
        return;
    }
    end_call(s, agent, GATE_FAILED);
    try_later(s, agent);
}

static void call_next(struct sim *s) {
    struct gate_ticket *t;
    enum gate_answer answer;
    while ((t = gate_next(&s->gate, GATE_CONNECT, s->now_us, &answer)) != NULL) {
        int agent = (int)(container_of(t, struct agent, ticket) - s->agents);
        if (answer == GATE_IN) {
            let_in(s, agent);
            continue;
        }
        s->agents[agent].queued = false;
        refuse(s, agent);
    }
}

static void ask_gate(struct sim *s, int agent) {
    struct agent *a = &s->agents[agent];
    struct gate_wish wish = wish_of(agent);
    if (a->cached) {
        connected(s, a);
        return;
    }
    if (a->asked) /* its former call is still in the air: it follows */
        return;
    switch (gate_ask(&s->gate, &a->ticket, &wish, s->now_us)) {
    case GATE_IN:
        let_in(s, agent);
        break;
    case GATE_WAITS:
        a->queued = true;
        later(s, s->now_us + a->ticket.patience_us, IMPATIENT, agent, a->attempt);
        break;
    default:
        refuse(s, agent);
    }
    call_next(s);
}

static void leave_gate(struct sim *s, struct agent *a) {
    if (a->queued)
        gate_out(&s->gate, &a->ticket, s->now_us);
    a->queued = false;
}

/* Who asks each second whether the controller is there. */
static void probe(struct sim *s) {
    struct gate_ticket ticket;
    struct gate_wish wish = {.class = GATE_PROBE};
    if (gate_ask(&s->gate, &ticket, &wish, s->now_us) == GATE_IN) {
        gate_answered(&s->gate, &ticket, is_down(s) ? GATE_FAILED : GATE_FINE, s->now_us);
        gate_out(&s->gate, &ticket, s->now_us);
    }
    call_next(s);
    later(s, s->now_us + SIM_SECOND, PROBE, 0, 0);
}

/* ---- what happens ---- */

static void arrive(struct sim *s, int agent) {
    struct agent *a = &s->agents[agent];
    a->waits = true;
    a->since_us = s->now_us;
    later(s, s->now_us + PATIENCE_US, LEAVE, agent, a->attempt);
    if (!s->setup->direct)
        ask_gate(s, agent);
    else if (is_down(s))
        try_later(s, agent);
    else
        submit(s, agent);
}

static void answered(struct sim *s, const struct event *e) {
    struct agent *a = &s->agents[e->agent];
    s->result->bcrypts++;
    begin_next_job(s);
    if (s->setup->direct) {
        if (a->waits && a->attempt == e->attempt)
            connected(s, a);
        else
            s->result->wasted++;
        return;
    }
    end_call(s, e->agent, GATE_FINE);
    a->asked = false;
    a->cached = true;
    if (a->waits)
        connected(s, a);
    call_next(s);
}

static void happen(struct sim *s, const struct event *e) {
    struct agent *a = &s->agents[e->agent];
    bool is_current = a->attempt == e->attempt && !a->connected;
    if (e->what == DONE) {
        answered(s, e);
    } else if (e->what == PROBE) {
        probe(s);
    } else if (e->what == ARRIVE && is_current) {
        arrive(s, e->agent);
    } else if (e->what == LEAVE && is_current && a->waits) {
        leave_gate(s, a);
        try_later(s, e->agent);
    } else if (e->what == IMPATIENT && is_current && a->queued) {
        leave_gate(s, a);
        s->result->dropped++;
        refuse(s, e->agent);
    }
}

/* ---- the whole ---- */

static void begin(struct sim *s) {
    const struct sim_setup *setup = s->setup;
    struct gate_policy policy = {.breaker = {.failures = 5,
                                             .window_us = 10 * SIM_SECOND,
                                             .calls_min = 20,
                                             .percent = 50,
                                             .open_us = 5 * SIM_SECOND,
                                             .open_max_us = 60 * SIM_SECOND},
                                 .places = {[GATE_CONNECT] = setup->places,
                                            [GATE_HEARTBEAT] = 32,
                                            [GATE_CONTROL] = 16,
                                            [GATE_API] = 128,
                                            [GATE_LONG] = 256,
                                            [GATE_STREAM] = 512,
                                            [GATE_PROBE] = 1},
                                 .adaptive = true,
                                 .ramp_us = 30 * SIM_SECOND,
                                 .waiting_max = 4096,
                                 .retry_reach_s = 300};
    gate_init(&s->gate, &policy);
    s->agents = must_zalloc((size_t)setup->agents * sizeof *s->agents);
    s->job_cap = (size_t)setup->agents * 64;
    s->jobs = must_zalloc(s->job_cap * sizeof *s->jobs);
    for (int i = 0; i < setup->agents; i++)
        later(s, (int64_t)(draw(s) % (uint64_t)setup->within_us), ARRIVE, i, 0);
    if (!setup->direct)
        later(s, 0, PROBE, 0, 0);
}

static void end(struct sim *s) {
    for (int i = 0; i < s->setup->agents; i++)
        s->result->wasted += s->agents[i].cached && !s->agents[i].connected;
    gate_release(&s->gate);
    free(s->agents);
    free(s->jobs);
    free(s->heap);
}

void sim_run(const struct sim_setup *setup, struct sim_result *out) {
    struct sim s = {.setup = setup, .result = out, .random = setup->seed * 2654435761U + 1};
    int64_t second = 0, last = setup->until_us / SIM_SECOND;
    *out = (struct sim_result){.half_us = NEVER, .most_us = NEVER, .all_us = NEVER};
    begin(&s);
    while (s.count > 0 && s.heap[0].at_us < setup->until_us) {
        struct event e = next(&s);
        for (; second < e.at_us / SIM_SECOND && second < SIM_SECONDS_MAX; second++)
            out->connected[second] = s.connected;
        s.now_us = e.at_us;
        happen(&s, &e);
    }
    for (; second < last && second < SIM_SECONDS_MAX; second++)
        out->connected[second] = s.connected;
    end(&s);
}
