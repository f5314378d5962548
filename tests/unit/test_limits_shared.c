/* A fleet that shares its limits, in virtual time: replicas that decide alone and tell a ledger, as
 * serve/limits/sharing does, what they took. */
#include "rules/gate/limits.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#define SECOND INT64_C(1000000)
#define MS     INT64_C(1000)

enum { REPLICAS_MAX = 5, KEYS = 4, ROOM = 64 };

static const uint8_t hash_key[16] = "a fleet's limits";

struct replica {
    struct limits *table;
    int64_t sync_us, told_us, reply_us; /* next sync, last one; 0: no reply is under way */
    int64_t sent_us;
    struct limits_told told[ROOM];
    int64_t ahead_us[ROOM]; /* what the reply says */
    size_t count;
};

struct fleet {
    int count;
    struct limit limit;
    int64_t start_us, now_us;
    int64_t trip_us; /* of a command and its reply */
    bool away;       /* the ledger */
    int64_t ledger[KEYS];
    struct replica replica[REPLICAS_MAX];
    int64_t taken[KEYS], refused[KEYS];
    int64_t over; /* more than one replica would have allowed by then, at worst */
};

static struct fleet fleet;
static uint32_t state = 1;

static int64_t dice(int64_t below) {
    state = state * 1664525 + 1013904223;
    return (int64_t)(state >> 8) % below;
}

static void gather(int count, struct limit limit) {
    fleet = (struct fleet){.count = count,
                           .limit = limit,
                           .start_us = 1000 * SECOND,
                           .now_us = 1000 * SECOND,
                           .trip_us = 2 * MS};
    state = 1;
    for (int i = 0; i < count; i++) {
        fleet.replica[i].table = limits_new(64, hash_key);
        fleet.replica[i].told_us = fleet.now_us;
        fleet.replica[i].sync_us = fleet.now_us + dice(200 * MS);
    }
}

static void part(void) {
    for (int i = 0; i < fleet.count; i++)
        limits_free(fleet.replica[i].table);
    fleet.count = 0;
}

TestSuite(limits_shared, .fini = part);

static int64_t later(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* By one replica, to whoever asks all the time. */
static int64_t allowed_by_now(void) {
    return (fleet.now_us - fleet.start_us) / fleet.limit.gap_us + fleet.limit.burst;
}

/* ---- the ledger: what the script does, but for keeping it small ---- */

static int64_t merge(int64_t *arrival_us, const struct limits_told *told, int64_t since_us) {
    int64_t most_us = fleet.limit.gap_us * fleet.limit.burst * (fleet.count + 1);
    int64_t then_us = later(later(*arrival_us, fleet.now_us - since_us) + told->spent_us,
                            fleet.now_us + told->ahead_us);
    *arrival_us = then_us < fleet.now_us + most_us ? then_us : fleet.now_us + most_us;
    return *arrival_us - fleet.now_us;
}

static void tell(struct replica *r) {
    size_t dropped;
    r->count = limits_export(r->table, fleet.now_us, r->told, ROOM, &dropped);
    for (size_t i = 0; i < r->count; i++)
        r->ahead_us[i] =
            merge(&fleet.ledger[r->told[i].key - 1], &r->told[i], fleet.now_us - r->told_us);
    r->told_us = r->sent_us = fleet.now_us;
    r->sync_us = fleet.now_us + 160 * MS + dice(80 * MS);
    r->reply_us = fleet.now_us + fleet.trip_us;
}

static void hear(struct replica *r) {
    for (size_t i = 0; i < r->count; i++)
        limits_settle(r->table, r->told[i].key, r->sent_us + r->ahead_us[i]);
    for (uint64_t key = 1; key <= KEYS; key++) /* others' are learnt where half is used */
        if (fleet.ledger[key - 1] - fleet.now_us > fleet.limit.gap_us * fleet.limit.burst / 2)
            limits_learn(r->table, key, fleet.ledger[key - 1]);
    r->reply_us = 0;
}

static void pass_ms(int64_t ms) {
    for (int64_t i = 0; i < ms; i++) {
        fleet.now_us += MS;
        for (struct replica *r = fleet.replica; r < fleet.replica + fleet.count; r++) {
            if (r->reply_us > 0 && fleet.now_us >= r->reply_us)
                hear(r);
            if (fleet.now_us >= r->sync_us && !fleet.away)
                tell(r);
        }
    }
}

static bool ask(int replica, uint64_t key) {
    int64_t wait_us;
    struct limits *t = fleet.replica[replica].table;
    bool taken = limits_take(t, key, &fleet.limit, fleet.now_us, &wait_us);
    fleet.taken[key - 1] += taken;
    fleet.refused[key - 1] += !taken;
    fleet.over = later(fleet.over, fleet.taken[key - 1] - allowed_by_now());
    return taken;
}

/* `per_s` a second, dealt over the replicas in turn, for so long. */
static void demand(uint64_t key, int64_t per_s, int64_t seconds) {
    for (int64_t n = 0; n < per_s * seconds; n++) {
        if (per_s >= 1000) {
            if (n % (per_s / 1000) == 0)
                pass_ms(1);
        } else {
            pass_ms(1000 * (n + 1) / per_s - 1000 * n / per_s);
        }
        (void)ask((int)(n % fleet.count), key);
    }
}

/* ---- what it comes to ---- */

/* Over the whole time, and at the worst moment. */
static void assert_allows(int64_t in_the_end, int64_t at_worst) {
    int64_t one = allowed_by_now(), taken = fleet.taken[0];
    cr_log_info("%d replicas, %lld s: %lld, one alone %lld; at worst %lld more\n", fleet.count,
                (long long)(fleet.now_us - fleet.start_us) / SECOND, (long long)taken,
                (long long)one, (long long)fleet.over);
    cr_assert_geq(taken * 100, one * 98, "%lld of %lld", (long long)taken, (long long)one);
    cr_assert_leq(taken, one + in_the_end, "%lld of %lld", (long long)taken, (long long)one);
    cr_assert_leq(fleet.over, at_worst, "%lld more at some time", (long long)fleet.over);
}

Test(limits_shared, a_fleet_that_is_asked_for_too_much_allows_what_one_replica_would) {
    for (int count = 1; count <= REPLICAS_MAX; count++) {
        gather(count, limit_per_second(50, 100));
        demand(1, 500, 120);
        assert_allows(6100 / 100, (count - 1) * 100);
        part();
    }
}

Test(limits_shared, a_flood_at_once_overshoots_by_a_burst_of_each_of_the_others_and_no_more) {
    for (int count = 1; count <= REPLICAS_MAX; count++) {
        gather(count, limit_per_second(50, 100));
        demand(1, 10000, 30);
        assert_allows(1600 / 50, (count - 1) * 110);
        part();
    }
}

Test(limits_shared, who_stays_below_the_limit_on_each_but_not_on_all_is_limited) {
    gather(3, limit_per_second(50, 100));
    demand(1, 90, 120); /* 30 on each */
    assert_allows(6100 / 100, 60);
    cr_assert_gt(fleet.refused[0], 0);
}

Test(limits_shared, who_stays_below_the_limit_on_all_is_never_refused) {
    gather(3, limit_per_second(50, 10));
    demand(1, 45, 120);
    cr_assert_eq(fleet.refused[0], 0);
}

/* As often as he finds all replicas rested, and all at once. */
Test(limits_shared, who_comes_in_bursts_to_all_replicas_pays_for_each) {
    gather(3, limit_per_minute(5, 5));
    for (int second = 0; second < 3600; second++) {
        if (fleet.ledger[0] <= fleet.now_us)
            for (int i = 0; i < 30; i++)
                (void)ask(i % 3, 1);
        pass_ms(1000);
    }
    assert_allows(15, 15);
}

Test(limits_shared, what_one_replica_has_given_the_others_do_not_give_again) {
    gather(3, limit_per_minute(5, 5));
    for (int i = 0; i < 5; i++)
        cr_assert(ask(0, 1));
    pass_ms(500);
    cr_assert_not(ask(1, 1));
    cr_assert_not(ask(2, 1));
    pass_ms(12000);
    cr_assert(ask(2, 1), "the next is due, wherever");
    pass_ms(500);
    cr_assert_not(ask(0, 1));
}

/* Each rates the address by the agents it has seen there itself. */
Test(limits_shared, replicas_that_rate_a_key_differently_use_up_one_minute_together) {
    struct limit rate[] = {limit_per_minute(40, 40), limit_per_minute(200, 200)};
    gather(2, limit_per_minute(20, 20));
    for (int i = 0; i < 20; i++)
        limits_charge(fleet.replica[0].table, 1, &rate[0], fleet.now_us);
    for (int i = 0; i < 100; i++)
        limits_charge(fleet.replica[1].table, 1, &rate[1], fleet.now_us);
    int64_t used_up_us = fleet.now_us + 60 * SECOND;
    pass_ms(1000);
    for (int i = 0; i < 2; i++) {
        struct limits *t = fleet.replica[i].table;
        cr_assert_leq(limits_arrival_us(t, 1) - used_up_us, 300 * MS);
        cr_assert_geq(limits_arrival_us(t, 1) - used_up_us, -300 * MS);
        for (int k = 0; k < 5; k++) /* what a second has given back */
            limits_charge(t, 1, &rate[i], fleet.now_us);
        cr_assert_gt(limits_wait_us(t, 1, &rate[i], fleet.now_us), 0, "replica %d", i);
    }
}

Test(limits_shared, what_is_given_back_is_given_back_on_all) {
    gather(2, limit_per_minute(5, 5));
    for (int round = 0; round < 20; round++) {
        cr_assert(ask(round % 2, 1), "round %d", round);
        pass_ms(300);
        limits_refund(fleet.replica[round % 2].table, 1, &fleet.limit);
        pass_ms(700);
    }
}

Test(limits_shared, a_retry_after_is_honest_where_nobody_else_asks) {
    gather(2, limit_per_minute(5, 5));
    struct limits *t = fleet.replica[0].table;
    int64_t wait_us = 0;
    for (int round = 0; round < 50; round++) {
        while (limits_take(t, 1, &fleet.limit, fleet.now_us, &wait_us))
            pass_ms(37);
        pass_ms(limit_retry_after_s(wait_us) * 1000);
        cr_assert(limits_take(t, 1, &fleet.limit, fleet.now_us, &wait_us), "round %d", round);
    }
}

Test(limits_shared, a_ledger_that_lost_its_memory_is_told_it_again) {
    gather(3, limit_per_second(50, 100));
    for (int i = 0; i < 60; i++) {
        demand(1, 500, 2);
        if (i % 10 == 5)
            fleet.ledger[0] = 0;
    }
    assert_allows(6100 / 100, 200);
}

/* What was taken alone is no debt: it was within what one alone may take. */
Test(limits_shared, an_outage_is_not_held_against_those_who_asked_meanwhile) {
    gather(2, limit_per_minute(60, 5));
    fleet.away = true;
    demand(1, 1, 600);
    fleet.away = false;
    for (int i = 0; i < 2; i++) { /* as serve/limits/sharing does, at its return */
        size_t dropped;
        (void)limits_export(fleet.replica[i].table, fleet.now_us, NULL, 0, &dropped);
    }
    pass_ms(1000);
    demand(1, 1, 60);
    cr_assert_eq(fleet.refused[0], 0);
}
