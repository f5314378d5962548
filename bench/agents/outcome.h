/* Everything that one run has found out: what reports are made of. */
#pragma once

#include "agents/figures.h"
#include "agents/record.h"

enum { OUTCOME_SIDE = 64, OUTCOME_URL = 320 };

struct outcome {
    char side[OUTCOME_SIDE]; /* "gateway", "direct", or the URL */
    char url[OUTCOME_URL];
    size_t agents, max_open, agent_bytes;
    unsigned sources;
    bool partial;        /* ended by a signal */
    bool died;           /* a stage killed the gateway: what it held cannot be counted */
    const char *invalid; /* static; NULL: the figures are the target's */
    struct record record;
    double figure[FIGURE_COUNT];
    struct str notes; /* a line each: what could not be done */
};

void outcome_release(struct outcome *o);
