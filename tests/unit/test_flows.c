#include "rules/gate/flows.h"

#include "rules/gate/queue.h"

#include <criterion/criterion.h>

static uint64_t mixed(uint64_t n) {
    n = (n ^ n >> 30) * 0xbf58476d1ce4e5b9;
    n = (n ^ n >> 27) * 0x94d049bb133111eb;
    return n ^ n >> 31;
}

Test(flows, remembers_the_last_organization_of_each_agent) {
    struct flows *f = flows_new(1024);
    for (uint64_t agent = 1; agent <= 100; agent++)
        cr_assert_eq(flows_find(f, mixed(agent)), FLOW_UNKNOWN);
    uint64_t one = mixed(1), other = mixed(2);
    flows_note(f, one, flows_of(4711));
    flows_note(f, other, flows_of(4712));
    cr_assert_eq(flows_find(f, one), flows_of(4711));
    cr_assert_eq(flows_find(f, other), flows_of(4712));
    flows_note(f, one, flows_of(4712));
    cr_assert_eq(flows_find(f, one), flows_of(4712));
    flows_free(f);
}

Test(flows, no_organization_is_taken_for_none) {
    for (uint64_t organization = 0; organization < 1000; organization++) {
        cr_assert_neq(flows_of(organization), FLOW_UNKNOWN);
        cr_assert_lt(flows_of(organization), QUEUE_FLOWS);
    }
}

Test(flows, a_full_table_is_seldom_wrong_about_one_it_does_not_know) {
    enum { AGENTS = 4096 };
    struct flows *f = flows_new(AGENTS);
    for (uint64_t agent = 0; agent < AGENTS; agent++)
        flows_note(f, mixed(agent), flows_of(agent));
    int wrong = 0;
    for (uint64_t agent = AGENTS; agent < 2 * AGENTS; agent++)
        wrong += flows_find(f, mixed(agent)) != FLOW_UNKNOWN;
    cr_assert_lt(wrong, 10, "%d", wrong);
    flows_free(f);
}
