/* The bench's command line; a scenario's file may hold the same options. */
#pragma once

#include "agents/figures.h"
#include "agents/rig.h"
#include "agents/run.h"

#include <stdio.h>

enum { BENCH_THRESHOLDS_MAX = 32, BENCH_KEPT_MAX = 128, BENCH_RUNS_MAX = 30 };

struct bench_options {
    bool help, version;
    const char *scenario_text; /* a preset's name or a file's */
    struct scenario scenario;

    const char *target, *side[2]; /* side: of --compare; "direct", "gateway" or a URL */
    bool direct, with_gateway, plain, insecure, own_target, bulk, redis;
    const char *ca_file, *agents_file;
    double runs, agents, connect_cost, processors, control_port, health_port;
    double gateway_pid, controller_pid, redis_pid, sources;
    const char *env[RIG_ENV_MAX];
    size_t env_count;

    double within_us, for_us, percent, rate, warm_us, rest_us, give_up_us, max_lag_us;
    bool warm;
    double beat_us, jitter, timeout_us, reconnect_us, local_us;
    const char *phase, *connections;
    bool no_resume, obey_retry_after;

    const char *out_dir;
    struct threshold threshold[BENCH_THRESHOLDS_MAX];
    size_t threshold_count;

    bool given[64];             /* on the command line, which goes before a file */
    char *kept[BENCH_KEPT_MAX]; /* values from a file */
    size_t kept_count;
};

/* False with a sentence in `why`. Reads the scenario's file, if there is one. */
bool bench_options_parse(int argc, char **argv, struct bench_options *out, char why[SCENARIO_WHY]);
void bench_options_release(struct bench_options *o);
void bench_options_print_help(FILE *out);

/* What is to be run against `side`, which is NULL when there is only one. `identities` and `ca_pem`
 * are borrowed. */
void bench_options_run(const struct bench_options *o, const char *side,
                       const struct identities *identities, struct span ca_pem,
                       struct run_options *out);
/* Everything that decides about the figures, in one spelling: for the hash in reports. */
void bench_options_print_canonical(const struct bench_options *o, struct str *out);
