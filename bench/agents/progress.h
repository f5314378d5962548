/* What is going on, on one line of a terminal. */
#pragma once

#include "agents/life.h"
#include "base/str.h"

#include <stddef.h>

struct progress {
    const char *side, *stage;
    int64_t elapsed_us; /* of the run */
    int64_t left_us;    /* of the stage; below 0: unknown */
    size_t agents;
    int32_t state[LIFE_STATE_COUNT];
    size_t open;
    double rate; /* calls a second */
    int64_t errors;
    double p99_us;
};

/* "gateway  storm  12 s  connected 1,234/2,000 ...", never longer than `width`. Pure. */
void progress_line(const struct progress *p, struct str *out, size_t width);

/* Redraws the line on standard error if that is a terminal, else does nothing. */
void progress_show(const struct progress *p);
/* Removes it. */
void progress_clear(void);
