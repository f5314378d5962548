#include "base/hist.h"

#include <criterion/criterion.h>

static struct hist *hist_of_one_to(int64_t last_us) {
    struct hist *h = hist_new();
    for (int64_t us = 1; us <= last_us; us++)
        hist_record(h, us);
    return h;
}

Test(hist, is_empty_at_first) {
    struct hist *h = hist_new();
    cr_assert_eq(hist_count(h), 0);
    cr_assert_eq(hist_quantile(h, 0.99), 0);
    cr_assert_eq(hist_mean(h), 0);
    cr_assert_eq(hist_slots(h), 0);
    hist_free(h);
}

Test(hist, tells_quantiles_of_small_values_exactly) {
    struct hist *h = hist_of_one_to(1000);
    cr_assert_eq(hist_quantile(h, 0.5), 500);
    cr_assert_eq(hist_quantile(h, 0.99), 990);
    cr_assert_eq(hist_quantile(h, 0.999), 999);
    cr_assert_eq(hist_quantile(h, 1), 1000);
    cr_assert_eq(hist_quantile(h, 0), 1);
    cr_assert_eq(hist_mean(h), 500);
    hist_free(h);
}

Test(hist, keeps_three_digits_over_the_whole_range) {
    for (int64_t us = 1; us <= HIST_MAX_US; us += us / 7 + 1) {
        struct hist *h = hist_new();
        hist_record(h, us);
        hist_record(h, HIST_MAX_US);
        int64_t told = hist_quantile(h, 0.5);
        cr_assert_geq(told, us);
        cr_assert_leq((double)(told - us), (double)us / 1000, "%ld as %ld", us, told);
        hist_free(h);
    }
}

Test(hist, each_slot_begins_where_the_one_before_ends) {
    for (size_t slot = 1; slot < HIST_SLOTS && hist_slot_end(slot) <= HIST_MAX_US; slot += 5) {
        struct hist *h = hist_new();
        hist_record(h, hist_slot_end(slot));
        cr_assert_eq(hist_slots(h), slot + 1);
        hist_clear(h);
        hist_record(h, hist_slot_end(slot - 1) + 1);
        cr_assert_eq(hist_slots(h), slot + 1);
        cr_assert_eq(hist_slot_count(h, slot), 1);
        hist_free(h);
    }
}

Test(hist, takes_what_is_out_of_range_as_the_nearest_within) {
    struct hist *h = hist_new();
    hist_record(h, -5);
    hist_record(h, 0);
    hist_record(h, INT64_MAX);
    cr_assert_eq(hist_count(h), 3);
    cr_assert_eq(hist_quantile(h, 0), HIST_MIN_US);
    cr_assert_eq(hist_max(h), HIST_MAX_US);
    cr_assert_leq(hist_slots(h), HIST_SLOTS);
    hist_free(h);
}

Test(hist, adds_up_to_what_one_would_have_counted) {
    struct hist *low = hist_of_one_to(10), *all = hist_of_one_to(3000), *high = hist_new();
    for (int64_t us = 11; us <= 3000; us++)
        hist_record(high, us);
    hist_add(low, high);
    cr_assert_eq(hist_count(low), hist_count(all));
    cr_assert_eq(hist_max(low), 3000);
    cr_assert_eq(hist_mean(low), hist_mean(all));
    for (size_t slot = 0; slot < HIST_SLOTS; slot++)
        cr_assert_eq(hist_slot_count(low, slot), hist_slot_count(all, slot));
    hist_free(low);
    hist_free(high);
    hist_free(all);
}
