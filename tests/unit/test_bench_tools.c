/* The bench's pure tools: who is due, numbers with units, histograms in a log, chance. */
#include "agents/hlog.h"
#include "agents/schedule.h"
#include "agents/stats.h"
#include "agents/units.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

/* ---- schedule ---- */

Test(bench_schedule, gives_in_order_of_time_whatever_the_order_of_setting) {
    enum { COUNT = 1000 };
    struct schedule *s = schedule_new(COUNT);
    srand(5);
    for (int round = 0; round < 5; round++)
        for (size_t i = 0; i < COUNT; i++)
            schedule_set(s, i, rand() % 100000);
    int64_t last = 0;
    size_t number, taken = 0;
    while (schedule_next_us(s) != SCHEDULE_NEVER) {
        int64_t due = schedule_next_us(s);
        cr_assert_geq(due, last);
        cr_assert_not(schedule_take(s, due - 1, &number));
        cr_assert(schedule_take(s, due, &number));
        last = due;
        taken++;
    }
    cr_assert_eq(taken, COUNT);
    schedule_free(s);
}

Test(bench_schedule, takes_out_and_puts_back) {
    struct schedule *s = schedule_new(3);
    size_t number;
    schedule_set(s, 0, 10);
    schedule_set(s, 1, 20);
    schedule_set(s, 2, 30);
    schedule_set(s, 0, SCHEDULE_NEVER);
    schedule_set(s, 0, SCHEDULE_NEVER);
    schedule_set(s, 2, 5);
    cr_assert(schedule_take(s, 100, &number));
    cr_assert_eq(number, 2);
    cr_assert(schedule_take(s, 100, &number));
    cr_assert_eq(number, 1);
    cr_assert_not(schedule_take(s, 100, &number));
    schedule_free(s);
}

/* ---- units ---- */

static double parsed(enum unit unit, const char *text) {
    double value = -1;
    return units_parse(unit, span_of(text), &value) ? value : -1;
}

Test(bench_units, reads_what_people_write) {
    cr_assert_eq(parsed(UNIT_TIME, "2s"), 2e6);
    cr_assert_eq(parsed(UNIT_TIME, "1.5ms"), 1500);
    cr_assert_eq(parsed(UNIT_TIME, "250 us"), 250);
    cr_assert_eq(parsed(UNIT_TIME, "15m"), 900e6);
    cr_assert_eq(parsed(UNIT_TIME, "0"), 0);
    cr_assert_eq(parsed(UNIT_COUNT, "10,000"), 10000);
    cr_assert_eq(parsed(UNIT_BYTES, "2KiB"), 2048);
    cr_assert_eq(parsed(UNIT_PERCENT, "5%"), 5);
    cr_assert_eq(parsed(UNIT_PERCENT, "0.5"), 0.5);
}

Test(bench_units, refuses_the_rest) {
    const char *const times[] = {"",    "2",   "s",     "-1s",    "2 x",
                                 "nan", "inf", "0x10s", "1e400s", "2ss"};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++)
        cr_assert_eq(parsed(UNIT_TIME, times[i]), -1, "%s", times[i]);
    cr_assert_eq(parsed(UNIT_COUNT, "5s"), -1);
}

static const char *printed(enum unit unit, double value) {
    static char memory[64];
    struct str out;
    str_init_fixed(&out, memory, sizeof memory);
    units_print(&out, unit, value);
    str_add_char(&out, '\0');
    return memory;
}

Test(bench_units, prints_three_digits_that_count) {
    cr_assert_str_eq(printed(UNIT_TIME, 850), "850 us");
    cr_assert_str_eq(printed(UNIT_TIME, 1240000), "1.24 s");
    cr_assert_str_eq(printed(UNIT_TIME, 42500), "42.5 ms");
    cr_assert_str_eq(printed(UNIT_TIME, 900e6), "15 min");
    cr_assert_str_eq(printed(UNIT_COUNT, 1234567), "1,234,567");
    cr_assert_str_eq(printed(UNIT_COUNT, -12), "-12");
    cr_assert_str_eq(printed(UNIT_BYTES, 48234496), "46 MiB");
    cr_assert_str_eq(printed(UNIT_PERCENT, 1.62), "1.62 %");
    cr_assert_str_eq(printed(UNIT_TIME, NAN), "-");
}

/* ---- stats ---- */

Test(bench_stats, knows_students_t) {
    cr_assert_float_eq(stats_student(1), 12.706, 0.001);
    cr_assert_float_eq(stats_student(4.5), 2.6735, 0.01);
    cr_assert_float_eq(stats_student(60), 2.000, 0.002);
    cr_assert_float_eq(stats_student(1e9), 1.960, 0.001);
}

Test(bench_stats, tells_a_difference_from_chance) {
    const double a[] = {27.5, 21.0, 19.0, 23.6, 17.0, 17.9, 16.9, 20.1,
                        21.9, 22.6, 23.1, 19.6, 19.0, 21.7, 21.4};
    const double b[] = {27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8, 22.0,
                        24.8, 20.2, 21.9, 22.1, 22.9, 30.5, 24.4};
    struct stats_sample sa = stats_of(a, 15), sb = stats_of(b, 15);
    struct stats_difference d;
    cr_assert_float_eq(sa.mean, 20.82, 0.01);
    cr_assert(stats_compare(&sa, &sb, &d));
    /* mean(b) - mean(a) = 2.833; scipy's ttest_ind(b, a, equal_var=False): df 27.78, p = 0.0079 */
    cr_assert_float_eq(d.mean, 2.833, 0.01);
    cr_assert(d.differs);
    cr_assert(stats_compare(&sa, &sa, &d));
    cr_assert_not(d.differs);
    cr_assert_float_eq(d.mean, 0, 1e-9);
}

Test(bench_stats, says_nothing_about_single_runs_and_leaves_out_what_is_unknown) {
    const double values[] = {1, NAN, 3};
    struct stats_sample s = stats_of(values, 3), one = stats_of(values, 1);
    struct stats_difference d;
    cr_assert_eq(s.count, 2);
    cr_assert_float_eq(s.mean, 2, 1e-9);
    cr_assert_not(stats_compare(&s, &one, &d));
    cr_assert(isnan(stats_of(values + 1, 1).mean));
}

/* ---- hlog ---- */

Test(bench_hlog, writes_the_v2_encoding_in_one_stored_block) {
    struct hist *h = hist_new();
    struct str out;
    str_init(&out, 4096);
    hist_record(h, 1);
    hist_record(h, 5);
    hist_record(h, 5);
    hlog_add(&out, "connect", 1500000, 1000000, h);
    /* Cookie, length; zlib head; one stored block of 44 bytes: cookie, 4 bytes of counts, offset 0,
     * 3 digits, 1, 120,000,000, 1.0, then -1 1 -3 2 as zigzag; its checksum. */
    const char *expected = "Tag=connect,1.500,1.000,0.005,HISTFAAAADd4AQEsANP/"
                           "HISTEwAAAAQAAAAAAAAAAwAAAAAAAAABAAAAAAcnDgA"
                           "/8AAAAAAAAAECBQ";
    cr_assert(span_starts(str_span(&out), span_of(expected)), "%.*s", SPAN_ARG(str_span(&out)));
    cr_assert_eq(out.ptr[out.len - 1], '\n');
    hist_free(h);
    str_release(&out);
}
