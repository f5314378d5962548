#include "rules/gate/concurrency.h"

#include <criterion/criterion.h>

enum { CAP = 128, GUESS_US = 100000 };

/* A controller with so many processors: above them calls wait for each other. Every place is used,
 * as in a storm. Returns the last answer's time. */
static int64_t work(struct concurrency *c, int64_t cap, int processors, int64_t cost_us, int calls,
                    int64_t *now_us) {
    int64_t took = cost_us;
    for (int i = 0; i < calls; i++) {
        int64_t in_flight = concurrency_limit(c, cap);
        took = in_flight > processors ? cost_us * in_flight / processors : cost_us;
        *now_us += took / in_flight;
        concurrency_answered(c, cap, took, in_flight, *now_us);
        cr_assert_geq(concurrency_limit(c, cap), CONCURRENCY_FLOOR);
        cr_assert_leq(concurrency_limit(c, cap), cap);
    }
    return took;
}

static struct concurrency fresh(int64_t cap) {
    struct concurrency c;
    concurrency_init(&c, cap, GUESS_US);
    return c;
}

/* Learns what a call takes when it is alone. */
static void calm(struct concurrency *c, int64_t cap, int64_t cost_us, int64_t *now_us) {
    for (int i = 0; i < 200; i++) {
        *now_us += 10 * cost_us;
        concurrency_answered(c, cap, cost_us, 1, *now_us);
    }
}

Test(concurrency, begins_at_the_cap_and_stays_there_while_answers_come_quickly) {
    struct concurrency c = fresh(CAP);
    int64_t now = 0;
    cr_assert_eq(concurrency_limit(&c, CAP), CAP);
    work(&c, CAP, 1000, 5000, 5000, &now);
    cr_assert_eq(concurrency_limit(&c, CAP), CAP);
}

Test(concurrency, leaves_a_controller_alone_that_answers_within_ten_milliseconds_at_its_busiest) {
    struct concurrency c = fresh(CAP);
    int64_t now = 0;
    calm(&c, CAP, 50, &now);
    int64_t took = work(&c, CAP, 1, 70, 20000, &now); /* 128 at once: 9 ms each */
    cr_assert_eq(concurrency_limit(&c, CAP), CAP, "%lld us", (long long)took);
    took = work(&c, CAP, 1, 200, 20000, &now);
    cr_assert_lt(concurrency_limit(&c, CAP), CAP, "%lld us", (long long)took);
}

Test(concurrency, settles_a_little_above_what_keeps_all_processors_busy) {
    for (int processors = 1; processors <= 16; processors *= 2) {
        struct concurrency c = fresh(CAP);
        int64_t now = 0;
        calm(&c, CAP, 20000, &now);
        work(&c, CAP, processors, 20000, 20000, &now);
        int64_t limit = concurrency_limit(&c, CAP);
        cr_assert_geq(limit, processors, "%d: %lld", processors, (long long)limit);
        cr_assert_leq(limit, 2 * processors + 10, "%d: %lld", processors, (long long)limit);
    }
}

Test(concurrency, follows_a_controller_that_becomes_slower_and_faster_again) {
    struct concurrency c = fresh(CAP);
    int64_t now = 0;
    calm(&c, CAP, 10000, &now);
    work(&c, CAP, 32, 10000, 10000, &now);
    int64_t fast = concurrency_limit(&c, CAP);
    work(&c, CAP, 4, 10000, 10000, &now);
    int64_t slow = concurrency_limit(&c, CAP);
    cr_assert_lt(slow * 2, fast, "%lld, %lld", (long long)slow, (long long)fast);
    work(&c, CAP, 32, 10000, 10000, &now);
    cr_assert_geq(concurrency_limit(&c, CAP) * 10, fast * 9);
}

Test(concurrency, a_long_overload_is_not_the_new_normal) {
    struct concurrency c = fresh(CAP);
    int64_t now = 0;
    calm(&c, CAP, 1000, &now);
    work(&c, CAP, 1, 1000000, 2000, &now);
    cr_assert_leq(concurrency_limit(&c, CAP), 12);
}

Test(concurrency, believes_that_it_became_slower_for_good_without_measuring_again) {
    struct concurrency c = fresh(CAP);
    int64_t now = 0;
    calm(&c, CAP, 10000, &now);
    int64_t least = CAP, end = now + 600LL * 1000000;
    while (now < end) { /* a new version, ten times as slow for good */
        work(&c, CAP, 16, 100000, 10, &now);
        least = concurrency_limit(&c, CAP) < least ? concurrency_limit(&c, CAP) : least;
    }
    cr_assert_leq(least, 4);
    cr_assert_geq(concurrency_limit(&c, CAP), 10, "in part, under pressure");
    for (int i = 0; i < 1000; i++) {
        now += 1000000;
        concurrency_answered(&c, CAP, 100000, 3, now);
    }
    work(&c, CAP, 16, 100000, 10000, &now);
    cr_assert_geq(concurrency_limit(&c, CAP), 32, "wholly, after a calm");
}

Test(concurrency, failures_take_a_tenth_once_a_window) {
    struct concurrency c = fresh(100);
    for (int i = 0; i < 50; i++)
        concurrency_failed(&c, 100);
    cr_assert_eq(concurrency_limit(&c, 100), 90);
    for (int i = 0; i < 5000; i++)
        concurrency_failed(&c, 100);
    cr_assert_eq(concurrency_limit(&c, 100), CONCURRENCY_FLOOR);
}

Test(concurrency, does_not_grow_while_it_is_not_used) {
    struct concurrency c = fresh(100);
    int64_t now = 0;
    for (int i = 0; i < 5000; i++)
        concurrency_failed(&c, 100);
    calm(&c, 100, 5000, &now);
    cr_assert_leq(concurrency_limit(&c, 100), 3);
    work(&c, 100, 1000, 5000, 10000, &now);
    cr_assert_eq(concurrency_limit(&c, 100), 100);
}

/* A class of short and long calls: that half of them take a minute is no reason to ask less. */
Test(concurrency, long_calls_among_short_ones_teach_nothing) {
    struct concurrency c = fresh(CAP);
    int64_t now = 0;
    for (int i = 0; i < 10000; i++) {
        now += 1000;
        concurrency_answered(&c, CAP, i % 2 ? 60000000 : 4000, 100, now);
    }
    cr_assert_eq(concurrency_limit(&c, CAP), CAP);
}

Test(concurrency, a_smaller_cap_holds_at_once_and_one_place_is_possible) {
    struct concurrency c = fresh(100);
    cr_assert_eq(concurrency_limit(&c, 30), 30);
    cr_assert_eq(concurrency_limit(&c, 1), 1);
}

Test(concurrency, what_a_call_takes_is_guessed_high_at_first) {
    struct concurrency c = fresh(8);
    concurrency_answered(&c, 8, 1000, 1, 1);
    cr_assert_gt(c.service_us, 50000.0);
    for (int i = 0; i < 200; i++)
        concurrency_answered(&c, 8, 1000, 1, 1000 * i);
    cr_assert_lt(c.service_us, 2000.0);
}
