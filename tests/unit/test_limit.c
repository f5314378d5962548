#include "rules/gate/limit.h"

#include <criterion/criterion.h>

enum { SECOND = 1000000 };

Test(limit, takes_a_burst_at_once_and_then_one_per_gap) {
    struct limit limit = limit_per_second(5, 20);
    int64_t arrival = 0, now = 77 * SECOND;
    int taken = 0;
    while (limit_take(&arrival, &limit, now))
        taken++;
    cr_assert_eq(taken, 20);
    cr_assert_eq(limit_wait_us(arrival, &limit, now), SECOND / 5);
    cr_assert_not(limit_take(&arrival, &limit, now + SECOND / 5 - 1));
    cr_assert(limit_take(&arrival, &limit, now + SECOND / 5));
    cr_assert_not(limit_take(&arrival, &limit, now + SECOND / 5));
}

Test(limit, is_exact_over_a_long_time_whatever_the_pressure) {
    struct limit limit = limit_per_second(7, 3);
    int64_t arrival = 0;
    int taken = 0;
    for (int64_t now = 0; now < 100LL * SECOND; now += 1000)
        taken += limit_take(&arrival, &limit, now);
    cr_assert_geq(taken, 700);
    cr_assert_leq(taken, 704);
}

Test(limit, a_refusal_changes_nothing) {
    struct limit limit = limit_per_second(1, 1);
    int64_t arrival = 0;
    cr_assert(limit_take(&arrival, &limit, 5 * SECOND));
    int64_t before = arrival;
    for (int i = 0; i < 100; i++)
        cr_assert_not(limit_take(&arrival, &limit, 5 * SECOND + i));
    cr_assert_eq(arrival, before);
}

Test(limit, shared_takes_as_many_as_its_own) {
    struct limit limit = limit_per_second(10, 4);
    int64_t own = 0;
    _Atomic int64_t shared = 0;
    for (int64_t now = 0; now < 3 * SECOND; now += 12345)
        cr_assert_eq(limit_take(&own, &limit, now), limit_take_shared(&shared, &limit, now));
}
