#include "agents/run_inside.h"

#include "agents/progress.h"
#include "base/clock.h"
#include "base/panic.h"
#include "stub/descriptors.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    LOOK_MS = 20,         /* how often a stage's end is looked for */
    LINGER_US = 30000000, /* for restarts and goodbyes under way */
    SECOND_US = 1000000,
    SAMPLE_EVERY = 5, /* looks: 10 times a second */
    SHOW_EVERY = 12,  /* looks: 4 times a second */
    SETTLE_MS = 200,
    SETTLE_TRIES = 25,
    DESCRIPTORS_OWN = 128, /* not for agents: timers, probes, files */
    PORTS_PER_SOURCE = 10000,
};

/* ---- stages end ---- */

static void on_restart_due(void *arg) {
    struct run *r = arg;
    const struct stage *s = run_stage(r);
    double per_minute = (double)r->o->agents * s->percent / 100;
    int64_t gap_us = (int64_t)(60e6 / per_minute), now_us = clock_mono_us();
    if (now_us >= r->stage_us + (int64_t)s->for_us)
        return;
    for (; r->restart_us <= now_us; r->restart_us += gap_us > 0 ? gap_us : 1)
        fleet_restart_next(r->fleet, r->restart_us);
    pacer_set(&r->restart, r->restart_us);
}

static bool all_connected(struct run *r, const int32_t *state) {
    struct record_section *section = &r->out->record.section[r->out->record.section_count - 1];
    if (state[LIFE_CONNECTED] < (int32_t)r->o->agents)
        return state[LIFE_CONNECTED] + state[LIFE_STOPPED] == (int32_t)r->o->agents;
    section->all_connected_us = fleet_last_connected_us(r->fleet) - r->stage_us;
    return true;
}

/* Is the stage over, by itself or by its time? */
static bool is_over(struct run *r, int64_t now_us) {
    const struct stage *s = run_stage(r);
    int32_t state[LIFE_STATE_COUNT];
    int64_t spent_us = now_us - r->stage_us;
    bool over = spent_us >= (int64_t)s->for_us;
    fleet_states(r->fleet, state);
    if (s->kind == STAGE_CONNECT)
        return all_connected(r, state) ||
               spent_us >= (s->for_us > 0 ? (int64_t)s->for_us : r->o->give_up_us);
    if (s->kind == STAGE_LEAVE)
        over = spent_us >= (int64_t)s->within_us &&
               state[LIFE_CONNECTED] + state[LIFE_CONNECTING] + state[LIFE_LOCAL] == 0;
    if (s->kind == STAGE_RESTART)
        over = over && state[LIFE_CONNECTING] == 0;
    if (s->kind == STAGE_LEAVE || s->kind == STAGE_RESTART)
        return over || spent_us >= (int64_t)(s->for_us + s->within_us) + LINGER_US;
    return over && (s->kind != STAGE_RUN || child_ended(&r->command));
}

static void add_row(struct run *r, int64_t now_us) {
    struct record_row row = {.at_us = run_since_start(r, now_us),
                             .stage = (int32_t)r->stage,
                             .scene = run_look_around(r)};
    fleet_states(r->fleet, row.state);
    record_row_add(&r->out->record, &row);
    r->row_us = now_us;
}

static void finish(struct run *r);

/* The connect cost counts from the first measured stage on: preparing ten thousand agents would
 * take longer than what is measured. */
static void next_stage(void *arg) {
    struct run *r = arg;
    struct scene scene = run_look_around(r);
    int64_t now_us = clock_mono_us();
    record_section_end(&r->out->record, run_since_start(r, now_us), &scene);
    if (r->out->partial || r->stage + 1 >= r->o->scenario->count) {
        add_row(r, now_us);
        finish(r);
        return;
    }
    r->stage++;
    run_begin_stage(r);
    add_row(r, clock_mono_us()); /* where plots of the stage begin */
}

static void set_cost(struct run *r, const struct stage *next) {
    char json[64];
    if (!r->o->rig.stub || next->unmeasured || !run_stage(r)->unmeasured)
        return;
    (void)snprintf(json, sizeof json, "{\"connect_cost_ms\":%d}", r->o->rig.connect_cost_ms);
    (void)watch_set(r->watch, json);
}

static void end_stage(struct run *r) {
    if (r->ending)
        return;
    r->ending = true;
    if (r->attack)
        attack_stop(r->attack);
    r->attack = NULL;
    pacer_set(&r->restart, INT64_MAX);
    if (r->stage + 1 < r->o->scenario->count)
        set_cost(r, run_stage(r) + 1);
    watch_ask(r->watch, next_stage, r);
}

/* ---- time goes by ---- */

static void show(struct run *r, int64_t now_us) {
    const struct record *record = &r->out->record;
    const struct stage *s = run_stage(r);
    double length_us = (double)(now_us - r->row_us);
    struct progress p = {
        .side = r->out->side,
        .stage = s->name,
        .elapsed_us = now_us - r->stage_us,
        .left_us = s->for_us > 0 && s->kind != STAGE_CONNECT
                       ? r->stage_us + (int64_t)s->for_us - now_us
                       : -1,
        .agents = r->o->agents,
        .open = fleet_open(r->fleet),
        .rate = length_us > 0 ? (double)(tally_calls(&record->tally) - tally_calls(&r->shown)) *
                                    1e6 / length_us
                              : 0,
        .errors = tally_errors(&record->tally),
        .p99_us = (double)hist_quantile(record->calls, 0.99)};
    fleet_states(r->fleet, p.state);
    if (s->kind == STAGE_CONNECT && p.state[LIFE_CONNECTED] > 0) {
        double done = (double)p.state[LIFE_CONNECTED] / (double)r->o->agents;
        p.left_us = (int64_t)((double)p.elapsed_us * (1 - done) / done);
    }
    progress_show(&p);
}

static void on_look(void *arg) {
    struct run *r = arg;
    int64_t now_us = clock_mono_us();
    if (fleet_open(r->fleet) > r->open_most)
        r->open_most = fleet_open(r->fleet);
    rig_drain(r->rig);
    child_drain(&r->command);
    if (++r->looks % SAMPLE_EVERY == 0) {
        int32_t state[LIFE_STATE_COUNT];
        fleet_states(r->fleet, state);
        record_sample_add(&r->out->record, run_since_start(r, now_us), state[LIFE_CONNECTED]);
    }
    if (r->looks % SHOW_EVERY == 0)
        show(r, now_us);
    if (!r->ending && (r->out->partial || is_over(r, now_us)))
        end_stage(r);
    timer_start(&r->look, LOOK_MS);
}

static void on_second(void *arg) {
    struct run *r = arg;
    int64_t now_us = clock_mono_us();
    watch_ask(r->watch, NULL, NULL);
    add_row(r, now_us);
    r->shown = r->out->record.tally;
    int64_t passed = (now_us - r->start_us) / SECOND_US;
    pacer_set(&r->second, r->start_us + (passed + 1) * SECOND_US);
}

static void on_signal(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    struct run *r = arg;
    if (r->out->partial)
        _exit(EXIT_FAILURE); /* twice: our children end with us */
    r->out->partial = true;
    end_stage(r);
}

/* ---- the end ---- */

static int64_t lost_of(const struct run *r) {
    struct fates f = watch_fates(r->watch);
    if (f.received < 0 || r->out->died)
        return -1;
    return f.received - f.delivered - f.superseded - f.expired - f.held;
}

static void fill_figures(struct run *r, int64_t unconnected, int64_t self_bytes) {
    struct outcome *o = r->out;
    struct figures_input in = {.record = &o->record,
                               .agents = o->agents,
                               .unconnected = unconnected,
                               .lost = lost_of(r),
                               .expired = watch_fates(r->watch).expired,
                               .gateway_memory_before = r->gateway_before,
                               .generator_memory_per_agent =
                                   (self_bytes - r->self_before) / (int64_t)o->agents,
                               .connections = (int64_t)r->open_most};
    figures_fill(&in, o->figure);
    o->invalid = figures_invalid(&o->record, o->figure, r->o->max_lag_us);
}

/* What is with the gateway just now is neither held nor delivered: it is asked again. */
static void on_settled(void *arg) {
    struct run *r = arg;
    if (lost_of(r) <= 0 || ++r->settles >= SETTLE_TRIES || r->out->partial)
        loop_stop(&r->loop);
    else
        timer_start(&r->look, SETTLE_MS);
}

static void on_settle(void *arg) {
    struct run *r = arg;
    watch_ask(r->watch, on_settled, r);
}

static void finish(struct run *r) {
    timer_stop(&r->look);
    if (watch_seen(r->watch).turned_away > 0)
        run_note(r, "the stub", "it had no descriptor left, and closed connections at once");
    pacer_set(&r->second, INT64_MAX);
    lag_stop(&r->lag);
    timer_init(&r->look, &r->loop, on_settle, r);
    timer_start(&r->look, SETTLE_MS);
}

/* ---- from the beginning ---- */

static bool choose_target(struct run *r, char why[RUN_WHY]) {
    const struct run_options *o = r->o;
    const char *url = o->url ? o->url : rig_url(r->rig);
    struct span ca = o->url ? o->ca_pem : rig_ca(r->rig);
    if (!target_parse(url, &r->target, why) || !target_resolve(&r->target, why) ||
        !target_trust(&r->target, ca, o->insecure, why))
        return false;
    if (!target_is_loopback(&r->target) && !o->own_target) {
        (void)snprintf(why, RUN_WHY,
                       "%s is another machine: say --i-own-this-target if it is yours to load",
                       r->target.host);
        return false;
    }
    r->target.sources =
        o->sources >= 0 ? (unsigned)o->sources : (unsigned)(o->agents / PORTS_PER_SOURCE + 1);
    (void)snprintf(r->out->url, sizeof r->out->url, "%s", url);
    r->out->sources = r->target.sources;
    return true;
}

static bool make_fleet(struct run *r) {
    const struct run_options *o = r->o;
    size_t descriptors = descriptors_raise();
    size_t room = descriptors > 2 * DESCRIPTORS_OWN ? descriptors - DESCRIPTORS_OWN : 64;
    struct fleet_options options = {.loop = &r->loop,
                                    .target = &r->target,
                                    .identities = o->identities,
                                    .record = &r->out->record,
                                    .rules = o->rules,
                                    .agents = o->agents,
                                    .keep = o->keep,
                                    .resume = o->resume,
                                    .max_open = room < o->agents ? room : o->agents};
    r->out->max_open = options.max_open;
    if (options.max_open < o->agents)
        run_note(r, "descriptors", "fewer than agents: idle connections are closed to make room");
    r->self_before = usage_of(getpid()).memory;
    r->fleet = fleet_new(&options);
    return r->fleet != NULL;
}

static void watch_signals(struct run *r) {
    event_assign(&r->interrupt, r->loop.base, SIGINT, EV_SIGNAL | EV_PERSIST, on_signal, r);
    event_assign(&r->terminate, r->loop.base, SIGTERM, EV_SIGNAL | EV_PERSIST, on_signal, r);
    event_add(&r->interrupt, NULL);
    event_add(&r->terminate, NULL);
}

static bool start(struct run *r) {
    const struct run_options *o = r->o;
    struct watch_options watch = {.loop = &r->loop,
                                  .control_port =
                                      o->url ? o->control_port : rig_stub_control_port(r->rig),
                                  .health_port = o->url ? o->health_port : rig_health_port(r->rig)};
    r->watch = watch_new(&watch);
    bool fine = make_fleet(r) && pacer_init(&r->second, &r->loop, on_second, r) &&
                pacer_init(&r->restart, &r->loop, on_restart_due, r) &&
                lag_start(&r->lag, &r->loop, &r->out->record);
    r->start_us = r->row_us = clock_mono_us();
    r->gateway_before = usage_of(rig_gateway_pid(r->rig)).memory;
    if (!fine)
        return false;
    watch_signals(r);
    timer_init(&r->look, &r->loop, on_look, r);
    timer_start(&r->look, LOOK_MS);
    pacer_set(&r->second, r->start_us + SECOND_US);
    return true;
}

static void on_first_look(void *arg) {
    struct run *r = arg;
    run_begin_stage(r);
    add_row(r, clock_mono_us());
}

static void conduct(struct run *r) {
    r->ending = true; /* until the first stage has begun */
    watch_ask(r->watch, on_first_look, r);
    loop_run(&r->loop);
    progress_clear();
    int32_t state[LIFE_STATE_COUNT];
    fleet_states(r->fleet, state);
    fill_figures(r, (int64_t)r->o->agents - state[LIFE_CONNECTED], usage_of(getpid()).memory);
    event_del(&r->interrupt);
    event_del(&r->terminate);
}

static void clean_up(struct run *r) {
    timer_stop(&r->look);
    if (r->attack)
        attack_stop(r->attack);
    child_stop(&r->command, 1000);
    pacer_release(&r->second);
    pacer_release(&r->restart);
    lag_stop(&r->lag);
    if (r->fleet)
        fleet_free(r->fleet);
    watch_free(r->watch);
}

static enum run_end conduct_loop(struct run *r, char why[RUN_WHY]) {
    loop_init(&r->loop);
    bool fine = start(r);
    if (fine)
        conduct(r);
    else
        (void)snprintf(why, RUN_WHY, "no descriptors left");
    clean_up(r);
    loop_release(&r->loop);
    return fine ? RUN_DONE : RUN_BROKEN;
}

static void init_outcome(struct run *r) {
    struct outcome *out = r->out;
    *out = (struct outcome){.agents = r->o->agents, .agent_bytes = fleet_agent_size()};
    (void)snprintf(out->side, sizeof out->side, "%s", r->o->side);
    enum { NOTES_MAX = 8192 };
    str_init(&out->notes, NOTES_MAX);
    record_init(&out->record, clock_wall_ms());
}

enum run_end run_once(const struct run_options *options, struct outcome *out, char why[RUN_WHY]) {
    struct run r = {.o = options, .out = out, .lag = {.fd = -1}};
    struct rig_options rig = options->rig;
    r.second.fd = r.restart.fd = -1;
    child_init(&r.command);
    if (options->scenario->at[0].unmeasured)
        rig.connect_cost_ms = 0;
    init_outcome(&r);
    r.rig = rig_start(&rig, why);
    enum run_end end = r.rig ? RUN_DONE : RUN_BROKEN;
    if (r.rig && !choose_target(&r, why))
        end = RUN_REFUSED;
    if (end == RUN_DONE)
        end = conduct_loop(&r, why);
    target_release(&r.target);
    if (r.rig)
        rig_stop(r.rig);
    if (end != RUN_DONE)
        outcome_release(out);
    return end;
}

void outcome_release(struct outcome *o) {
    record_release(&o->record);
    str_release(&o->notes);
}
