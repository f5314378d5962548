/* What bench/agents/run*.c share: a run under way. */
#pragma once

#include "agents/attack.h"
#include "agents/child.h"
#include "agents/fleet.h"
#include "agents/lag.h"
#include "agents/pacer.h"
#include "agents/run.h"
#include "agents/watch.h"

#include <event2/event.h>

struct run {
    const struct run_options *o;
    struct outcome *out;
    struct rig *rig;
    struct target target;
    struct loop loop;
    struct watch *watch;
    struct fleet *fleet;
    struct attack *attack;
    struct child command;
    struct lag lag;
    struct pacer second, restart;
    struct timer look;
    struct event interrupt, terminate;
    size_t stage;
    int64_t start_us, stage_us, row_us, restart_us;
    int64_t self_before, gateway_before; /* resident bytes */
    size_t open_most;
    int looks, settles;
    struct tally shown;
    bool ending; /* the stage is over, or we were interrupted */
};

/* ---- run_stage.c ---- */
/* The one that is being made. */
const struct stage *run_stage(const struct run *r);
int64_t run_since_start(const struct run *r, int64_t us);
/* A line for the report: what could not be done, and why. */
void run_note(struct run *r, const char *what, const char *why);
struct scene run_look_around(const struct run *r);
void run_begin_stage(struct run *r);
