#include "rules/gate/gate.h"

#include "rules/gate/flows.h"
#include "sim/sim.h"

#include <criterion/criterion.h>
#include <stdlib.h>

enum { SECOND = 1000000 };

static const struct gate_policy policy = {.breaker = {.failures = 5,
                                                      .window_us = 10 * SECOND,
                                                      .calls_min = 20,
                                                      .percent = 50,
                                                      .open_us = 5 * SECOND,
                                                      .open_max_us = 60 * SECOND},
                                          .places = {[GATE_CONNECT] = 8,
                                                     [GATE_HEARTBEAT] = 32,
                                                     [GATE_CONTROL] = 16,
                                                     [GATE_API] = 128,
                                                     [GATE_LONG] = 256,
                                                     [GATE_STREAM] = 4,
                                                     [GATE_PROBE] = 1},
                                          .adaptive = true,
                                          .ramp_us = 30 * SECOND,
                                          .waiting_max = 100,
                                          .retry_reach_s = 300};

static enum gate_answer ask(struct gate *g, struct gate_ticket *t, enum gate_class class,
                            int64_t now_us) {
    struct gate_wish wish = {.class = class, .wait_us = 8 * SECOND};
    return gate_ask(g, t, &wish, now_us);
}

static void fill(struct gate *g, enum gate_class class, struct gate_ticket *tickets, int count) {
    for (int i = 0; i < count; i++)
        cr_assert_eq(ask(g, &tickets[i], class, 0), GATE_IN, "%d", i);
}

/* Five answers that did not come. */
static void break_it(struct gate *g, int64_t now_us) {
    for (int i = 0; i < 5; i++) {
        struct gate_ticket t;
        cr_assert_eq(ask(g, &t, GATE_API, now_us), GATE_IN);
        gate_answered(g, &t, GATE_FAILED, now_us);
        gate_out(g, &t, now_us);
    }
    cr_assert_eq(g->breaker.state, BREAKER_OPEN);
}

Test(gate, each_class_has_places_of_its_own) {
    struct gate g;
    gate_init(&g, &policy);
    struct gate_ticket connect[9], beat[32], control[17], api[128], longs[256];
    fill(&g, GATE_CONNECT, connect, 8);
    cr_assert_eq(ask(&g, &connect[8], GATE_CONNECT, 0), GATE_WAITS);
    fill(&g, GATE_CONTROL, control, 16);
    cr_assert_eq(ask(&g, &control[16], GATE_CONTROL, 0), GATE_WAITS);
    fill(&g, GATE_LONG, longs, 256);
    fill(&g, GATE_HEARTBEAT, beat, 32); /* neither takes any of these */
    fill(&g, GATE_API, api, 128);
    cr_assert_not(gate_has_room(&g, GATE_HEARTBEAT, 0));
    gate_release(&g);
}

Test(gate, places_are_shared_with_the_other_replicas) {
    struct gate g;
    gate_init(&g, &policy);
    g.replicas = 3;
    cr_assert_eq(gate_limit(&g, GATE_CONNECT, 0), 3);
    cr_assert_eq(gate_limit(&g, GATE_STREAM, 0), 2);
    g.replicas = 100;
    cr_assert_eq(gate_limit(&g, GATE_CONNECT, 0), 1, "never none");
    gate_release(&g);
}

Test(gate, who_waits_gets_the_place_of_who_leaves) {
    struct gate g;
    gate_init(&g, &policy);
    struct gate_ticket in[8], waits;
    enum gate_answer answer;
    fill(&g, GATE_CONNECT, in, 8);
    cr_assert_eq(ask(&g, &waits, GATE_CONNECT, 0), GATE_WAITS);
    cr_assert_null(gate_next(&g, GATE_CONNECT, 0, &answer));
    gate_out(&g, &in[3], 0);
    cr_assert_eq(gate_next(&g, GATE_CONNECT, 0, &answer), &waits);
    cr_assert_eq(answer, GATE_IN);
    cr_assert_null(gate_next(&g, GATE_CONNECT, 0, &answer));
    gate_release(&g);
}

Test(gate, nobody_overtakes_those_who_wait) {
    struct gate g;
    gate_init(&g, &policy);
    struct gate_ticket in[8], waits, late;
    fill(&g, GATE_CONNECT, in, 8);
    cr_assert_eq(ask(&g, &waits, GATE_CONNECT, 0), GATE_WAITS);
    gate_out(&g, &in[0], 0);
    cr_assert_eq(ask(&g, &late, GATE_CONNECT, 0), GATE_WAITS);
    gate_release(&g);
}

Test(gate, one_that_leaves_while_it_waits_is_forgotten) {
    struct gate g;
    gate_init(&g, &policy);
    struct gate_ticket in[8], waits;
    enum gate_answer answer;
    fill(&g, GATE_CONNECT, in, 8);
    cr_assert_eq(ask(&g, &waits, GATE_CONNECT, 0), GATE_WAITS);
    gate_out(&g, &waits, 0);
    gate_out(&g, &waits, 0);
    gate_out(&g, &in[0], 0);
    cr_assert_null(gate_next(&g, GATE_CONNECT, 0, &answer));
    cr_assert(gate_has_room(&g, GATE_CONNECT, 0));
    gate_release(&g);
}

Test(gate, what_cannot_finish_in_time_is_refused_at_once) {
    struct gate g;
    gate_init(&g, &policy);
    struct gate_ticket in[8], waits[101];
    int64_t now = 0;
    g.policy.adaptive = false;
    fill(&g, GATE_CONNECT, in, 8);
    for (int i = 0; i < 200; i++) { /* eight a second, each takes a second */
        now += SECOND / 8;
        gate_answered(&g, &in[i % 8], GATE_FINE, now);
        gate_out(&g, &in[i % 8], now);
        cr_assert_eq(ask(&g, &in[i % 8], GATE_CONNECT, now), GATE_IN);
    }
    int waiting = 0;
    while (ask(&g, &waits[waiting], GATE_CONNECT, now) == GATE_WAITS)
        waiting++;
    cr_assert_geq(waiting, 55, "seven seconds' worth: %d", waiting);
    cr_assert_leq(waiting, 57, "%d", waiting);
    gate_release(&g);
}

/* The others are those who were told nothing, or who come when they like. */
Test(gate, who_comes_at_his_slot_waits_once_where_others_are_refused) {
    struct gate g;
    gate_init(&g, &policy);
    g.policy.waiting_max = 1000; /* it is the time that does not suffice */
    struct gate_ticket in[8], waits[1000], t;
    struct gate_wish told = {.class = GATE_CONNECT, .wait_us = 8 * SECOND, .who = 42};
    struct gate_wish other = {.class = GATE_CONNECT, .wait_us = 8 * SECOND, .who = 43};
    int waiting = 0;
    fill(&g, GATE_CONNECT, in, 8);
    while (ask(&g, &waits[waiting], GATE_CONNECT, 0) == GATE_WAITS)
        waiting++;
    cr_assert_eq(gate_ask(&g, &t, &told, 0), GATE_BUSY);
    int64_t then_us = gate_retry_after_s(&g, &told, 0, 0) * SECOND;
    cr_assert_eq(gate_ask(&g, &t, &told, 0), GATE_BUSY, "too early");
    cr_assert_eq(gate_ask(&g, &t, &other, then_us), GATE_BUSY);
    cr_assert_eq(gate_ask(&g, &t, &told, then_us), GATE_WAITS);
    struct gate_ticket again;
    cr_assert_eq(gate_ask(&g, &again, &told, then_us), GATE_BUSY);
    gate_release(&g);
}

Test(gate, who_will_not_wait_gets_a_place_now_or_none) {
    struct gate g;
    gate_init(&g, &policy);
    struct gate_ticket in[8], t;
    struct gate_wish wish = {.class = GATE_CONNECT};
    fill(&g, GATE_CONNECT, in, 8);
    cr_assert_eq(gate_ask(&g, &t, &wish, 0), GATE_BUSY);
    gate_out(&g, &t, 0);
    gate_out(&g, &in[0], 0);
    cr_assert_eq(gate_ask(&g, &t, &wish, 0), GATE_IN);
    gate_release(&g);
}

Test(gate, no_more_wait_than_the_maximum) {
    struct gate g;
    gate_init(&g, &policy);
    struct gate_ticket beat[32], waits[101];
    fill(&g, GATE_HEARTBEAT, beat, 32);
    for (int i = 0; i < 100; i++)
        cr_assert_eq(ask(&g, &waits[i], GATE_HEARTBEAT, 0), GATE_WAITS);
    cr_assert_eq(ask(&g, &waits[100], GATE_HEARTBEAT, 0), GATE_BUSY);
    gate_release(&g);
}

Test(gate, when_the_breaker_opens_those_who_wait_are_told) {
    struct gate g;
    gate_init(&g, &policy);
    struct gate_ticket in[8], waits, t;
    enum gate_answer answer;
    fill(&g, GATE_CONNECT, in, 8);
    cr_assert_eq(ask(&g, &waits, GATE_CONNECT, 0), GATE_WAITS);
    break_it(&g, SECOND);
    cr_assert_eq(gate_next(&g, GATE_CONNECT, SECOND, &answer), &waits);
    cr_assert_eq(answer, GATE_DOWN);
    cr_assert_eq(ask(&g, &t, GATE_API, 2 * SECOND), GATE_DOWN);
    struct gate_wish wish = {.class = GATE_API, .wait_us = 8 * SECOND};
    cr_assert_eq(gate_retry_after_s(&g, &wish, 0, 2 * SECOND), 4, "when a probe may go");
    gate_release(&g);
}

Test(gate, an_open_breaker_is_closed_by_a_probe_and_by_nothing_else) {
    struct gate g;
    gate_init(&g, &policy);
    struct gate_ticket t, probe, second;
    break_it(&g, 0);
    cr_assert_not(gate_has_room(&g, GATE_PROBE, 4 * SECOND));
    for (enum gate_class class = 0; class < GATE_PROBE; class ++) {
        cr_assert_not(gate_has_room(&g, class, 5 * SECOND));
        cr_assert_eq(ask(&g, &t, class, 5 * SECOND), GATE_DOWN);
    }
    cr_assert_eq(ask(&g, &probe, GATE_PROBE, 5 * SECOND), GATE_IN);
    cr_assert_eq(ask(&g, &second, GATE_PROBE, 5 * SECOND), GATE_DOWN, "one at a time");
    gate_answered(&g, &probe, GATE_FINE, 6 * SECOND);
    cr_assert_eq(ask(&g, &t, GATE_API, 6 * SECOND), GATE_IN);
    gate_release(&g);
}

Test(gate, what_becomes_of_clients_calls_never_opens_the_breaker) {
    struct gate g;
    gate_init(&g, &policy);
    for (int i = 0; i < 1000; i++) {
        struct gate_ticket t;
        cr_assert_eq(ask(&g, &t, i % 2 ? GATE_API : GATE_LONG, i), GATE_IN);
        gate_answered(&g, &t, GATE_UNAVAILABLE, i);
        gate_out(&g, &t, i);
    }
    cr_assert_eq(g.breaker.state, BREAKER_CLOSED);
    cr_assert_eq(g.breaker.in_a_row, 0);
    cr_assert_not(g.heard, "nor do they say that the controller is there");
    cr_assert_eq(gate_limit(&g, GATE_API, 1000), 128);
    cr_assert_eq(gate_limit(&g, GATE_LONG, 1000), 256);
    gate_release(&g);
}

Test(gate, an_unavailable_answer_neither_ends_nor_feeds_a_row_of_failures) {
    struct gate g;
    gate_init(&g, &policy);
    for (int i = 0; i < 5; i++) {
        struct gate_ticket failed, unavailable;
        cr_assert_eq(ask(&g, &unavailable, GATE_API, i), GATE_IN);
        gate_answered(&g, &unavailable, GATE_UNAVAILABLE, i);
        gate_out(&g, &unavailable, i);
        cr_assert_eq(g.breaker.in_a_row, i);
        cr_assert_eq(ask(&g, &failed, GATE_PROBE, i), GATE_IN);
        gate_answered(&g, &failed, GATE_FAILED, i);
        gate_out(&g, &failed, i);
    }
    cr_assert_eq(g.breaker.state, BREAKER_OPEN);
    gate_release(&g);
}

/* Answers of four seconds, a hundred at a time, from a controller that is idle. */
static int64_t limit_after_slow_calls(struct gate *g, enum gate_class class) {
    static struct gate_ticket t[100];
    int64_t now_us = 0;
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 100 && i < gate_limit(g, class, now_us); i++)
            (void)ask(g, &t[i], class, now_us);
        now_us += round < 2 ? SECOND / 100 : 4 * (int64_t)SECOND;
        for (int i = 0; i < 100; i++) {
            gate_answered(g, &t[i], GATE_FINE, now_us);
            gate_out(g, &t[i], now_us);
        }
    }
    return gate_limit(g, class, now_us);
}

Test(gate, slow_calls_lower_the_limit_of_connects_and_heartbeats_and_of_api_where_it_is_asked_for) {
    struct gate g;
    struct gate_policy all = policy;
    gate_init(&g, &policy);
    cr_assert_eq(limit_after_slow_calls(&g, GATE_API), 128);
    cr_assert_eq(limit_after_slow_calls(&g, GATE_LONG), 256);
    cr_assert_eq(limit_after_slow_calls(&g, GATE_CONTROL), 16);
    cr_assert_lt(limit_after_slow_calls(&g, GATE_HEARTBEAT), 32);
    gate_release(&g);
    all.adaptive_api = true;
    gate_init(&g, &all);
    cr_assert_lt(limit_after_slow_calls(&g, GATE_API), 128);
    gate_release(&g);
}

Test(gate, a_probe_that_is_dropped_makes_room_for_another) {
    struct gate g;
    gate_init(&g, &policy);
    struct gate_ticket probe;
    break_it(&g, 0);
    cr_assert_eq(ask(&g, &probe, GATE_PROBE, 5 * SECOND), GATE_IN);
    gate_out(&g, &probe, 5 * SECOND);
    cr_assert(gate_has_room(&g, GATE_PROBE, 5 * SECOND));
    gate_release(&g);
}

Test(gate, another_controller_is_not_judged_by_the_one_before) {
    struct gate g;
    gate_init(&g, &policy);
    struct gate_ticket late[6], probe;
    fill(&g, GATE_API, late, 6);
    break_it(&g, 0);
    cr_assert_eq(ask(&g, &probe, GATE_PROBE, 5 * SECOND), GATE_IN);
    gate_renew(&g);
    cr_assert_eq(g.breaker.state, BREAKER_CLOSED);
    cr_assert_eq(gate_limit(&g, GATE_CONNECT, 5 * SECOND), 8, "nobody's outage is over");
    for (int i = 0; i < 6; i++) { /* calls to the one before end as they like */
        gate_answered(&g, &late[i], i > 0 ? GATE_FAILED : GATE_FINE, 5 * SECOND);
        gate_out(&g, &late[i], 5 * SECOND);
    }
    gate_out(&g, &probe, 5 * SECOND);
    cr_assert_eq(g.breaker.state, BREAKER_CLOSED);
    cr_assert_not(g.heard);
    cr_assert_eq(g.lane[GATE_API].inside, 0);
    break_it(&g, 6 * SECOND);
    gate_release(&g);
}

Test(gate, connects_have_half_their_places_for_half_a_minute_after_an_outage_and_only_then) {
    struct gate g;
    gate_init(&g, &policy);
    struct gate_ticket look;
    cr_assert_eq(gate_limit(&g, GATE_CONNECT, 0), 8);
    break_it(&g, 0);
    cr_assert_eq(ask(&g, &look, GATE_PROBE, 5 * SECOND), GATE_IN);
    gate_answered(&g, &look, GATE_FINE, 5 * SECOND);
    cr_assert_eq(gate_limit(&g, GATE_CONNECT, 6 * SECOND), 4);
    cr_assert_eq(gate_limit(&g, GATE_HEARTBEAT, 6 * SECOND), 32);
    cr_assert_eq(gate_limit(&g, GATE_CONNECT, 35 * SECOND), 8);
    gate_release(&g);
}

Test(gate, calls_from_before_an_outage_keep_nobody_from_his_permit_after_it) {
    struct gate g;
    gate_init(&g, &policy);
    struct gate_ticket hung[8], again[4], stream, probe;
    fill(&g, GATE_CONNECT, hung, 8);
    fill(&g, GATE_STREAM, &stream, 1);
    break_it(&g, 0);
    cr_assert_eq(ask(&g, &probe, GATE_PROBE, 5 * SECOND), GATE_IN);
    gate_answered(&g, &probe, GATE_FINE, 5 * SECOND);
    gate_out(&g, &probe, 5 * SECOND);
    for (int i = 0; i < 4; i++) /* half of eight, after an outage */
        cr_assert_eq(ask(&g, &again[i], GATE_CONNECT, 5 * SECOND), GATE_IN);
    cr_assert_eq(g.lane[GATE_STREAM].inside, 1, "a stream goes on");
    for (int i = 0; i < 8; i++) { /* they end as they like */
        gate_answered(&g, &hung[i], GATE_FAILED, 6 * SECOND);
        gate_out(&g, &hung[i], 6 * SECOND);
    }
    cr_assert_eq(g.lane[GATE_CONNECT].inside, 4);
    for (int i = 0; i < 4; i++)
        gate_out(&g, &again[i], 6 * SECOND);
    gate_out(&g, &stream, 6 * SECOND);
    for (int i = 0; i < GATE_CLASSES; i++)
        cr_assert_eq(g.lane[i].inside, 0, "%d", i);
    gate_release(&g);
}

/* Opens and closes the breaker at this second. */
static void flap(struct gate *g, int64_t s) {
    struct gate_ticket t;
    while (g->breaker.state == BREAKER_CLOSED) {
        cr_assert_eq(ask(g, &t, GATE_PROBE, s * SECOND), GATE_IN);
        gate_answered(g, &t, GATE_FAILED, s * SECOND);
        gate_out(g, &t, s * SECOND);
    }
    cr_assert_eq(ask(g, &t, GATE_PROBE, g->breaker.until_us), GATE_IN);
    gate_answered(g, &t, GATE_FINE, g->breaker.until_us);
    gate_out(g, &t, g->breaker.until_us);
    cr_assert_eq(g->breaker.state, BREAKER_CLOSED);
}

Test(gate, however_often_the_breaker_opens_no_more_than_twice_the_permits_are_at_the_controller) {
    static struct gate_ticket t[5][128];
    struct gate g;
    gate_init(&g, &policy);
    int64_t at_once = 0;
    for (int i = 0; i < 5; i++) {
        for (int k = 0; k < 128; k++)
            at_once += gate_ask(&g, &t[i][k], &(struct gate_wish){.class = GATE_API},
                                i * 60 * (int64_t)SECOND) == GATE_IN;
        flap(&g, i * 60 + 1);
    }
    cr_assert_eq(at_once, 256);
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 128; k++)
            gate_out(&g, &t[i][k], 400 * (int64_t)SECOND);
    cr_assert_eq(g.lane[GATE_API].inside, 0);
    cr_assert_eq(g.lane[GATE_API].hung, 0);
    cr_assert(gate_has_room(&g, GATE_API, 400 * (int64_t)SECOND));
    gate_release(&g);
}

Test(gate, another_controller_is_asked_though_calls_to_the_one_before_hang) {
    struct gate g;
    gate_init(&g, &policy);
    struct gate_ticket hung[8], t;
    fill(&g, GATE_CONNECT, hung, 8);
    gate_renew(&g);
    cr_assert_eq(ask(&g, &t, GATE_CONNECT, 0), GATE_IN);
    for (int i = 0; i < 8; i++)
        gate_out(&g, &hung[i], 0);
    cr_assert_eq(g.lane[GATE_CONNECT].inside, 1);
    gate_release(&g);
}

static void judge(struct gate *g, enum gate_class class, uint64_t agent, enum gate_result result) {
    struct gate_ticket t;
    (void)ask(g, &t, class, 5);
    t.agent = agent;
    gate_answered(g, &t, result, 5);
    gate_out(g, &t, 5);
}

Test(gate, connects_with_unknown_secrets_are_no_evidence_until_a_probe_confirms_it) {
    struct gate g;
    gate_init(&g, &policy);
    for (int i = 0; i < 100; i++)
        judge(&g, GATE_CONNECT, 0, GATE_UNCONFIRMED);
    cr_assert_eq(g.breaker.state, BREAKER_CLOSED);
    cr_assert_eq(g.breaker.in_a_row, 0);
    cr_assert_not(g.heard);
    cr_assert_eq(gate_limit(&g, GATE_CONNECT, 5), 8);
    cr_assert(gate_wants_probe(&g));
    judge(&g, GATE_PROBE, 0, GATE_FAILED);
    cr_assert_eq(g.breaker.state, BREAKER_OPEN);
    cr_assert_not(gate_wants_probe(&g));
    gate_release(&g);
}

Test(gate, any_answer_clears_what_waits_for_a_probe) {
    struct gate g;
    gate_init(&g, &policy);
    for (int i = 0; i < 4; i++)
        judge(&g, GATE_CONNECT, 0, GATE_UNCONFIRMED);
    cr_assert_not(gate_wants_probe(&g), "four of five");
    judge(&g, GATE_CONNECT, 0, GATE_UNCONFIRMED);
    cr_assert(gate_wants_probe(&g));
    judge(&g, GATE_API, 0, GATE_ODD);
    cr_assert_not(gate_wants_probe(&g));
    judge(&g, GATE_PROBE, 0, GATE_FAILED);
    cr_assert_eq(g.breaker.in_a_row, 1);
    cr_assert_eq(g.breaker.state, BREAKER_CLOSED);
    gate_release(&g);
}

Test(gate, the_failures_of_one_agent_count_once_in_a_row) {
    struct gate g;
    gate_init(&g, &policy);
    for (int i = 0; i < 100; i++)
        judge(&g, i % 2 ? GATE_HEARTBEAT : GATE_CONNECT, 77, GATE_FAILED);
    cr_assert_eq(g.breaker.in_a_row, 1);
    for (uint64_t agent = 1; agent <= 3; agent++)
        judge(&g, GATE_HEARTBEAT, agent, GATE_FAILED);
    cr_assert_eq(g.breaker.state, BREAKER_CLOSED);
    judge(&g, GATE_HEARTBEAT, 4, GATE_FAILED);
    cr_assert_eq(g.breaker.state, BREAKER_OPEN);
    gate_release(&g);
}

Test(gate, an_agent_that_fails_again_after_an_answer_counts_again) {
    struct gate g;
    gate_init(&g, &policy);
    judge(&g, GATE_CONNECT, 77, GATE_FAILED);
    judge(&g, GATE_CONNECT, 78, GATE_FINE);
    cr_assert_eq(g.breaker.in_a_row, 0);
    judge(&g, GATE_CONNECT, 77, GATE_FAILED);
    cr_assert_eq(g.breaker.in_a_row, 1);
    gate_release(&g);
}

Test(gate, however_many_agents_fail_each_call_of_nobody_in_particular_counts) {
    struct gate g;
    struct gate_policy patient = policy;
    patient.breaker.failures = 40;
    gate_init(&g, &patient);
    for (uint64_t agent = 1; agent <= 100; agent++)
        judge(&g, GATE_HEARTBEAT, agent, GATE_FAILED);
    cr_assert_eq(g.breaker.state, BREAKER_OPEN);
    g.breaker = (struct breaker){0};
    for (int i = 0; i < 100; i++)
        judge(&g, GATE_HEARTBEAT, 1 + i % 2, GATE_FAILED);
    cr_assert_eq(g.breaker.in_a_row, 2, "also the latest are told apart");
    gate_release(&g);
    gate_init(&g, &patient);
    for (int i = 0; i < 40; i++)
        judge(&g, GATE_HEARTBEAT, 0, GATE_FAILED);
    cr_assert_eq(g.breaker.state, BREAKER_OPEN);
    gate_release(&g);
}

Test(gate, half_of_one_place_is_one) {
    struct gate g;
    struct gate_policy small = policy;
    struct gate_ticket look;
    small.places[GATE_CONNECT] = 1;
    gate_init(&g, &small);
    break_it(&g, 0);
    cr_assert_eq(ask(&g, &look, GATE_PROBE, 5 * SECOND), GATE_IN);
    gate_answered(&g, &look, GATE_FINE, 5 * SECOND);
    cr_assert_eq(gate_limit(&g, GATE_CONNECT, 6 * SECOND), 1);
    gate_release(&g);
}

Test(gate, answers_to_single_requests_are_no_failures) {
    struct gate g;
    gate_init(&g, &policy);
    for (int i = 0; i < 100; i++) {
        struct gate_ticket t;
        cr_assert_eq(ask(&g, &t, GATE_API, i), GATE_IN);
        gate_answered(&g, &t, GATE_ODD, i);
        gate_answered(&g, &t, GATE_FAILED, i); /* the first word counts */
        gate_out(&g, &t, i);
    }
    cr_assert_eq(g.breaker.state, BREAKER_CLOSED);
    gate_release(&g);
}

Test(gate, a_call_that_turns_out_to_last_moves_to_the_streams_while_they_have_room) {
    struct gate g;
    gate_init(&g, &policy);
    struct gate_ticket t[5];
    fill(&g, GATE_API, t, 5);
    for (int i = 0; i < 4; i++)
        cr_assert(gate_move(&g, &t[i], GATE_STREAM));
    cr_assert_not(gate_move(&g, &t[4], GATE_STREAM));
    cr_assert_eq(g.lane[GATE_API].inside, 1);
    cr_assert_eq(g.lane[GATE_STREAM].inside, 4);
    for (int i = 0; i < 5; i++)
        gate_out(&g, &t[i], 0);
    cr_assert_eq(g.lane[GATE_API].inside + g.lane[GATE_STREAM].inside, 0);
    gate_release(&g);
}

/* ---- a fleet in virtual time ---- */

static const struct sim_setup storm = {.agents = 2000,
                                       .within_us = 2 * SECOND,
                                       .processors = 2,
                                       .cost_us = 57000,
                                       .places = 8,
                                       .until_us = 120LL * SECOND,
                                       .seed = 1};

/* ---- organizations ---- */

enum { CALLS = 8000, STEP_US = 10000, TAKES_US = 400000 };

/* A controller that works eight connects off at a time. */
struct office {
    struct gate gate;
    struct gate_ticket *tickets; /* CALLS of them */
    int64_t asked_us[CALLS], done_us[CALLS];
    int count;
    int64_t now_us;
};

/* Whose work is done leaves, and the next come in. */
static void work(struct office *o) {
    struct gate_ticket *t;
    enum gate_answer answer;
    for (int i = 0; i < o->count; i++) {
        t = &o->tickets[i];
        if (t->where != GATE_INSIDE || o->now_us - t->in_us < TAKES_US)
            continue;
        gate_answered(&o->gate, t, GATE_FINE, o->now_us);
        gate_out(&o->gate, t, o->now_us);
        o->done_us[i] = o->now_us;
    }
    while ((t = gate_next(&o->gate, GATE_CONNECT, o->now_us, &answer)) != NULL)
        cr_assert_eq(answer, GATE_IN);
}

static int come(struct office *o, uint64_t flow) {
    struct gate_wish wish = {.class = GATE_CONNECT, .wait_us = 8 * SECOND, .flow = flow};
    struct gate_ticket *t = &o->tickets[o->count];
    o->asked_us[o->count] = o->now_us;
    enum gate_answer answer = gate_ask(&o->gate, t, &wish, o->now_us);
    return answer == GATE_BUSY ? -1 : o->count++;
}

/* One organization sends a hundred connects a second, another one; a minute. How many of the
 * other's are refused, and how long they take at most. */
static int small_beside_large(uint64_t small, uint64_t large, int64_t *longest_us, int *served) {
    static struct office o;
    int refused = 0, last = -1;
    o = (struct office){.tickets = calloc(CALLS, sizeof(struct gate_ticket))};
    gate_init(&o.gate, &policy);
    o.gate.policy.waiting_max = 4096;
    o.gate.policy.adaptive = false;
    *longest_us = 0;
    for (; o.now_us < 60 * SECOND; o.now_us += STEP_US) {
        work(&o);
        (void)come(&o, large);
        if (o.now_us % SECOND != 500000)
            continue;
        if (last >= 0 && o.done_us[last] - o.asked_us[last] > *longest_us)
            *longest_us = o.done_us[last] - o.asked_us[last];
        last = come(&o, small);
        refused += last < 0;
    }
    *served = 0;
    for (int i = 0; i < o.count; i++)
        *served += o.done_us[i] > 0;
    free(o.tickets);
    gate_release(&o.gate);
    return refused;
}

Test(gate, an_organization_that_storms_does_not_keep_another_waiting) {
    int64_t longest_us;
    int served;
    cr_assert_eq(small_beside_large(flows_of(1), flows_of(2), &longest_us, &served), 0);
    cr_assert_leq(longest_us, 2 * TAKES_US, "%lld us", (long long)longest_us);
    cr_assert_geq(served, 20 * 59, "and nobody rests: %d", served);
    cr_assert_eq(small_beside_large(flows_of(1), FLOW_UNKNOWN, &longest_us, &served), 0);
    cr_assert_gt(small_beside_large(FLOW_UNKNOWN, FLOW_UNKNOWN, &longest_us, &served), 20,
                 "where nothing is known all are one");
}

/* ---- storms ---- */

/* What two processors need for all of them, without a moment's rest. */
static int64_t least_us(const struct sim_setup *s) {
    return s->agents * s->cost_us / s->processors;
}

Test(gate, a_retry_after_that_is_obeyed_is_a_place) {
    static struct sim_result r;
    for (uint32_t seed = 1; seed <= 20; seed++) {
        struct sim_setup s = storm;
        s.obeys = true;
        s.seed = seed;
        sim_run(&s, &r);
        cr_assert_eq(r.refused_in_time, 0, "seed %u: %d", seed, r.refused_in_time);
        cr_assert_eq(r.dropped, 0, "seed %u: %d", seed, r.dropped);
        cr_assert_eq(r.wasted, 0);
        cr_assert_eq(r.bcrypts, s.agents);
        cr_assert_leq(r.most_at_once, 8);
        cr_assert_leq(r.longest_wait_us, 9500000);
        cr_assert_geq(r.all_us, 0);
        cr_assert_leq(r.all_us * 95, least_us(&s) * 100, "seed %u: %lld us", seed,
                      (long long)r.all_us);
    }
}

Test(gate, its_pace_follows_the_size_of_the_controller) {
    static struct sim_result r;
    for (int processors = 1; processors <= 8; processors *= 2) {
        struct sim_setup s = storm;
        s.obeys = true;
        s.agents = 1000 * processors;
        s.processors = processors;
        sim_run(&s, &r);
        cr_assert_eq(r.refused_in_time, 0, "%d: %d of %d, all %lld", processors, r.refused_in_time,
                     r.refusals, (long long)r.all_us);
        cr_assert_leq(r.all_us * 95, least_us(&s) * 100, "%d processors: %lld us", processors,
                      (long long)r.all_us);
    }
}

Test(gate, a_controller_that_becomes_half_as_quick_is_not_overrun) {
    static struct sim_result r;
    struct sim_setup s = storm;
    s.obeys = true;
    s.slow_from_us = 20 * SECOND;
    sim_run(&s, &r);
    cr_assert_eq(r.wasted, 0);
    cr_assert_leq(r.most_at_once, 8);
    cr_assert_geq(r.all_us, 0, "all are connected in the end");
    /* 702 of them at full speed, the others at half. */
    cr_assert_leq(r.all_us, 105LL * SECOND);
}

/* Bcrypts that the controller could have done until then. */
static double could_do(const struct sim_setup *s, int64_t until_us) {
    double done = 0;
    enum { TICK_US = 10000 };
    for (int64_t now = 0; now < until_us; now += TICK_US) {
        double cost_us = (double)s->cost_us * (now / s->swing_us % 2 == 1 ? s->swing : 1);
        done += TICK_US * (double)s->processors / cost_us;
    }
    return done;
}

/* Others work on its machine: who was told a late time while it was slow cannot be called back. */
Test(gate, a_controller_whose_pace_swings_is_kept_at_work) {
    static struct sim_result r;
    for (int64_t period_s = 2; period_s <= 40; period_s *= 2) {
        struct sim_setup s = storm;
        s.obeys = true;
        s.until_us = 300LL * SECOND;
        s.swing_us = period_s * SECOND;
        s.swing = 4;
        sim_run(&s, &r);
        cr_assert_eq(r.wasted, 0);
        cr_assert_eq(r.bcrypts, s.agents);
        cr_assert_geq(r.all_us, 0);
        cr_assert_leq(could_do(&s, r.all_us) * 95, s.agents * 100, "%lld s: all after %lld us",
                      (long long)period_s, (long long)r.all_us);
        cr_assert_leq(r.refused_in_time, s.agents, "%d were told a time twice", r.refused_in_time);
    }
}

Test(gate, who_ignores_it_is_bounded_and_nothing_is_wasted) {
    static struct sim_result direct, ignored;
    struct sim_setup s = storm;
    s.until_us = 600LL * SECOND;
    s.direct = true;
    sim_run(&s, &direct);
    s.direct = false;
    sim_run(&s, &ignored);
    cr_assert_gt(direct.wasted, 5000, "%d", direct.wasted);
    cr_assert_eq(ignored.wasted, 0);
    cr_assert_leq(ignored.most_at_once, 8);
    for (int second = 20; second <= 600; second += 10)
        cr_assert_geq(ignored.connected[second - 1], direct.connected[second - 1], "%d s: %d, %d",
                      second, ignored.connected[second - 1], direct.connected[second - 1]);
}

Test(gate, during_an_outage_connects_are_told_a_time_after_it) {
    static struct sim_result r;
    struct sim_setup s = storm;
    s.obeys = true;
    s.agents = 500;
    s.down_from_us = 1;
    s.down_until_us = 40 * SECOND;
    sim_run(&s, &r);
    cr_assert_eq(r.wasted, 0);
    cr_assert_leq(r.most_at_once, 8);
    cr_assert_geq(r.all_us, 40 * SECOND);
    cr_assert_leq(r.all_us, 120 * SECOND, "%lld", (long long)r.all_us);
}

Test(gate, the_gradient_finds_the_capacity_without_the_latency) {
    static struct sim_limit_point gradient[SIM_LIMIT_SECONDS], fixed[SIM_LIMIT_SECONDS];
    sim_limit(SIM_GRADIENT, gradient);
    sim_limit(SIM_FIXED, fixed);
    for (int s = 0; s < SIM_LIMIT_SECONDS; s++) {
        cr_assert_geq(gradient[s].per_second, 0.95 * fixed[s].per_second, "second %d", s);
        bool settled = s % 60 >= 5;
        if (settled)
            cr_assert_leq(gradient[s].latency_ms * 2.5, fixed[s].latency_ms, "second %d", s);
    }
}
