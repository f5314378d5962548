/* Another machine's clock, as far as its answers tell. Pure. All times in microseconds.
 *
 * An answer was made between our question and our hearing it: so at that moment its clock was ahead
 * of ours by no less than `theirs - heard` and no more than `theirs - asked`. However late we hear,
 * that holds. Clocks drift apart (10 ppm are a second a day), so it is asked again and again. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct far_clock {
    bool known;
    int64_t offset_us; /* theirs minus ours */
};

/* It may be another machine's: the middle of the bounds is taken, which is wrong by half of the
 * round trip at most. */
void far_clock_begin(struct far_clock *c, int64_t asked_us, int64_t heard_us, int64_t theirs_us);

/* Moves no further than it must: a quick answer's better guess survives a slow one. */
void far_clock_learn(struct far_clock *c, int64_t asked_us, int64_t heard_us, int64_t theirs_us);
