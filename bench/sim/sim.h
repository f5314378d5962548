/* A fleet that connects, a controller that works off bcrypts, and the gate between them, in virtual
 * time: minutes pass in milliseconds, and the same seed brings the same day.
 *
 * The controller is a queue before so many processors. It does not notice clients that leave, as
 * Node does not: a secret once sent is compared. Agents behave as the documented client: 10 s of
 * patience, three more tries after 1, 2 and 4 s, then five minutes of working alone. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { SIM_SECOND = 1000000, SIM_SECONDS_MAX = 3600 };

struct sim_setup {
    bool direct;                /* no gateway */
    bool obeys;                 /* agents come when Retry-After says, and not before */
    bool gives_up_when_refused; /* else a refusal is like no answer: tried again after 1, 2, 4 s */
    int agents;
    int64_t within_us; /* all start in this time */
    int processors;
    int64_t cost_us;      /* of a bcrypt */
    int places;           /* queue.connect */
    int64_t slow_from_us; /* from then on a bcrypt costs twice as much; 0: never */
    int64_t swing_us; /* for so long it costs as it should, then as long `swing` times as much */
    int swing;        /* (others work on the controller's machine); 0: it does not swing */
    int64_t down_from_us; /* the controller refuses connections; 0: never */
    int64_t down_until_us;
    int64_t until_us; /* at most SIM_SECONDS_MAX seconds */
    uint32_t seed;
};

struct sim_result {
    int connected[SIM_SECONDS_MAX];   /* at the end of each second */
    int64_t half_us, most_us, all_us; /* when 50 %, 90 %, 100 % were; -1: not */
    int bcrypts;
    int wasted; /* compared for nobody: neither answered nor kept */
    int refusals;
    int refused_in_time;     /* of agents that came at the second they were told */
    int dropped;             /* refused only after they had waited */
    int most_at_once;        /* bcrypts the controller had at a time */
    int64_t longest_wait_us; /* for an answer that was given */
};

void sim_run(const struct sim_setup *setup, struct sim_result *out);

/* Three ways to find the right number of calls at once, on a controller whose processors change:
 * 16, from 60 s on 4, from 120 s on 16 again. All places are wanted all the time. */
enum sim_limiter { SIM_GRADIENT, SIM_AIMD, SIM_FIXED };

struct sim_limit_point {
    double limit, latency_ms, per_second;
};

enum { SIM_LIMIT_SECONDS = 180, SIM_LIMIT_CAP = 128 };

void sim_limit(enum sim_limiter kind, struct sim_limit_point out[SIM_LIMIT_SECONDS]);
