/* All agents of a run: who is due makes its call on its own line, and what comes of it is recorded.
 *
 *   schedule --due--> life_take --> line --> on_answer, on_failed --> life_answered --> schedule
 *
 * Open loop: nobody waits for anybody else. */
#pragma once

#include "agents/identity.h"
#include "agents/life.h"
#include "agents/record.h"
#include "agents/target.h"

struct fleet;

struct fleet_options {
    struct loop *loop;
    const struct target *target;         /* borrowed */
    const struct identities *identities; /* borrowed */
    struct record *record;               /* borrowed */
    struct life_rules rules;
    size_t agents;
    bool keep, resume; /* see line.h */
    size_t max_open;   /* connections at once; idle ones are closed to make room */
};

/* NULL when no descriptor can be had. */
struct fleet *fleet_new(const struct fleet_options *options);
void fleet_free(struct fleet *f);

/* Times are clock_mono_us. All of them connect, evenly from `from_us` on; those that are connected
 * begin anew, as after a kill -9. */
void fleet_connect(struct fleet *f, int64_t from_us, int64_t within_us);
void fleet_leave(struct fleet *f, int64_t from_us, int64_t within_us);
/* The next one, in turn, says goodbye and connects again. */
void fleet_restart_next(struct fleet *f, int64_t now_us);

/* How many are in each state; connections now; calls pending; what one agent takes, without what
 * TLS and its token need. */
void fleet_states(const struct fleet *f, int32_t state[LIFE_STATE_COUNT]);
size_t fleet_open(const struct fleet *f);
/* When the last one so far became connected, clock_mono_us; 0: none yet. */
int64_t fleet_last_connected_us(const struct fleet *f);
size_t fleet_pending(const struct fleet *f);
size_t fleet_agent_size(void);
