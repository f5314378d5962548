#include "rules/gate/breaker.h"

#include <criterion/criterion.h>

enum { SECOND = 1000000 };

static const struct breaker_policy policy = {.failures = 5,
                                             .window_us = 10 * SECOND,
                                             .calls_min = 20,
                                             .percent = 50,
                                             .open_us = 5 * SECOND,
                                             .open_max_us = 60 * SECOND};

static struct breaker_pass ask(struct breaker *b, int64_t now_us) {
    return breaker_ask(b, &policy, true, now_us);
}

static void note(struct breaker *b, bool fine, int64_t now_us) {
    breaker_note(b, &policy, 0, fine, now_us);
}

static struct breaker opened_at(int64_t now_us) {
    struct breaker b = {0};
    for (int i = 0; i < 5; i++)
        note(&b, false, now_us);
    cr_assert_eq(b.state, BREAKER_OPEN);
    return b;
}

Test(breaker, opens_after_five_failures_in_a_row) {
    struct breaker b = {0};
    for (int i = 0; i < 4; i++)
        note(&b, false, SECOND);
    cr_assert(ask(&b, SECOND).go);
    note(&b, true, SECOND); /* four are not five */
    for (int i = 0; i < 4; i++)
        note(&b, false, 2 * SECOND);
    cr_assert(ask(&b, 2 * SECOND).go);
    note(&b, false, 2 * SECOND);
    cr_assert_not(ask(&b, 2 * SECOND).go);
}

Test(breaker, opens_when_more_than_half_of_twenty_fail_within_ten_seconds) {
    struct breaker b = {0};
    for (int i = 0; i < 10; i++) {
        note(&b, true, SECOND + i);
        note(&b, false, SECOND + i);
    }
    cr_assert(ask(&b, SECOND).go, "half is not more than half");
    note(&b, false, 2 * SECOND);
    cr_assert_not(ask(&b, 2 * SECOND).go);
}

Test(breaker, does_not_judge_fewer_than_twenty_calls) {
    struct breaker b = {0};
    for (int i = 0; i < 9; i++) {
        note(&b, false, SECOND);
        note(&b, i % 2 == 0, SECOND);
    }
    cr_assert(ask(&b, SECOND).go);
}

Test(breaker, forgets_what_is_older_than_the_window) {
    struct breaker b = {0};
    for (int i = 0; i < 9; i++) {
        note(&b, false, SECOND);
        note(&b, i % 3 == 0, SECOND);
    }
    for (int i = 0; i < 4; i++)
        note(&b, true, 13 * SECOND); /* 4 of 22, were the window longer */
    note(&b, false, 13 * SECOND);
    cr_assert(ask(&b, 13 * SECOND).go);
}

Test(breaker, lets_one_probe_through_when_its_time_is_over) {
    struct breaker b = opened_at(0);
    cr_assert_not(ask(&b, 5 * SECOND - 1).go);
    cr_assert_eq(breaker_wait_us(&b, SECOND), 4 * SECOND);
    cr_assert_not(breaker_ask(&b, &policy, false, 5 * SECOND).go, "not of this kind");
    struct breaker_pass probe = ask(&b, 5 * SECOND);
    cr_assert(probe.go);
    cr_assert_neq(probe.probe, 0);
    cr_assert_not(ask(&b, 5 * SECOND).go, "one");
}

Test(breaker, a_good_probe_closes_it_and_a_ramp_follows) {
    struct breaker b = opened_at(0);
    struct breaker_pass probe = ask(&b, 5 * SECOND);
    cr_assert_not(breaker_is_ramping(&b, 30 * SECOND, 5 * SECOND));
    breaker_note(&b, &policy, probe.probe, true, 6 * SECOND);
    cr_assert(ask(&b, 6 * SECOND).go);
    cr_assert_eq(ask(&b, 6 * SECOND).probe, 0);
    cr_assert(breaker_is_ramping(&b, 30 * SECOND, 35 * SECOND));
    cr_assert_not(breaker_is_ramping(&b, 30 * SECOND, 36 * SECOND));
}

Test(breaker, a_breaker_that_never_opened_has_no_ramp) {
    struct breaker b = {0};
    note(&b, true, SECOND);
    cr_assert_not(breaker_is_ramping(&b, 30 * SECOND, 2 * SECOND));
}

Test(breaker, stays_open_twice_as_long_after_each_bad_probe_up_to_a_minute) {
    struct breaker b = opened_at(0);
    int64_t now = 0;
    const int64_t waits_s[] = {5, 10, 20, 40, 60, 60};
    for (size_t i = 0; i < sizeof waits_s / sizeof waits_s[0]; i++) {
        cr_assert_eq(breaker_wait_us(&b, now), waits_s[i] * SECOND);
        now += waits_s[i] * SECOND;
        struct breaker_pass probe = ask(&b, now);
        cr_assert(probe.go);
        breaker_note(&b, &policy, probe.probe, false, now);
    }
}

Test(breaker, begins_with_five_seconds_again_once_it_was_closed) {
    struct breaker b = opened_at(0);
    breaker_note(&b, &policy, ask(&b, 5 * SECOND).probe, false, 5 * SECOND);
    breaker_note(&b, &policy, ask(&b, 15 * SECOND).probe, true, 15 * SECOND);
    for (int i = 0; i < 5; i++)
        note(&b, false, 20 * SECOND);
    cr_assert_eq(breaker_wait_us(&b, 20 * SECOND), 5 * SECOND);
}

Test(breaker, late_results_of_older_calls_neither_close_nor_open_it) {
    struct breaker b = opened_at(0);
    note(&b, true, SECOND);
    cr_assert_eq(b.state, BREAKER_OPEN);
    (void)ask(&b, 5 * SECOND);
    note(&b, true, 5 * SECOND);
    note(&b, false, 5 * SECOND);
    cr_assert_eq(b.state, BREAKER_PROBING);
}

Test(breaker, a_probe_that_brings_nothing_in_ten_seconds_has_failed) {
    struct breaker b = opened_at(0);
    uint32_t first = ask(&b, 5 * SECOND).probe;
    cr_assert_not(ask(&b, 15 * SECOND).go, "it opens again, for ten seconds");
    breaker_note(&b, &policy, first, true, 16 * SECOND);
    cr_assert_eq(b.state, BREAKER_OPEN, "too late");
    cr_assert(ask(&b, 25 * SECOND).go);
}

Test(breaker, a_probe_whose_client_leaves_makes_room_for_the_next) {
    struct breaker b = opened_at(0);
    uint32_t first = ask(&b, 5 * SECOND).probe;
    breaker_forgo(&b, first, 6 * SECOND);
    uint32_t second = ask(&b, 6 * SECOND).probe;
    cr_assert_neq(second, 0);
    cr_assert_neq(second, first);
    breaker_forgo(&b, first, 7 * SECOND);
    cr_assert_not(ask(&b, 7 * SECOND).go);
}

Test(breaker, in_a_hurry_it_may_be_probed_at_once) {
    struct breaker b = opened_at(0);
    breaker_hurry(&b, SECOND);
    cr_assert(ask(&b, SECOND).go);
}
