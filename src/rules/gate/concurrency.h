/* How many calls at once does the controller bear? Learnt from how long its answers take and
 * whether they come. Pure.
 *
 * Results are gathered in windows of as many calls as there are places. At the end of a window
 *
 *   gradient = max(TOLERANCE * base, 10 ms) / fastest     bounded to 0.25 .. 1
 *   limit    moves a fifth of the way to limit * gradient + sqrt(limit)
 *
 * `fastest` is the shortest answer of the window and `base` the shortest of all. The base rises,
 * within a minute or so, towards what is seen with few calls at once, or the part of it that many
 * cannot explain by waiting for each other: a controller that became slower for good is believed in
 * part at once and wholly after a calm minute, a long overload is not mistaken for the new normal,
 * and no call is ever stalled to measure. The
 * shortest and not the mean, since a class mixes short calls and long ones (a model's answer takes
 * a minute), and queueing at the controller delays even the shortest. Failures (no answer in time,
 * 502, 503, 504) take a tenth of the limit, once in a window.
 *
 * Answers within 10 ms never lower the limit, however much quicker they were before: a controller
 * that answers so soon has no queue worth speaking of, and to ask it for less at once only wakes
 * everybody up more often.
 *
 * The limit grows only while it is used, so a quiet night teaches nothing, and stays within
 * CONCURRENCY_FLOOR (or the cap, if that is smaller) and the cap. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { CONCURRENCY_FLOOR = 2 };

struct concurrency {
    double limit;
    double base_us;    /* 0: nothing learnt yet */
    double service_us; /* the mean, of late */
    double fastest_us; /* of this window; 0: none */
    int64_t learnt_at_us;
    int64_t window_calls, window_failures, window_busiest;
};

/* Starts at the cap. `service_us`: how long a call may take, before anything is known. */
void concurrency_init(struct concurrency *c, int64_t cap, int64_t service_us);

/* A call was answered after `took_us`; `in_flight` of the class, this one included. */
void concurrency_answered(struct concurrency *c, int64_t cap, int64_t took_us, int64_t in_flight,
                          int64_t now_us);
/* A call failed. */
void concurrency_failed(struct concurrency *c, int64_t cap);

/* Never above `cap` (1 or more), whatever was learnt under another one. */
int64_t concurrency_limit(const struct concurrency *c, int64_t cap);
