#include "rules/gate/lockout.h"

#include <criterion/criterion.h>

#define SECOND INT64_C(1000000)

enum { AGENT = 4711, ATTACKER = 1, VICTIM = 2 };

static const uint8_t hash_key[16] = "lockout in test";
static struct lockout_policy policy;
static struct lockout *lockout;

static void make_lockout(void) {
    policy = (struct lockout_policy){limit_per_minute(5, 5), 10 * SECOND};
    lockout = lockout_new(64, 1024, hash_key);
}

static void free_lockout(void) {
    lockout_free(lockout);
}

TestSuite(lockout, .init = make_lockout, .fini = free_lockout);

static int64_t try_from(uint64_t address, int64_t now_us) {
    enum lockout_hold hold;
    return lockout_try(lockout, &policy, AGENT, address, now_us, &hold);
}

/* Tries a wrong secret; returns the wait. */
static int64_t fail_of(uint64_t agent, uint64_t address, int64_t now_us) {
    enum lockout_hold hold;
    int64_t wait_us = lockout_try(lockout, &policy, agent, address, now_us, &hold);
    if (wait_us == 0)
        lockout_failed(lockout, &policy, agent, now_us);
    return wait_us;
}

static int64_t fail_from(uint64_t address, int64_t now_us) {
    return fail_of(AGENT, address, now_us);
}

static void lock(int64_t now_us) {
    for (int i = 0; i < 5; i++)
        cr_assert_eq(fail_from(ATTACKER, now_us), 0);
    cr_assert_gt(fail_from(ATTACKER, now_us), 0);
    cr_assert(lockout_is_locked(lockout, AGENT, now_us));
}

Test(lockout, five_may_fail_in_a_minute_then_one_in_ten_seconds_is_tried) {
    int64_t start = 100 * SECOND;
    int tried = 0;
    lock(start);
    for (int64_t now = start + 1; now < start + 600 * SECOND; now += SECOND / 50)
        tried += fail_from(ATTACKER, now) == 0;
    cr_assert_geq(tried, 59);
    cr_assert_leq(tried, 60);
}

Test(lockout, an_agent_that_is_let_in_each_time_is_never_locked) {
    for (int64_t now = SECOND; now < 100 * SECOND; now += SECOND / 10) {
        cr_assert_eq(try_from(VICTIM, now), 0);
        lockout_return(lockout, &policy, AGENT, VICTIM);
    }
    cr_assert_not(lockout_is_locked(lockout, AGENT, 100 * SECOND));
}

/* ---- in flight ---- */

Test(lockout, tries_in_flight_from_one_address_keep_no_other_waiting) {
    int64_t now = 100 * SECOND;
    int tried = 0;
    for (int i = 0; i < 1000; i++)
        tried += try_from(ATTACKER, now) == 0;
    cr_assert_eq(tried, 5, "its own share");
    cr_assert_eq(try_from(VICTIM, now), 0);
    cr_assert_not(lockout_is_locked(lockout, AGENT, now));
}

/* The controller answered 400: it found nothing wrong with the secret. */
Test(lockout, tries_that_failed_unjudged_lock_nobody_and_are_not_given_back) {
    int64_t start = 100 * SECOND;
    int tried = 0;
    for (int64_t now = start; now < start + 60 * SECOND; now += SECOND / 100)
        tried += try_from(ATTACKER, now) == 0;
    cr_assert_eq(tried, 5 + 4, "five at once, one in 12 s");
    cr_assert_not(lockout_is_locked(lockout, AGENT, start + 60 * SECOND));
    for (int i = 0; i < 5; i++)
        cr_assert_eq(try_from(VICTIM, start + 60 * SECOND), 0);
}

Test(lockout, a_share_says_when_the_next_try_is_due) {
    int64_t now = 100 * SECOND;
    for (int i = 0; i < 5; i++)
        cr_assert_eq(try_from(ATTACKER, now), 0);
    cr_assert_eq(try_from(ATTACKER, now), 12 * SECOND);
    lockout_return(lockout, &policy, AGENT, ATTACKER);
    cr_assert_eq(try_from(ATTACKER, now), 0);
}

/* A burst from everywhere: all began before the first was judged. `AT_ONCE` of them are at the
 * controller at a time, each is asked for again when its turn comes. */
Test(lockout,
     of_a_burst_from_many_addresses_no_more_are_judged_than_the_limit_and_those_under_way) {
    enum { ADDRESSES = 500, AT_ONCE = 8 };
    int64_t now = 100 * SECOND;
    int judged = 0, sent = 0;
    for (uint64_t address = 1; address <= ADDRESSES; address++)
        cr_assert_eq(try_from(address, now), 0);
    for (uint64_t address = 1; address <= ADDRESSES; address++) {
        if (lockout_try_again(lockout, &policy, AGENT, address, now) > 0)
            continue;
        if (++sent <= AT_ONCE)
            continue; /* the places fill up; from here on one is judged as one is sent */
        lockout_failed(lockout, &policy, AGENT, now);
        judged++;
    }
    cr_assert_eq(judged, 5);
    cr_assert_eq(sent, 5 + AT_ONCE);
    cr_assert(lockout_is_locked(lockout, AGENT, now));
}

Test(lockout, one_that_waited_while_its_agent_was_locked_gets_a_place) {
    int64_t now = 100 * SECOND;
    cr_assert_eq(try_from(VICTIM, now), 0);
    lock(now);
    int64_t wait_us = lockout_try_again(lockout, &policy, AGENT, VICTIM, now);
    cr_assert_gt(wait_us, 0);
    cr_assert_leq(wait_us, 20 * SECOND);
    lockout_return(lockout, &policy, AGENT, VICTIM);
    cr_assert_eq(try_from(VICTIM, now + wait_us), 0);
}

Test(lockout, says_what_a_try_holds) {
    int64_t now = 100 * SECOND;
    enum lockout_hold hold;
    cr_assert_eq(lockout_try(lockout, &policy, AGENT, VICTIM, now, &hold), 0);
    cr_assert_eq(hold, LOCKOUT_SHARE);
    lock(now);
    int64_t wait_us = lockout_try(lockout, &policy, AGENT, VICTIM, now, &hold);
    cr_assert_eq(hold, LOCKOUT_NOTHING);
    cr_assert_eq(lockout_try(lockout, &policy, AGENT, VICTIM, now + wait_us, &hold), 0);
    cr_assert_eq(hold, LOCKOUT_PLACE);
}

/* ---- locked ---- */

Test(lockout, one_who_asks_once_gets_the_place_after_the_hammers) {
    int64_t now = 100 * SECOND;
    lock(now);
    int64_t wait_us = try_from(VICTIM, now + 1);
    cr_assert_leq(wait_us, 20 * SECOND);
    int64_t due = now + 1 + wait_us;
    for (int64_t at = now + 2; at < due; at += SECOND / 100)
        fail_from(ATTACKER, at);
    cr_assert_eq(try_from(VICTIM, due), 0);
}

Test(lockout, asking_again_changes_nothing_about_ones_place) {
    int64_t now = 100 * SECOND;
    lock(now);
    int64_t wait_us = try_from(VICTIM, now);
    for (int i = 1; i < 100; i++)
        cr_assert_eq(try_from(VICTIM, now + i), wait_us - i);
    cr_assert_gt(try_from(VICTIM, now + wait_us - 1), 0);
    cr_assert_eq(try_from(VICTIM, now + wait_us), 0);
}

Test(lockout, a_place_is_kept_for_a_client_that_knows_no_retry_after) {
    int64_t now = 100 * SECOND, back = now + 300 * SECOND;
    lock(now);
    cr_assert_gt(try_from(VICTIM, now), 0);
    for (int64_t at = now + 1; at < back; at += SECOND / 10)
        fail_from(ATTACKER, at);
    cr_assert_eq(try_from(VICTIM, back), 0);
}

Test(lockout, a_place_nobody_claims_is_given_away_in_the_end) {
    int64_t now = 100 * SECOND;
    lock(now);
    for (uint64_t address = 10; address < 10 + LOCKOUT_ADDRESSES - 1; address++)
        cr_assert_gt(try_from(address, now), 0);
    cr_assert_eq(try_from(VICTIM, now), 10 * SECOND); /* full: no place, a time to ask again */
    int64_t later = now;
    for (; later < now + LOCKOUT_KEPT_US + 200 * SECOND; later += SECOND)
        fail_from(ATTACKER, later);
    cr_assert_leq(try_from(VICTIM, later), 20 * SECOND);
    int64_t wait_us = try_from(VICTIM, later);
    cr_assert_eq(try_from(VICTIM, later + wait_us), 0);
}

Test(lockout, unlocks_a_minute_after_the_last_failure) {
    int64_t now = 100 * SECOND;
    lock(now);
    int64_t wait_us = try_from(ATTACKER, now);
    now += wait_us;
    cr_assert_eq(fail_from(ATTACKER, now), 0);
    cr_assert(lockout_is_locked(lockout, AGENT, now + LOCKOUT_LOCKED_US - 1));
    now += LOCKOUT_LOCKED_US;
    cr_assert_not(lockout_is_locked(lockout, AGENT, now));
    cr_assert_eq(try_from(VICTIM, now), 0);
}

Test(lockout, one_agents_lock_is_not_anothers) {
    lock(100 * SECOND);
    cr_assert_eq(fail_of(AGENT + 1, ATTACKER, 100 * SECOND), 0);
}

Test(lockout, a_flood_of_other_agents_leaves_the_locked_one_locked) {
    int64_t now = 100 * SECOND;
    lock(now);
    now += SECOND;
    cr_assert_gt(fail_from(ATTACKER, now), 0);
    for (uint64_t agent = 10000; agent < 1010000; agent++)
        fail_of(agent * 0x9e3779b97f4a7c15u, ATTACKER, now);
    cr_assert(lockout_is_locked(lockout, AGENT, now));
}

Test(lockout, where_there_is_no_room_the_one_whose_last_failure_is_the_oldest_is_forgotten) {
    lockout_free(lockout);
    lockout = lockout_new(4, 1024, hash_key);
    for (uint64_t agent = 1; agent <= 5; agent++) {
        int64_t now = (100 + (int64_t)agent) * SECOND;
        for (int i = 0; i < 6; i++)
            (void)fail_of(agent, ATTACKER, now);
        cr_assert(lockout_is_locked(lockout, agent, now));
        if (agent == 4)
            lockout_failed(lockout, &policy, 1, now);
    }
    for (uint64_t agent = 1; agent <= 5; agent++)
        cr_expect_eq(lockout_is_locked(lockout, agent, 105 * SECOND), agent != 2, "%d", (int)agent);
}
