/* When the loop's own timers are too coarse (4 ms): one timerfd, exact to some microseconds. */
#pragma once

#include "io/loop.h"

struct pacer {
    int fd;
    int64_t at_us; /* armed for; INT64_MAX: not */
    struct event event;
    void (*call)(void *arg);
    void *arg;
};

/* False when no descriptor can be had. */
bool pacer_init(struct pacer *p, struct loop *loop, void (*call)(void *arg), void *arg);
/* Calls once at this time of clock_mono_us (in the past: in the loop's next turn); INT64_MAX:
 * never. Replaces what was set before. */
void pacer_set(struct pacer *p, int64_t at_us);
void pacer_release(struct pacer *p);
