#include "rules/redis/far_clock.h"

#include <criterion/criterion.h>

/* Theirs is ahead by this. */
enum { AHEAD = 1000000 };

static struct far_clock heard_after(int64_t there_us, int64_t back_us) {
    struct far_clock c = {0};
    far_clock_begin(&c, 500, 500 + there_us + back_us, 500 + there_us + AHEAD);
    return c;
}

Test(far_clock, a_first_answer_tells_it_within_half_a_round_trip) {
    cr_expect_eq(heard_after(100, 100).offset_us, AHEAD);
    cr_expect_eq(heard_after(0, 3000).offset_us, AHEAD - 1500);
    cr_expect_eq(heard_after(3000, 0).offset_us, AHEAD + 1500);
    cr_expect(heard_after(1, 1).known);
}

Test(far_clock, a_quicker_answer_mends_what_a_slow_one_told) {
    struct far_clock behind = heard_after(0, 3000000), ahead = heard_after(3000000, 0);
    far_clock_learn(&behind, 4000000, 4000200, 4000100 + AHEAD);
    far_clock_learn(&ahead, 4000000, 4000200, 4000100 + AHEAD);
    cr_expect_eq(behind.offset_us, AHEAD - 100);
    cr_expect_eq(ahead.offset_us, AHEAD + 100);
}

Test(far_clock, a_slow_answer_spoils_nothing) {
    struct far_clock c = heard_after(100, 100);
    far_clock_learn(&c, 4000000, 9000000, 4000050 + AHEAD);
    far_clock_learn(&c, 9000000, 14000000, 13999900 + AHEAD);
    cr_expect_eq(c.offset_us, AHEAD);
}

/* 10 ppm, asked every two seconds for a day. */
Test(far_clock, drift_is_followed_either_way) {
    for (int direction = -1; direction <= 1; direction += 2) {
        struct far_clock c = heard_after(100, 100);
        int64_t drift_us = 0;
        for (int64_t at = 0; at < 86400000000; at += 2000000) {
            drift_us = direction * (at / 100000);
            far_clock_learn(&c, at, at + 200, at + 100 + AHEAD + drift_us);
        }
        cr_expect_leq(c.offset_us, AHEAD + drift_us + 100);
        cr_expect_geq(c.offset_us, AHEAD + drift_us - 100);
    }
}
