/* One run from its processes to its figures.
 *
 *   rig_start -> target -> loop: stage after stage -> settle -> figures -> rig_stop
 *
 * A connect stage without `for` gives up after `give_up_us`; a restart or goodbye waits for those
 * under way, 30 s at most. */
#pragma once

#include "agents/identity.h"
#include "agents/life.h"
#include "agents/outcome.h"
#include "agents/rig.h"
#include "agents/scenario.h"
#include "agents/target.h"

struct run_options {
    char side[OUTCOME_SIDE];
    const char *url; /* NULL: what the rig starts */
    struct rig_options rig;
    int control_port, health_port; /* of targets that we do not start; 0: none */
    struct span ca_pem;
    bool insecure;
    bool own_target; /* may be on another machine */
    const struct scenario *scenario;
    const struct identities *identities;
    size_t agents;
    struct life_rules rules;
    bool keep, resume;
    int sources; /* below 0: as many as are needed */
    int64_t give_up_us;
    double max_lag_us; /* see figures_invalid */
};

enum run_end {
    RUN_DONE,    /* *out is filled; release it */
    RUN_REFUSED, /* a target that we may not or cannot use: why */
    RUN_BROKEN,  /* something did not start: why */
};

enum { RUN_WHY = 400 };
enum run_end run_once(const struct run_options *options, struct outcome *out, char why[RUN_WHY]);
