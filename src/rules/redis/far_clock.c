#include "rules/redis/far_clock.h"

void far_clock_begin(struct far_clock *c, int64_t asked_us, int64_t heard_us, int64_t theirs_us) {
    c->known = true;
    c->offset_us = theirs_us - (asked_us + (heard_us - asked_us) / 2);
}

void far_clock_learn(struct far_clock *c, int64_t asked_us, int64_t heard_us, int64_t theirs_us) {
    int64_t least_us = theirs_us - heard_us, most_us = theirs_us - asked_us;
    if (c->offset_us < least_us)
        c->offset_us = least_us;
    if (c->offset_us > most_us)
        c->offset_us = most_us;
}
