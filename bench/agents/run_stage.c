/* How a stage of a run begins: what agents, strangers, controller and gateway are told. */
#include "agents/run_inside.h"

#include "base/clock.h"

#include <stdio.h>
#include <unistd.h>

const struct stage *run_stage(const struct run *r) {
    return &r->o->scenario->at[r->stage];
}

int64_t run_since_start(const struct run *r, int64_t us) {
    return us - r->start_us;
}

void run_note(struct run *r, const char *what, const char *why) {
    str_addf(&r->out->notes, "%s: %s\n", what, why);
}

struct scene run_look_around(const struct run *r) {
    return (struct scene){.seen = watch_seen(r->watch),
                          .gateway = usage_of(rig_gateway_pid(r->rig)),
                          .controller = usage_of(rig_controller_pid(r->rig)),
                          .self = usage_of(getpid())};
}

static void begin_attack(struct run *r, const struct stage *s) {
    struct attack_options options = {.loop = &r->loop,
                                     .target = &r->target,
                                     .identities = r->o->identities,
                                     .record = &r->out->record,
                                     .agents = r->o->agents,
                                     .kind = s->attack,
                                     .rate = s->rate};
    r->attack = attack_start(&options);
    if (!r->attack)
        run_note(r, s->name, "no descriptor left");
}

static void skip(struct run *r, const struct stage *s, const char *why) {
    r->out->record.section[r->out->record.section_count - 1].skipped = true;
    run_note(r, s->name, why);
}

static void begin_controller(struct run *r, const struct stage *s) {
    char json[160], why[RIG_WHY];
    struct str set;
    if (s->state == STATE_PAUSE || s->state == STATE_RESUME || s->state == STATE_KILL) {
        if (!rig_do(r->rig, s, why))
            skip(r, s, why);
        return;
    }
    str_init_fixed(&set, json, sizeof json);
    STR_ADD(&set, "{");
    if (s->state)
        str_addf(&set, "\"outage\":\"%s\",",
                 s->state == STATE_UP ? "off" : stage_state_name(s->state));
    if (s->delay_us >= 0)
        str_addf(&set, "\"delay_ms\":%.0f,", s->delay_us / 1000);
    if (s->fail >= 0)
        str_addf(&set, "\"fail_next\":%.0f,\"fail_status\":503,", s->fail);
    set.len--; /* the last comma */
    STR_ADD(&set, "}");
    str_add_char(&set, '\0');
    if (!watch_set(r->watch, json))
        skip(r, s, "skipped: the controller has no control port here");
}

static void begin_gateway(struct run *r, const struct stage *s) {
    char why[RIG_WHY];
    if (!rig_do(r->rig, s, why))
        skip(r, s, why);
    else if (s->kind == STAGE_GATEWAY && s->state == STATE_KILL)
        r->out->died = true;
}

static void begin_command(struct run *r, const struct stage *s) {
    const char *argv[] = {"/bin/sh", "-c", s->command, NULL};
    if (!child_start(&r->command, argv, environ, 0))
        skip(r, s, "the command cannot be started");
}

void run_begin_stage(struct run *r) {
    const struct stage *s = run_stage(r);
    struct scene scene = run_look_around(r);
    int64_t now_us = clock_mono_us();
    r->stage_us = now_us;
    r->ending = false;
    record_section_begin(&r->out->record, s, run_since_start(r, now_us), &scene);
    if (s->kind == STAGE_CONNECT)
        fleet_connect(r->fleet, now_us, (int64_t)s->within_us);
    else if (s->kind == STAGE_LEAVE)
        fleet_leave(r->fleet, now_us, (int64_t)s->within_us);
    else if (s->kind == STAGE_ATTACK)
        begin_attack(r, s);
    else if (s->kind == STAGE_CONTROLLER)
        begin_controller(r, s);
    else if (s->kind == STAGE_RUN)
        begin_command(r, s);
    else if (s->kind == STAGE_GATEWAY || s->kind == STAGE_REDIS)
        begin_gateway(r, s);
    else if (s->kind == STAGE_RESTART)
        pacer_set(&r->restart, r->restart_us = now_us);
}
