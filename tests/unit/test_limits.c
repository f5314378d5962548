#include "rules/limits.h"

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

/* ---- several replicas ---- */

static size_t export_all(struct limits *from, struct limits_delta *out, size_t max) {
    size_t cursor = 0, count = 0;
    do
        count += limits_export(from, &cursor, out + count, max - count);
    while (cursor != 0);
    return count;
}

Test(limits, what_is_exported_is_what_was_taken_since) {
    struct limit limit = limit_per_second(100, 100);
    struct limits_delta told[64];
    for (int i = 0; i < 30; i++)
        cr_assert(takes(key_of(i % 3), &limit, SECOND));
    limits_refund(table, key_of(0), &limit);
    size_t count = export_all(table, told, 64);
    cr_assert_eq(count, 3);
    for (size_t i = 0; i < count; i++)
        cr_assert_eq(told[i].count, told[i].key == key_of(0) ? 9 : 10);
    cr_assert_eq(export_all(table, told, 64), 0);
}

Test(limits, an_export_goes_on_where_there_was_no_room) {
    enum { KEYS = 500 };
    struct limit limit = limit_per_second(1, 1);
    struct limits_delta told[KEYS];
    size_t cursor = 0, count = 0;
    for (int i = 0; i < KEYS; i++)
        takes(key_of(i), &limit, SECOND);
    int calls = 0;
    do {
        count += limits_export(table, &cursor, told + count, 16);
        calls++;
    } while (cursor != 0);
    cr_assert_eq(count, KEYS);
    cr_assert_gt(calls, 10);
}

/* Replicas that decide alone and tell each other five times a second overshoot by what they take
 * between two syncs, and no more. */
Test(limits, replicas_that_sync_allow_together_little_more_than_one) {
    enum { REPLICAS = 3, ROOM = 64 };
    struct limit limit = limit_per_second(50, 100);
    struct limits *replica[REPLICAS];
    for (int i = 0; i < REPLICAS; i++)
        replica[i] = limits_new(64, hash_key);
    int64_t taken = 0, wait_us, seconds = 60;
    for (int64_t now = SECOND; now < (1 + seconds) * SECOND; now += 2000) {
        taken += limits_take(replica[now / 2000 % REPLICAS], 77, &limit, now, &wait_us);
        if (now % (SECOND / 5) != 0)
            continue;
        struct limits_delta told[REPLICAS][ROOM];
        size_t count[REPLICAS];
        for (int i = 0; i < REPLICAS; i++)
            count[i] = export_all(replica[i], told[i], ROOM);
        for (int from = 0; from < REPLICAS; from++)
            for (int to = 0; to < REPLICAS; to++)
                for (size_t i = 0; from != to && i < count[from]; i++)
                    limits_import(replica[to], &told[from][i], &limit, now);
    }
    int64_t one = 50 * seconds + 100;
    cr_assert_geq(taken, one * 95 / 100);
    cr_assert_leq(taken, one * 110 / 100, "%lld instead of %lld", (long long)taken, (long long)one);
    for (int i = 0; i < REPLICAS; i++)
        limits_free(replica[i]);
}
