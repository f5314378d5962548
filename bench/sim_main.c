/* aiwm-sim: how a fleet connects, with the gateway and without, in virtual time. Prints CSV. */
#include "sim/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_USAGE = 64, RUNS = 4 };

static const struct {
    const char *name;
    bool direct, obeys, gives_up;
} ways[RUNS] = {
    {"direct", true, false, false},
    {"ignored", false, false, false},
    {"ignored_gives_up", false, false, true},
    {"obeyed", false, true, false},
};

static struct sim_setup setup_of(int way, int agents, int seconds) {
    return (struct sim_setup){.direct = ways[way].direct,
                              .obeys = ways[way].obeys,
                              .gives_up_when_refused = ways[way].gives_up,
                              .agents = agents,
                              .within_us = 2 * SIM_SECOND,
                              .processors = 2,
                              .cost_us = 57000,
                              .places = 8,
                              .until_us = (int64_t)seconds * SIM_SECOND,
                              .seed = 1};
}

static void print_second(const struct sim_result *results, int second) {
    printf("%d", second + 1);
    for (int i = 0; i < RUNS; i++)
        printf(",%d", results[i].connected[second]);
    printf("\n");
}

static void print_summary(const struct sim_result *r, const char *name) {
    fprintf(stderr,
            "%-18s half %.1f s, 90%% %.1f s, all %.1f s; %d bcrypts, %d wasted; %d refusals, %d of "
            "them in time, %d after waiting; at most %d at once, longest wait %.1f s\n",
            name, (double)r->half_us / SIM_SECOND, (double)r->most_us / SIM_SECOND,
            (double)r->all_us / SIM_SECOND, r->bcrypts, r->wasted, r->refusals, r->refused_in_time,
            r->dropped, r->most_at_once, (double)r->longest_wait_us / SIM_SECOND);
}

static int storm(int agents, int seconds) {
    static struct sim_result results[RUNS];
    printf("s");
    for (int i = 0; i < RUNS; i++) {
        struct sim_setup setup = setup_of(i, agents, seconds);
        sim_run(&setup, &results[i]);
        print_summary(&results[i], ways[i].name);
        printf(",%s", ways[i].name);
    }
    printf("\n");
    for (int second = 0; second < seconds; second++)
        print_second(results, second);
    return EXIT_SUCCESS;
}

static int limit(void) {
    static struct sim_limit_point p[3][SIM_LIMIT_SECONDS];
    for (int i = 0; i < 3; i++)
        sim_limit((enum sim_limiter)i, p[i]);
    printf("s,gradient,aimd,fixed,gradient_ms,aimd_ms,fixed_ms,gradient_rate,aimd_rate,"
           "fixed_rate\n");
    for (int s = 0; s < SIM_LIMIT_SECONDS; s++)
        printf("%d,%.0f,%.0f,%.0f,%.0f,%.0f,%.0f,%.0f,%.0f,%.0f\n", s + 1, p[0][s].limit,
               p[1][s].limit, p[2][s].limit, p[0][s].latency_ms, p[1][s].latency_ms,
               p[2][s].latency_ms, p[0][s].per_second, p[1][s].per_second, p[2][s].per_second);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "limit") == 0)
        return limit();
    int agents = argc == 4 ? (int)strtol(argv[2], NULL, 10) : 0,
        seconds = argc == 4 ? (int)strtol(argv[3], NULL, 10) : 0;
    bool fine = argc == 4 && strcmp(argv[1], "storm") == 0 && agents > 0 && agents <= 1000000 &&
                seconds > 0 && seconds <= SIM_SECONDS_MAX;
    if (fine)
        return storm(agents, seconds);
    fputs("Usage: aiwm-sim storm AGENTS SECONDS | aiwm-sim limit\n", stderr);
    return EXIT_USAGE;
}
