#include "rules/gate/known_agents.h"

#include <criterion/criterion.h>

enum { ROOM = 65536, HERE = 7001, THERE = 7002 };

static struct known_agents *known;

static void make_known(void) {
    known = known_agents_new(ROOM, 1024);
}

static void free_known(void) {
    known_agents_free(known);
}

TestSuite(known_agents, .init = make_known, .fini = free_known);

/* Keys are keyed hashes: these are as well spread (splitmix64). */
static uint64_t key_of(uint64_t n) {
    uint64_t x = (n + 1) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static void add(uint64_t address, uint64_t first, uint64_t count, int64_t now_us) {
    for (uint64_t agent = first; agent < first + count; agent++)
        known_agents_add(known, key_of(address), key_of(agent), now_us);
}

static int64_t count(uint64_t address, int64_t now_us) {
    return known_agents_count(known, key_of(address), now_us);
}

Test(known_agents, are_counted_once_however_often_they_come_and_at_their_own_address) {
    cr_assert_eq(count(HERE, 0), 0);
    for (int i = 0; i < 100; i++)
        add(HERE, 0, 30, i);
    add(THERE, 1000, 3, 100);
    cr_assert_eq(count(HERE, 100), 30);
    cr_assert_eq(count(THERE, 100), 3);
}

Test(known_agents, count_exactly_up_to_a_large_fleet_behind_one_address) {
    add(HERE, 0, 5000, 0);
    cr_assert_eq(count(HERE, 0), 5000);
}

Test(known_agents, are_known_for_one_to_two_periods) {
    int64_t last = KNOWN_AGENTS_PERIOD_US - 1;
    add(HERE, 0, 10, 0);
    add(THERE, 0, 10, last);
    cr_assert_eq(count(HERE, 2 * KNOWN_AGENTS_PERIOD_US - 1), 10);
    cr_assert_eq(count(THERE, last + KNOWN_AGENTS_PERIOD_US), 10);
    cr_assert_eq(count(HERE, 2 * KNOWN_AGENTS_PERIOD_US), 0);
    add(HERE, 0, 1, 2 * KNOWN_AGENTS_PERIOD_US);
    cr_assert_eq(count(HERE, 2 * KNOWN_AGENTS_PERIOD_US), 1, "those of long ago are not back");
}

Test(known_agents, that_stay_are_never_counted_twice_nor_lost_in_between) {
    for (int64_t period = 0; period < 5; period++)
        for (uint64_t agent = 0; agent < 100; agent++) {
            int64_t now = period * KNOWN_AGENTS_PERIOD_US + (int64_t)agent;
            add(HERE, agent, 1, now);
            cr_assert_eq(count(HERE, now), period == 0 ? (int64_t)agent + 1 : 100);
        }
}

Test(known_agents, that_move_are_counted_where_they_are_and_for_a_while_where_they_were) {
    add(HERE, 0, 10, 0);
    add(THERE, 0, 10, KNOWN_AGENTS_PERIOD_US);
    cr_assert_eq(count(THERE, KNOWN_AGENTS_PERIOD_US), 10);
    cr_assert_eq(count(HERE, KNOWN_AGENTS_PERIOD_US), 10);
    cr_assert_eq(count(HERE, 2 * KNOWN_AGENTS_PERIOD_US), 0);
}

Test(known_agents, beyond_the_room_are_not_counted_and_nobody_is_counted_twice) {
    enum { MANY = 4 * ROOM };
    for (int round = 0; round < 3; round++)
        add(HERE, 0, MANY, round);
    cr_assert_leq(count(HERE, 3), ROOM);
    cr_assert_geq(count(HERE, 3), ROOM * 99 / 100);
}

Test(known_agents, where_there_is_no_room_the_address_with_the_fewest_is_forgotten) {
    known_agents_free(known);
    known = known_agents_new(1024, 4);
    for (uint64_t address = 0; address < 4; address++)
        add(address, 100 * address, 2 + address, 0);
    add(9, 900, 1, 0);
    cr_assert_eq(count(0, 0), 0);
    cr_assert_eq(count(9, 0), 1);
    for (uint64_t address = 1; address < 4; address++)
        cr_assert_eq(count(address, 0), 2 + (int64_t)address);
}

Test(known_agents, a_thread_whose_clock_was_read_a_moment_before_the_period_ended_changes_nothing) {
    add(HERE, 0, 10, 0);
    add(HERE, 0, 5, KNOWN_AGENTS_PERIOD_US);
    add(HERE, 5, 5, KNOWN_AGENTS_PERIOD_US - 1);
    cr_assert_eq(count(HERE, KNOWN_AGENTS_PERIOD_US - 1), 10);
    cr_assert_eq(count(HERE, 2 * KNOWN_AGENTS_PERIOD_US), 10, "all ten in the second period");
}
