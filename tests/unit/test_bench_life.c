#include "agents/life.h"

#include <criterion/criterion.h>

enum { SECOND = 1000000 };
#define NO_HINT (-1)

struct case_ {
    struct life l;
    struct life_rules rules;
    int64_t now, intended;
};

static struct case_ begun(void) {
    struct case_ c = {.rules = life_documented(), .now = 100 * (int64_t)SECOND};
    life_init(&c.l, 7);
    life_begin(&c.l, c.now);
    return c;
}

static enum life_call take(struct case_ *c) {
    return life_take(&c->l, &c->rules, c->now, &c->intended);
}

static bool answer(struct case_ *c, enum life_call call, int status, int64_t retry_after_s) {
    return life_answered(&c->l, &c->rules, call, status, status == 201, retry_after_s, c->now);
}

static struct case_ connected(void) {
    struct case_ c = begun();
    take(&c);
    answer(&c, LIFE_CONNECT, 201, NO_HINT);
    return c;
}

Test(bench_life, does_nothing_before_it_begins) {
    struct life l;
    life_init(&l, 1);
    cr_assert_eq(l.state, LIFE_NEW);
    cr_assert_eq(life_due_us(&l), LIFE_NEVER);
}

Test(bench_life, connects_once_and_then_beats_each_minute) {
    struct case_ c = begun();
    cr_assert_eq(take(&c), LIFE_CONNECT);
    cr_assert_eq(take(&c), LIFE_NOTHING);
    cr_assert(answer(&c, LIFE_CONNECT, 201, NO_HINT));
    cr_assert_eq(c.l.state, LIFE_CONNECTED);
    for (int minute = 1; minute <= 3; minute++) {
        cr_assert_eq(life_due_us(&c.l), (100 + 60 * minute) * (int64_t)SECOND);
        c.now = life_due_us(&c.l);
        cr_assert_eq(take(&c), LIFE_BEAT);
        answer(&c, LIFE_BEAT, 201, NO_HINT);
    }
}

Test(bench_life, makes_late_what_fell_due_meanwhile_and_counts_from_then) {
    struct case_ c = connected();
    c.now += 185 * (int64_t)SECOND; /* a target that kept it waiting for three intervals */
    for (int i = 1; i <= 3; i++) {
        cr_assert_eq(take(&c), LIFE_BEAT);
        cr_assert_eq(c.intended, (100 + 60 * i) * (int64_t)SECOND);
    }
    cr_assert_eq(take(&c), LIFE_NOTHING);
}

Test(bench_life, retries_network_errors_after_1_2_and_4_s_and_then_works_locally_for_5_min) {
    struct case_ c = begun();
    const int pauses[] = {1, 2, 4};
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(take(&c), LIFE_CONNECT);
        life_failed(&c.l, &c.rules, LIFE_CONNECT, c.now);
        cr_assert_eq(c.l.state, LIFE_CONNECTING);
        cr_assert_eq(life_due_us(&c.l), c.now + pauses[i] * (int64_t)SECOND);
        c.now = life_due_us(&c.l);
    }
    cr_assert_eq(take(&c), LIFE_CONNECT);
    life_failed(&c.l, &c.rules, LIFE_CONNECT, c.now);
    cr_assert_eq(c.l.state, LIFE_LOCAL);
    cr_assert_eq(life_due_us(&c.l), c.now + 300 * (int64_t)SECOND);
    c.now = life_due_us(&c.l);
    cr_assert_eq(take(&c), LIFE_CONNECT);
    life_failed(&c.l, &c.rules, LIFE_CONNECT, c.now);
    cr_assert_eq(life_due_us(&c.l), c.now + SECOND, "the retries begin anew");
    cr_assert_eq(c.l.wanted_us, 100 * (int64_t)SECOND, "still waiting since the beginning");
}

Test(bench_life, works_locally_on_an_error_status) {
    struct case_ c = begun();
    take(&c);
    cr_assert_not(answer(&c, LIFE_CONNECT, 503, 7));
    cr_assert_eq(c.l.state, LIFE_LOCAL);
}

Test(bench_life, comes_back_when_told_only_if_it_obeys) {
    struct case_ c = begun();
    c.rules.obey_retry_after = true;
    take(&c);
    answer(&c, LIFE_CONNECT, 503, 7);
    cr_assert_eq(c.l.state, LIFE_CONNECTING);
    cr_assert_eq(life_due_us(&c.l), c.now + 7 * (int64_t)SECOND);
    c.now += 7 * (int64_t)SECOND;
    take(&c);
    answer(&c, LIFE_CONNECT, 201, NO_HINT);
    answer(&c, LIFE_BEAT, 429, 90);
    cr_assert_eq(life_due_us(&c.l), c.now + 90 * (int64_t)SECOND);
}

Test(bench_life, stops_when_a_connect_is_refused) {
    const int statuses[] = {401, 404};
    for (int i = 0; i < 2; i++) {
        struct case_ c = begun();
        take(&c);
        answer(&c, LIFE_CONNECT, statuses[i], NO_HINT);
        cr_assert_eq(c.l.state, LIFE_STOPPED);
        cr_assert_eq(life_due_us(&c.l), LIFE_NEVER);
    }
}

Test(bench_life, works_locally_when_an_answer_has_no_token) {
    struct case_ c = begun();
    take(&c);
    life_answered(&c.l, &c.rules, LIFE_CONNECT, 201, false, NO_HINT, c.now);
    cr_assert_eq(c.l.state, LIFE_LOCAL);
}

Test(bench_life, a_heartbeat_connects_again_on_401_and_stops_on_404) {
    struct case_ c = connected();
    answer(&c, LIFE_BEAT, 401, NO_HINT);
    cr_assert_eq(c.l.state, LIFE_CONNECTING);
    cr_assert_eq(take(&c), LIFE_CONNECT);
    cr_assert(answer(&c, LIFE_CONNECT, 201, NO_HINT));
    answer(&c, LIFE_BEAT, 404, NO_HINT);
    cr_assert_eq(c.l.state, LIFE_STOPPED);
}

Test(bench_life, a_heartbeat_never_minds_other_failures) {
    struct case_ c = connected();
    int64_t due = life_due_us(&c.l);
    answer(&c, LIFE_BEAT, 500, NO_HINT);
    answer(&c, LIFE_BEAT, 403, NO_HINT);
    life_failed(&c.l, &c.rules, LIFE_BEAT, c.now);
    cr_assert_eq(c.l.state, LIFE_CONNECTED);
    cr_assert_eq(life_due_us(&c.l), due);
}

Test(bench_life, connects_again_after_23_hours) {
    struct case_ c = connected();
    c.l.beat_us = LIFE_NEVER;
    cr_assert_eq(life_due_us(&c.l), c.now + 23 * 3600 * (int64_t)SECOND);
    c.now = life_due_us(&c.l);
    cr_assert_eq(take(&c), LIFE_CONNECT);
    cr_assert_not(answer(&c, LIFE_CONNECT, 201, NO_HINT), "it was connected before");
}

Test(bench_life, says_goodbye_and_comes_back_when_it_restarts) {
    struct case_ c = connected();
    life_leave(&c.l, c.now + SECOND, true);
    c.now += SECOND;
    cr_assert_eq(take(&c), LIFE_DISCONNECT);
    answer(&c, LIFE_DISCONNECT, 201, NO_HINT);
    cr_assert_eq(c.l.state, LIFE_CONNECTING);
    cr_assert_eq(c.l.wanted_us, c.now);
    cr_assert_eq(take(&c), LIFE_CONNECT);
}

Test(bench_life, leaves_for_good_even_when_its_goodbye_is_lost) {
    struct case_ c = connected();
    life_leave(&c.l, c.now, false);
    cr_assert_eq(take(&c), LIFE_DISCONNECT);
    life_failed(&c.l, &c.rules, LIFE_DISCONNECT, c.now);
    cr_assert_eq(c.l.state, LIFE_STOPPED);
}

Test(bench_life, beats_in_phase_with_all_others_when_told) {
    struct case_ c = begun();
    c.rules.phase = LIFE_IN_PHASE;
    c.now += 12345678;
    take(&c);
    answer(&c, LIFE_CONNECT, 201, NO_HINT);
    cr_assert_eq(life_due_us(&c.l) % c.rules.beat_us, 0);
}

Test(bench_life, spreads_first_beats_and_jitters_the_others) {
    int64_t least = INT64_MAX, most = 0;
    for (uint32_t seed = 0; seed < 1000; seed++) {
        struct case_ c = begun();
        c.rules.phase = LIFE_SPREAD;
        c.rules.jitter_percent = 10;
        life_init(&c.l, seed);
        life_begin(&c.l, c.now);
        take(&c);
        answer(&c, LIFE_CONNECT, 201, NO_HINT);
        int64_t first = life_due_us(&c.l) - c.now;
        least = first < least ? first : least;
        most = first > most ? first : most;
        c.now = life_due_us(&c.l);
        take(&c);
        int64_t gap = life_due_us(&c.l) - c.now;
        cr_assert_geq(gap, 54 * SECOND);
        cr_assert_leq(gap, 66 * SECOND);
    }
    cr_assert_lt(least, SECOND);
    cr_assert_gt(most, 59 * SECOND);
}
