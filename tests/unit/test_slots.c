#include "rules/gate/slots.h"

#include <criterion/criterion.h>

enum { SECOND = 1000000, REACH_S = 300 };

static const struct slots_pace four_a_second = {.gap_us = SECOND / 4, .earliest_us = 0};

static int64_t deal(struct slots *slots, uint64_t key, int64_t now_us) {
    return slots_deal(slots, key, &four_a_second, 0, now_us);
}

Test(slots, are_dealt_at_the_controllers_pace) {
    struct slots *slots = slots_new(REACH_S, 4096);
    int per_second[REACH_S + 1] = {0};
    for (uint64_t key = 1; key <= 1000; key++)
        per_second[deal(slots, key, 0)]++;
    for (int s = 1; s <= 250; s++)
        cr_assert_eq(per_second[s], 4, "second %d: %d", s, per_second[s]);
    slots_free(slots);
}

Test(slots, begin_where_the_work_that_waits_ends) {
    struct slots *slots = slots_new(REACH_S, 64);
    struct slots_pace pace = {.gap_us = SECOND, .earliest_us = 30 * SECOND};
    cr_assert_eq(slots_deal(slots, 1, &pace, 0, 10 * SECOND), 21);
    cr_assert_eq(slots_deal(slots, 2, &pace, 0, 10 * SECOND), 22);
    slots_free(slots);
}

Test(slots, whoever_comes_early_hears_the_same_second_again) {
    struct slots *slots = slots_new(REACH_S, 64);
    for (uint64_t key = 1; key < 20; key++)
        (void)deal(slots, key, 0);
    cr_assert_eq(deal(slots, 20, 0), 5);
    cr_assert_eq(deal(slots, 20, 2 * SECOND), 3);
    cr_assert_eq(deal(slots, 20, 3 * SECOND + SECOND / 2), 2);
    cr_assert_eq(deal(slots, 21, 4 * SECOND), 2, "and moves nobody back");
    slots_free(slots);
}

Test(slots, know_who_comes_at_its_time) {
    struct slots *slots = slots_new(REACH_S, 64);
    int64_t after_s = deal(slots, 7, 0);
    cr_assert_eq(after_s, 1);
    cr_assert_not(slots_is_due(slots, 7, 0));
    cr_assert_not(slots_is_due(slots, 8, SECOND));
    cr_assert(slots_is_due(slots, 7, SECOND));
    cr_assert(slots_is_due(slots, 7, SECOND / 4 + SLOTS_GRACE_US));
    cr_assert_not(slots_is_due(slots, 7, SECOND / 4 + SLOTS_GRACE_US + 1));
    slots_free(slots);
}

Test(slots, who_got_in_has_none_any_more) {
    struct slots *slots = slots_new(REACH_S, 64);
    (void)deal(slots, 7, 0);
    slots_give_up(slots, 7);
    slots_give_up(slots, 7);
    slots_give_up(slots, 0);
    cr_assert_not(slots_is_due(slots, 7, SECOND));
    slots_free(slots);
}

Test(slots, a_missed_one_is_followed_by_a_new_one) {
    struct slots *slots = slots_new(REACH_S, 64);
    (void)deal(slots, 7, 0);
    cr_assert_eq(slots_deal(slots, 7, &four_a_second, 0, 100 * SECOND), 1);
    cr_assert(slots_is_due(slots, 7, 101 * SECOND));
    slots_free(slots);
}

Test(slots, beyond_their_reach_the_last_fifth_is_told_at_random) {
    struct slots *slots = slots_new(REACH_S, 64);
    struct slots_pace slow = {.gap_us = 100 * SECOND, .earliest_us = 0};
    for (uint64_t key = 1; key <= 3; key++)
        (void)slots_deal(slots, key, &slow, 0, 0);
    int64_t least = REACH_S, most = 0;
    for (uint32_t random = 0; random < 1000; random++) {
        int64_t s = slots_deal(slots, 4, &slow, random, 0);
        least = s < least ? s : least;
        most = s > most ? s : most;
    }
    cr_assert_eq(least, 240);
    cr_assert_eq(most, 300);
    slots_free(slots);
}

Test(slots, a_full_table_deals_on_and_forgets_nobody_it_promised) {
    struct slots *slots = slots_new(REACH_S, 8);
    int known = 0;
    for (uint64_t key = 1; key <= 800; key++)
        cr_assert_leq(deal(slots, key, 0), 200);
    for (uint64_t key = 1; key <= 800; key++)
        known += slots_is_due(slots, key, 5 * SECOND);
    cr_assert_eq(known, 8);
    cr_assert(slots_is_due(slots, 1, 5 * SECOND));
    slots_free(slots);
}

Test(slots, nobody_in_particular_is_told_a_time_and_not_recognised) {
    struct slots *slots = slots_new(REACH_S, 8);
    cr_assert_eq(deal(slots, 0, 0), 1);
    cr_assert_not(slots_is_due(slots, 0, SECOND));
    slots_free(slots);
}
