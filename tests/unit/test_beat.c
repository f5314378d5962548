#include "rules/agents/beat.h"

#include <criterion/criterion.h>
#include <stdio.h>

/* The defaults of the configuration. */
static const struct beat_policy policy = {.interval_ms = 120000,
                                          .max_hold_ms = 75000,
                                          .expiry_ms = 90000,
                                          .min_gap_ms = 10000,
                                          .max_rate = 10};

enum { S = 1000 /* a second */, START = 1000000 };

/* One agent's life, told in steps. */
struct life {
    struct beat_state s;
    int64_t now;
    uint64_t phase;
    uint64_t sequence; /* of the beat under way */
    enum beat_status status;
};

static struct life born(uint64_t phase) {
    struct life l = {.now = START, .phase = phase};
    beat_init(&l.s);
    return l;
}

static enum beat_place beat(struct life *l, enum beat_status status) {
    return beat_hold(&l->s, beat_pass(&l->s, &policy, l->now), status, l->now);
}

static int64_t due(const struct life *l) {
    return beat_due_ms(&l->s, &policy, l->phase);
}

static void send(struct life *l) {
    l->sequence = l->s.held_sequence;
    l->status = l->s.status;
    beat_sent(&l->s, l->now);
}

static enum beat_fate answer(struct life *l, enum beat_answer answer) {
    return beat_answered(&l->s, l->sequence, l->status, answer, l->now, 0);
}

/* An agent whose first beat was delivered at START. */
static struct life known(uint64_t phase) {
    struct life l = born(phase);
    beat(&l, BEAT_ONLINE);
    send(&l);
    answer(&l, BEAT_TAKEN);
    return l;
}

Test(beat, the_first_is_due_at_once_and_somebody_waits_for_it) {
    struct life l = born(50 * S);
    cr_expect_eq(beat(&l, BEAT_ONLINE), BEAT_FIRST);
    cr_expect_eq(due(&l), l.now);
    cr_expect(l.s.held);
}

Test(beat, nobody_waits_for_the_second_while_the_first_is_under_way) {
    struct life l = born(0);
    beat(&l, BEAT_ONLINE);
    send(&l);
    cr_expect_eq(beat(&l, BEAT_ONLINE), BEAT_HELD);
    cr_expect_eq(beat(&l, BEAT_ONLINE), BEAT_REPLACED);
}

Test(beat, a_first_that_could_not_be_sent_is_replaced_by_a_newer_one_that_is_as_urgent) {
    struct life l = born(0);
    beat(&l, BEAT_ONLINE);
    l.now += 20 * S;
    cr_expect_eq(beat(&l, BEAT_ONLINE), BEAT_REPLACED);
    cr_expect_eq(due(&l), l.now);
}

Test(beat, a_changed_status_goes_at_once_but_not_within_the_gap) {
    struct life l = known(60 * S);
    l.now = START + 4 * S;
    cr_expect_eq(beat(&l, BEAT_BUSY), BEAT_HELD);
    cr_expect_eq(due(&l), START + 10 * S);
    l.now = START + 30 * S;
    beat(&l, BEAT_IDLE);
    cr_expect_eq(due(&l), START + 30 * S);
}

Test(beat, a_change_that_was_taken_back_within_the_gap_needs_no_call_of_its_own) {
    struct life l = known((START + 100 * S) % 120000);
    l.now += 2 * S;
    beat(&l, BEAT_BUSY);
    l.now += 2 * S;
    cr_expect_eq(beat(&l, BEAT_ONLINE), BEAT_REPLACED);
    cr_expect_gt(due(&l), START + 60 * S);
}

Test(beat, goes_in_its_phase_half_an_interval_after_the_last_and_never_after_the_longest_hold) {
    static const struct {
        int64_t phase_s, received_s, due_s; /* after START */
    } rows[] = {
        {100, 60, 100}, /* its phase point */
        {70, 60, 70},   /* at once is fine: 60 s have passed */
        {30, 20, 95},   /* 30 is too near to the last forward, 150 too far from receipt */
        {61, 1, 61},    /* just far enough from the last */
        {59, 1, 76},    /* just too near: the next one would be 179 */
        {0, 60, 120},   /* the next turn of the cycle */
        {60, 60, 60},   /* exactly now */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct life l = known((uint64_t)((START + rows[i].phase_s * S) % 120000));
        l.now = START + rows[i].received_s * S;
        beat(&l, BEAT_ONLINE);
        cr_expect_eq(due(&l), START + rows[i].due_s * S, "row %zu: %lld", i,
                     (long long)(due(&l) - START) / S);
    }
}

Test(beat, a_newer_beat_does_not_move_the_phase_point_away) {
    struct life l = known((START + 100 * S) % 120000);
    for (l.now = START + 60 * S; l.now <= START + 110 * S; l.now += 3 * S)
        beat(&l, BEAT_ONLINE);
    cr_expect_eq(due(&l), START + 100 * S, "an agent that beats all the time is forwarded, too");
}

Test(beat, after_a_silence_it_goes_at_once_even_when_a_newer_one_takes_its_place) {
    struct life l = known((START + 5 * S) % 120000);
    l.now = START + 91 * S;
    beat(&l, BEAT_ONLINE);
    cr_expect_eq(due(&l), l.now);
    l.now += 3 * S;
    beat(&l, BEAT_ONLINE);
    cr_expect_eq(due(&l), l.now);
    send(&l);
    answer(&l, BEAT_TAKEN);
    l.now += 20 * S;
    beat(&l, BEAT_ONLINE);
    cr_expect_gt(due(&l), l.now, "the silence is over");
}

Test(beat, ninety_seconds_are_no_silence_yet) {
    struct life l = known((START + 5 * S) % 120000);
    l.now = START + 90 * S;
    beat(&l, BEAT_ONLINE);
    cr_expect_gt(due(&l), l.now);
}

Test(beat, expires_after_ninety_seconds_and_not_before) {
    struct life l = known(0);
    beat(&l, BEAT_ONLINE);
    cr_expect_not(beat_is_expired(&l.s, &policy, l.now + 90 * S));
    cr_expect(beat_is_expired(&l.s, &policy, l.now + 90 * S + 1));
}

Test(beat, a_failed_one_is_held_again_and_tried_later_and_later) {
    static const int64_t at_least_ms[] = {500, 1000, 2000, 4000, 8000, 15000, 15000, 15000};
    struct life l = born(0);
    beat(&l, BEAT_BUSY);
    for (size_t i = 0; i < sizeof at_least_ms / sizeof *at_least_ms; i++) {
        send(&l);
        cr_expect_not(l.s.held);
        cr_expect_eq(answer(&l, BEAT_FAILED), BEAT_KEPT);
        cr_expect(l.s.held);
        cr_expect_eq(l.s.status, BEAT_BUSY);
        cr_expect_eq(due(&l), l.now + at_least_ms[i], "failure %zu: %lld", i,
                     (long long)(due(&l) - l.now));
    }
    send(&l);
    beat_answered(&l.s, l.sequence, l.status, BEAT_FAILED, l.now, UINT32_MAX);
    cr_expect_leq(due(&l), l.now + 30 * S);
    cr_expect_eq(answer(&l, BEAT_FAILED), BEAT_SUPERSEDED, "there is one held already");
}

Test(beat, a_failed_one_keeps_its_time_of_receipt) {
    struct life l = known(0);
    l.now = START + 80 * S;
    beat(&l, BEAT_BUSY);
    l.now += 5 * S;
    send(&l);
    l.now += 5 * S;
    answer(&l, BEAT_FAILED);
    cr_expect_eq(l.s.received_ms, START + 80 * S);
    cr_expect(beat_is_expired(&l.s, &policy, START + 171 * S));
}

Test(beat, a_failed_one_gives_way_to_a_newer_one) {
    struct life l = born(0);
    beat(&l, BEAT_BUSY);
    send(&l);
    beat(&l, BEAT_IDLE);
    cr_expect_eq(answer(&l, BEAT_FAILED), BEAT_SUPERSEDED);
    cr_expect_eq(l.s.held_sequence, 2);
    cr_expect_eq(l.s.status, BEAT_IDLE);
}

Test(beat, a_failure_is_no_forward_for_the_gap) {
    struct life l = known((START + 5 * S) % 120000);
    l.now = START + 30 * S;
    beat(&l, BEAT_BUSY);
    send(&l);
    answer(&l, BEAT_FAILED);
    cr_expect_eq(l.s.last_forward_ms, START);
    cr_expect_eq(due(&l), l.now + 500);
}

Test(beat, success_ends_the_backoff) {
    struct life l = born(0);
    beat(&l, BEAT_ONLINE);
    for (int i = 0; i < 5; i++) {
        send(&l);
        answer(&l, BEAT_FAILED);
    }
    l.now = due(&l);
    send(&l);
    cr_expect_eq(answer(&l, BEAT_TAKEN), BEAT_DELIVERED);
    l.now += 11 * S;
    beat(&l, BEAT_BUSY);
    cr_expect_eq(due(&l), l.now);
}

Test(beat, at_the_end_of_the_process_there_is_no_backoff) {
    struct life l = born(0);
    beat(&l, BEAT_ONLINE);
    send(&l);
    answer(&l, BEAT_FAILED);
    beat_hurry(&l.s);
    cr_expect_eq(due(&l), l.now);
}

Test(beat, a_status_that_changed_while_another_was_under_way_is_urgent) {
    struct life l = known((START + 5 * S) % 120000);
    l.now = START + 20 * S;
    beat(&l, BEAT_BUSY);
    send(&l);
    beat(&l, BEAT_IDLE);
    l.now += 2 * S;
    cr_expect_eq(answer(&l, BEAT_TAKEN), BEAT_DELIVERED);
    cr_expect_eq(due(&l), START + 30 * S, "the gap after the forward");
}

Test(beat, after_the_controllers_no_the_next_one_counts_as_first) {
    struct life l = known(0);
    l.now = START + 20 * S;
    beat(&l, BEAT_BUSY);
    send(&l);
    cr_expect_eq(answer(&l, BEAT_REFUSED), BEAT_DELIVERED);
    l.now += S;
    cr_expect_eq(beat(&l, BEAT_BUSY), BEAT_FIRST);
}

Test(beat, a_disconnect_drops_what_came_before_it_and_nothing_else) {
    struct life l = known(0);
    l.now += 2 * S;
    beat(&l, BEAT_ONLINE);
    uint64_t at_disconnect = l.s.sequence;
    cr_expect(beat_disconnected(&l.s, at_disconnect));
    cr_expect_not(l.s.held);
    l.now += S;
    cr_expect_eq(beat(&l, BEAT_ONLINE), BEAT_FIRST);
    cr_expect_eq(due(&l), l.now, "not even the gap holds it back");
    cr_expect_not(beat_disconnected(&l.s, at_disconnect), "it came later");
    cr_expect(l.s.held);
    cr_expect_eq(due(&l), l.now);
}

Test(beat, one_that_passes_supersedes_what_is_held_once_the_controller_took_it) {
    struct life l = known(0);
    l.now += 20 * S;
    beat(&l, BEAT_BUSY);
    uint64_t passing = beat_pass(&l.s, &policy, l.now);
    cr_expect(l.s.held, "it may fail, and then the held one still counts");
    cr_expect(beat_passed(&l.s, passing, true, BEAT_IDLE, l.now));
    cr_expect_not(l.s.held);
    l.now += 50 * S;
    beat(&l, BEAT_IDLE);
    cr_expect_gt(due(&l), l.now, "its status is what the controller knows");
}

Test(beat, one_that_passes_leaves_alone_what_came_after_it) {
    struct life l = known(0);
    uint64_t passing = beat_pass(&l.s, &policy, l.now);
    beat(&l, BEAT_BUSY);
    cr_expect_not(beat_passed(&l.s, passing, true, BEAT_ONLINE, l.now));
    cr_expect(l.s.held);
    cr_expect_eq(due(&l), l.now + 10 * S);
}

Test(beat, after_one_of_unknown_status_the_next_counts_as_first) {
    struct life l = known(0);
    uint64_t passing = beat_pass(&l.s, &policy, l.now);
    beat_passed(&l.s, passing, false, BEAT_ONLINE, l.now);
    l.now += S;
    cr_expect_eq(beat(&l, BEAT_ONLINE), BEAT_FIRST);
}

Test(beat, ten_at_once_and_then_ten_a_second) {
    struct beat_state s;
    beat_init(&s);
    for (int i = 0; i < 10; i++)
        cr_expect(beat_allowed(&s, &policy, START), "beat %d of the burst", i);
    cr_expect_not(beat_allowed(&s, &policy, START));
    cr_expect_not(beat_allowed(&s, &policy, START + 99), "a refused one costs nothing");
    cr_expect(beat_allowed(&s, &policy, START + 100));
    cr_expect_not(beat_allowed(&s, &policy, START + 199));
    int allowed = 0;
    for (int64_t at = START + 200; at < START + 10200; at += 10)
        allowed += beat_allowed(&s, &policy, at);
    cr_expect_eq(allowed, 100);
    for (int i = 0; i < 10; i++)
        cr_expect(beat_allowed(&s, &policy, START + 60000), "the burst is back");
}

Test(beat, a_rate_of_one_takes_one_a_second) {
    struct beat_policy slow = policy;
    struct beat_state s;
    slow.max_rate = 1;
    beat_init(&s);
    cr_expect(beat_allowed(&s, &slow, START));
    cr_expect_not(beat_allowed(&s, &slow, START + 999));
    cr_expect(beat_allowed(&s, &slow, START + 1000));
}

/* ---- whatever happens, in whatever order ---- */

struct world {
    struct life l;
    uint64_t random;
    uint64_t delivered_last; /* the newest the controller has */
    bool waiting;            /* a turn waits for the sender, or is under way */
    bool turn_is_beat;
    uint64_t turn_sequence;
    int64_t received, delivered, superseded, expired;
    int64_t last_sent_ms;
};

static uint64_t roll(struct world *w, uint64_t sides) {
    w->random = w->random * 6364136223846793005ULL + 1442695040888963407ULL;
    return (w->random >> 33) % sides;
}

static void deliver(struct world *w, uint64_t sequence) {
    cr_assert_gt(sequence, w->delivered_last, "an older one went after a newer one");
    w->delivered_last = sequence;
    w->delivered++;
}

static void do_receive(struct world *w) {
    w->received++;
    w->superseded += beat(&w->l, (enum beat_status)roll(w, 3)) == BEAT_REPLACED;
}

static void do_keep_appointment(struct world *w) {
    struct beat_state *s = &w->l.s;
    if (!s->held || s->sending || s->blocked || due(&w->l) > w->l.now)
        return;
    if (beat_is_expired(s, &policy, w->l.now)) {
        beat_drop(s);
        w->expired++;
        return;
    }
    cr_assert_geq(w->l.now, s->retry_ms);
    send(&w->l);
}

static void do_answer(struct world *w) {
    static const enum beat_answer answers[] = {BEAT_TAKEN, BEAT_TAKEN, BEAT_REFUSED, BEAT_FAILED};
    if (!w->l.s.sending)
        return;
    enum beat_answer how = answers[roll(w, 4)];
    enum beat_fate fate = beat_answered(&w->l.s, w->l.sequence, w->l.status, how, w->l.now,
                                        (uint32_t)roll(w, UINT32_MAX));
    if (fate == BEAT_DELIVERED)
        deliver(w, w->l.sequence);
    w->superseded += fate == BEAT_SUPERSEDED;
}

static void do_take_turn(struct world *w) {
    if (w->waiting)
        return;
    w->waiting = true;
    w->turn_is_beat = roll(w, 2);
    w->turn_sequence = w->turn_is_beat ? beat_pass(&w->l.s, &policy, w->l.now) : w->l.s.sequence;
    w->l.s.blocked = true;
}

static void do_end_turn(struct world *w) {
    struct beat_state *s = &w->l.s;
    if (!w->waiting || s->sending)
        return;
    w->waiting = s->blocked = false;
    if (roll(w, 3) == 0)
        return; /* it failed */
    if (w->turn_is_beat) {
        w->received++;
        deliver(w, w->turn_sequence);
        w->superseded += beat_passed(s, w->turn_sequence, roll(w, 2), BEAT_BUSY, w->l.now);
        return;
    }
    w->superseded += beat_disconnected(s, w->turn_sequence);
    cr_assert(!s->held || s->held_sequence > w->turn_sequence);
    w->delivered_last = w->turn_sequence; /* nothing from before may follow it */
}

Test(beat, never_older_after_newer_and_none_is_lost_in_a_hundred_random_lives) {
    static void (*const deeds[])(struct world * w) = {
        do_receive, do_receive, do_receive,   do_keep_appointment, do_keep_appointment,
        do_answer,  do_answer,  do_take_turn, do_end_turn,
    };
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct world w = {.random = seed};
        w.l = born(roll(&w, UINT32_MAX));
        for (int step = 0; step < 2000; step++) {
            deeds[roll(&w, sizeof deeds / sizeof *deeds)](&w);
            w.l.now += (int64_t)roll(&w, roll(&w, 50) == 0 ? 200000 : 8000);
            int64_t held = w.l.s.held + w.l.s.sending;
            cr_assert_eq(w.received, w.delivered + w.superseded + w.expired + held,
                         "seed %llu, step %d", (unsigned long long)seed, step);
            cr_assert(!w.l.s.held || !w.l.s.sending || w.l.s.held_sequence > w.l.sequence);
        }
        cr_assert_gt(w.delivered, 0);
        cr_assert_gt(w.superseded, 0);
    }
}

Test(beat, an_agent_that_beats_each_minute_is_forwarded_each_interval) {
    for (uint64_t phase = 0; phase < 120000; phase += 7919) {
        struct life l = born(phase);
        int64_t next = START, last = -1;
        int sent = 0;
        for (l.now = START; l.now < START + 24 * 3600 * (int64_t)S; l.now += 500) {
            if (l.now >= next) {
                beat(&l, BEAT_ONLINE);
                next += 60 * S;
            }
            if (!l.s.held || due(&l) > l.now)
                continue;
            int64_t at_most = sent < 3 ? 180 * S : 121 * S; /* until it is in its phase */
            cr_assert(last < 0 || l.now - last <= at_most, "phase %llu: silent for %lld ms",
                      (unsigned long long)phase, (long long)(l.now - last));
            last = l.now;
            sent++;
            send(&l);
            answer(&l, BEAT_TAKEN);
        }
        cr_assert_leq(sent, 724, "phase %llu: %d sent in a day", (unsigned long long)phase, sent);
    }
}

/* ---- several processes ---- */

Test(beat, sequences_follow_the_clock_and_rise_when_it_stands_still) {
    struct life l = born(0);
    beat_stamp(&l.s, 5000000);
    cr_expect_eq(beat_pass(&l.s, &policy, l.now), 5000000);
    beat_stamp(&l.s, 5000000);
    cr_expect_eq(beat_pass(&l.s, &policy, l.now), 5000001);
    beat_stamp(&l.s, 4000000); /* another clock, behind */
    cr_expect_eq(beat_pass(&l.s, &policy, l.now), 5000002);
}

Test(beat, one_that_is_older_than_the_held_or_the_settled_one_is_not_held) {
    struct life l = born(0);
    uint64_t first = beat_pass(&l.s, &policy, l.now), second = beat_pass(&l.s, &policy, l.now);
    cr_expect_eq(beat_hold(&l.s, second, BEAT_BUSY, l.now), BEAT_FIRST);
    cr_expect_eq(beat_hold(&l.s, first, BEAT_IDLE, l.now), BEAT_OLDER);
    cr_expect_eq(l.s.held_sequence, second);
    send(&l);
    answer(&l, BEAT_TAKEN);
    cr_expect_eq(beat_hold(&l.s, first, BEAT_IDLE, l.now), BEAT_OLDER);
    cr_expect_not(l.s.held);
}

Test(beat, what_another_process_delivered_makes_the_next_one_no_first) {
    struct life l = born(0);
    beat_learn(&l.s, 10, true, BEAT_ONLINE, l.now); /* numbered further than ours */
    cr_expect_eq(beat(&l, BEAT_ONLINE), BEAT_HELD);
    cr_expect_gt(due(&l), l.now);
}

Test(beat, what_another_process_settled_before_is_no_news) {
    struct life l = known(0);
    beat_learn(&l.s, l.s.settled, true, BEAT_BUSY, l.now + S);
    cr_expect_eq(l.s.forwarded_status, BEAT_ONLINE);
    cr_expect_eq(l.s.last_forward_ms, l.now);
}
