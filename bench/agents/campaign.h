/* One call of the program: one side or two, several runs of each, in turn, and the verdict. */
#pragma once

#include "agents/bench_options.h"
#include "agents/origin.h"
#include "agents/outcome.h"
#include "agents/stats.h"

struct campaign {
    const struct bench_options *options;
    struct origin origin;
    int sides;
    const char *side[2];
    size_t runs[2]; /* that were made */
    struct outcome outcome[2][BENCH_RUNS_MAX];
    bool partial;
};

struct campaign_figure {
    struct stats_sample sample[2];
    bool compared; /* both sides have runs enough: `difference` says something */
    struct stats_difference difference;
};

/* `options` are borrowed; the caller fills in `origin`. */
struct campaign *campaign_new(const struct bench_options *options);
void campaign_free(struct campaign *c);

/* Over all runs of each side. */
void campaign_figure(const struct campaign *c, enum figure f, struct campaign_figure *out);

/* Makes the runs, A B A B; what is made so far is kept when one is interrupted. */
enum run_end campaign_run(struct campaign *c, char why[RUN_WHY]);

/* Is any limit broken, or any run not valid? Prints each of them on a line. With two sides limits
 * are for the second one. */
bool campaign_failed(const struct campaign *c, FILE *out);
/* The figures, for people. */
void campaign_print(const struct campaign *c, FILE *out);
