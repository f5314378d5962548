#include "rules/gate/limits.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#define SECOND INT64_C(1000000)

static const uint8_t hash_key[16] = "limits of tests";
static struct limits *table;

static void make_table(void) {
    table = limits_new(4096, hash_key);
}

static void free_table(void) {
    limits_free(table);
}

TestSuite(limits, .init = make_table, .fini = free_table);

static uint64_t key_of(int64_t n) {
    return limits_key(table, 'k', (struct span){(const char *)&n, sizeof n});
}

static bool takes(uint64_t key, const struct limit *limit, int64_t now_us) {
    int64_t wait_us;
    return limits_take(table, key, limit, now_us, &wait_us);
}

Test(limits, each_key_has_its_own) {
    struct limit limit = limit_per_minute(5, 5);
    int64_t now = 100 * SECOND;
    for (int agent = 0; agent < 50; agent++)
        for (int i = 0; i < 7; i++)
            cr_assert_eq(takes(key_of(agent), &limit, now), i < 5, "agent %d, %d", agent, i);
}

Test(limits, are_exact_within_one_percent_for_every_rate) {
    static const int64_t rates[] = {1, 3, 7, 50, 999, 7001, LIMIT_PER_SECOND_MAX};
    for (size_t r = 0; r < sizeof rates / sizeof *rates; r++) {
        struct limit limit = limit_per_second(rates[r], 10);
        int64_t taken = 0, end = 200 * SECOND, step = 37;
        if (rates[r] < 100)
            step = 1003;
        for (int64_t now = 0; now < end; now += step)
            taken += takes(key_of(rates[r]), &limit, SECOND + now);
        int64_t want = rates[r] * 200;
        cr_assert_geq(taken * 100, want * 99, "%lld: %lld", (long long)rates[r], (long long)taken);
        cr_assert_leq(taken * 100, want * 101 + 10 * 100, "%lld: %lld", (long long)rates[r],
                      (long long)taken);
    }
}

Test(limits, what_a_refusal_says_is_when_it_will_be_taken) {
    struct limit limit = limit_per_minute(5, 5);
    int64_t now = 55 * SECOND, wait_us = 0;
    for (int i = 0; i < 5; i++)
        cr_assert(takes(key_of(1), &limit, now));
    for (int i = 0; i < 20; i++) {
        now += SECOND / 3;
        if (limits_take(table, key_of(1), &limit, now, &wait_us))
            continue;
        cr_assert_eq(limits_wait_us(table, key_of(1), &limit, now), wait_us);
        cr_assert_not(takes(key_of(1), &limit, now + wait_us - 1));
        int64_t seconds = limit_retry_after_s(wait_us);
        cr_assert(takes(key_of(1), &limit, now + seconds * SECOND));
        limits_refund(table, key_of(1), &limit);
        cr_assert_lt(seconds * SECOND - wait_us, SECOND, "not a second too late");
    }
}

Test(limits, a_flood_of_random_keys_leaves_the_busy_ones_as_they_were) {
    enum { BUSY = 200, FLOOD = 1000000 };
    struct limit limit = limit_per_minute(5, 5);
    int64_t now = 1000 * SECOND, before[BUSY];
    for (int agent = 0; agent < BUSY; agent++) {
        for (int i = 0; i < 2 + agent % 4; i++)
            cr_assert(takes(key_of(agent), &limit, now));
        before[agent] = limits_arrival_us(table, key_of(agent));
    }
    for (int64_t i = 0; i < FLOOD; i++)
        takes(key_of(BUSY + i), &limit, now + i); /* a million in a second */
    for (int agent = 0; agent < BUSY; agent++)
        cr_assert_eq(limits_arrival_us(table, key_of(agent)), before[agent], "agent %d", agent);
}

Test(limits, what_was_forgotten_begins_anew) {
    struct limit limit = limit_per_second(1, 3);
    int64_t now = 10 * SECOND;
    cr_assert(takes(key_of(1), &limit, now));
    now += 10 * SECOND; /* idle: as good as not there */
    for (int64_t i = 0; i < 100000; i++)
        takes(key_of(100 + i), &limit, now);
    cr_assert_eq(limits_arrival_us(table, key_of(1)), 0);
    for (int i = 0; i < 3; i++)
        cr_assert(takes(key_of(1), &limit, now));
}

Test(limits, what_happened_anyway_is_owed_for_no_longer_than_a_burst) {
    struct limit limit = limit_per_minute(20, 20);
    int64_t now = 5 * SECOND;
    for (int i = 0; i < 20; i++) {
        cr_assert_eq(limits_wait_us(table, key_of(1), &limit, now), 0);
        limits_charge(table, key_of(1), &limit, now);
    }
    cr_assert_eq(limits_wait_us(table, key_of(1), &limit, now), 3 * SECOND);
    for (int i = 0; i < 1000; i++)
        limits_charge(table, key_of(1), &limit, now);
    cr_assert_eq(limits_wait_us(table, key_of(1), &limit, now), (20 * 3 + 3) * SECOND);
}

Test(limits, a_refund_undoes_a_take) {
    struct limit limit = limit_per_minute(1, 1);
    cr_assert(takes(key_of(1), &limit, SECOND));
    limits_refund(table, key_of(1), &limit);
    cr_assert(takes(key_of(1), &limit, SECOND));
    cr_assert_not(takes(key_of(1), &limit, SECOND));
    limits_refund(table, key_of(2), &limit); /* nobody's: nothing happens */
}

Test(limits, left_counts_down_to_nothing_and_up_again) {
    struct limit limit = limit_per_second(2, 4);
    int64_t arrival = 0, now = 3 * SECOND;
    cr_assert_eq(limit_left(arrival, &limit, now), 4);
    for (int left = 3; left >= 0; left--) {
        limit_take(&arrival, &limit, now);
        cr_assert_eq(limit_left(arrival, &limit, now), left);
    }
    cr_assert_eq(limit_left(arrival, &limit, now + SECOND), 2);
    limit_charge(&arrival, &limit, 100, now);
    cr_assert_eq(limit_left(arrival, &limit, now), 0);
}

Test(limits, kinds_of_keys_do_not_meet) {
    cr_assert_neq(limits_key(table, 'a', SPAN("x")), limits_key(table, 'b', SPAN("x")));
    cr_assert_neq(limits_key(table, 'a', SPAN("x")), limits_key(table, 'a', SPAN("x\0")));
}

/* ---- telling ---- */

enum { ROOM = 64 };

static size_t export_all(int64_t now_us, struct limits_told out[ROOM]) {
    size_t dropped;
    size_t count = limits_export(table, now_us, out, ROOM, &dropped);
    cr_assert_eq(dropped, 0);
    return count;
}

Test(limits, what_is_told_is_what_was_taken_since) {
    struct limit limit = limit_per_second(100, 100);
    struct limits_told told[ROOM];
    for (int i = 0; i < 30; i++)
        cr_assert(takes(key_of(i % 3), &limit, SECOND));
    limits_refund(table, key_of(0), &limit);
    size_t count = export_all(SECOND, told);
    cr_assert_eq(count, 3);
    for (size_t i = 0; i < count; i++) {
        int64_t gaps = told[i].key == key_of(0) ? 9 : 10;
        cr_assert_eq(told[i].spent_us, gaps * limit.gap_us);
        cr_assert_eq(told[i].ahead_us, gaps * limit.gap_us);
    }
    cr_assert_eq(export_all(SECOND, told), 0, "once");
    limits_refund(table, key_of(1), &limit);
    cr_assert_eq(export_all(10 * SECOND, told), 1);
    cr_assert_eq(told[0].spent_us, -limit.gap_us, "given back after it was told");
    cr_assert_eq(told[0].ahead_us, 0);
}

Test(limits, of_too_many_those_are_told_that_are_nearest_their_limit) {
    enum { KEYS = 500, MOST = 16 };
    struct limit limit = limit_per_minute(5, 5);
    struct limits_told told[MOST];
    size_t dropped;
    for (int i = 0; i < KEYS; i++)
        for (int k = 0; k < (i % 50 == 7 ? 4 : i % 3 + 1); k++)
            cr_assert(takes(key_of(i), &limit, SECOND));
    cr_assert_eq(limits_export(table, SECOND, told, MOST, &dropped), MOST);
    cr_assert_eq(dropped, KEYS - MOST);
    int busiest = 0;
    for (int i = 0; i < MOST; i++) {
        cr_assert_geq(told[i].spent_us, 3 * limit.gap_us);
        busiest += told[i].spent_us == 4 * limit.gap_us;
    }
    cr_assert_eq(busiest, KEYS / 50);
    cr_assert_eq(limits_export(table, SECOND, told, MOST, &dropped), 0, "told never");
    cr_assert_eq(dropped, 0);
}

Test(limits, what_the_ledger_says_is_taken_over_and_what_came_since_is_added) {
    struct limit limit = limit_per_minute(60, 60);
    struct limits_told told[ROOM];
    cr_assert(takes(key_of(1), &limit, SECOND));
    cr_assert_eq(export_all(SECOND, told), 1);
    cr_assert(takes(key_of(1), &limit, SECOND));
    limits_settle(table, key_of(1), 21 * SECOND);
    cr_assert_eq(limits_arrival_us(table, key_of(1)), 22 * SECOND);
    limits_settle(table, key_of(1), 5 * SECOND);
    cr_assert_eq(limits_arrival_us(table, key_of(1)), 6 * SECOND, "others gave theirs back");
}

/* As an address does that has more failures a minute since more agents are known there. */
Test(limits, a_key_whose_rate_changes_keeps_the_part_of_its_minute_that_it_has_used) {
    struct limit slow = limit_per_minute(20, 20), quick = limit_per_minute(200, 200);
    struct limits_told told[ROOM];
    for (int i = 0; i < 10; i++)
        cr_assert(takes(key_of(1), &slow, SECOND));
    for (int i = 0; i < 100; i++)
        cr_assert(takes(key_of(1), &quick, SECOND), "the other half of the minute, %d", i);
    cr_assert_not(takes(key_of(1), &quick, SECOND));
    cr_assert_not(takes(key_of(1), &slow, SECOND));
    cr_assert_eq(limits_wait_us(table, key_of(1), &quick, SECOND), SECOND * 60 / 200);
    cr_assert_eq(limits_wait_us(table, key_of(1), &slow, SECOND), SECOND * 60 / 20);
    cr_assert_eq(export_all(SECOND, told), 1);
    cr_assert_eq(told[0].spent_us, 60 * SECOND);
    cr_assert_eq(told[0].ahead_us, 60 * SECOND);
}

Test(limits, what_others_told_is_learnt_and_forgives_nothing) {
    limits_learn(table, key_of(1), 9 * SECOND);
    cr_assert_eq(limits_arrival_us(table, key_of(1)), 9 * SECOND);
    limits_learn(table, key_of(1), 5 * SECOND);
    cr_assert_eq(limits_arrival_us(table, key_of(1)), 9 * SECOND);
}
