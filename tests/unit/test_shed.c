#include "rules/gate/shed.h"

#include <criterion/criterion.h>

static struct shed_facts calm(void) {
    return (struct shed_facts){{0, 1000}, {0, 1000}, {0, 1000}, {0, 1000}};
}

Test(shed, gives_up_nothing_while_there_is_room) {
    struct shed_facts facts = {{999, 1000}, {849, 1000}, {899, 1000}, {899, 1000}};
    cr_assert_eq(shed_level(&facts), SHED_NOTHING);
}

Test(shed, gives_up_connects_first_then_calls_and_heartbeats_last) {
    static const struct {
        int64_t now;
        enum shed_level level;
    } lags[] = {{1000, SHED_CONNECTS}, {1999, SHED_CONNECTS}, {2000, SHED_CALLS},
                {3999, SHED_CALLS},    {4000, SHED_BEATS},    {9999, SHED_BEATS}},
      memories[] = {{850, SHED_CONNECTS}, {920, SHED_CALLS}, {970, SHED_BEATS}};
    struct shed_facts facts = calm();
    for (size_t i = 0; i < sizeof lags / sizeof *lags; i++) {
        facts.lag.now = lags[i].now;
        cr_assert_eq(shed_level(&facts), lags[i].level, "lag %lld", (long long)lags[i].now);
    }
    facts = calm();
    for (size_t i = 0; i < sizeof memories / sizeof *memories; i++) {
        facts.memory.now = memories[i].now;
        cr_assert_eq(shed_level(&facts), memories[i].level);
    }
}

Test(shed, never_gives_up_heartbeats_for_want_of_places) {
    struct shed_facts facts = calm();
    facts.connections.now = 5000;
    cr_assert_eq(shed_level(&facts), SHED_CONNECTS);
    facts.in_flight.now = 900;
    cr_assert_eq(shed_level(&facts), SHED_CONNECTS);
    facts.in_flight.now = 5000;
    cr_assert_eq(shed_level(&facts), SHED_CALLS);
}

Test(shed, goes_by_the_resource_that_is_shortest) {
    struct shed_facts facts = calm();
    facts.lag.now = 1000;
    facts.memory.now = 970;
    cr_assert_eq(shed_level(&facts), SHED_BEATS);
}

Test(shed, what_has_no_limit_is_never_short) {
    struct shed_facts facts = {{1, 0}, {1, 0}, {1, 0}, {1, 0}};
    cr_assert_eq(shed_level(&facts), SHED_NOTHING);
}

Test(shed, lag_stands_only_when_tick_after_tick_is_late) {
    struct shed_lag lag = {{0}, 0};
    for (int i = 0; i < SHED_LOOKS - 1; i++)
        shed_lag_note(&lag, 5000 + i);
    cr_assert_eq(shed_lag_standing_ms(&lag), 0);
    shed_lag_note(&lag, 6000);
    cr_assert_eq(shed_lag_standing_ms(&lag), 5000);
    shed_lag_note(&lag, 3);
    cr_assert_eq(shed_lag_standing_ms(&lag), 3);
}
