#include "base/clock.h"

#include <criterion/criterion.h>
#include <string.h>
#include <time.h>

Test(clock, spells_dates_for_http) {
    static const struct {
        int64_t wall_ms;
        const char *text;
    } rows[] = {
        {0, "Thu, 01 Jan 1970 00:00:00 GMT"},
        {784111777000, "Sun, 06 Nov 1994 08:49:37 GMT"}, /* RFC 9110 section 5.6.7 */
        {784111777999, "Sun, 06 Nov 1994 08:49:37 GMT"},
        {951782400000, "Tue, 29 Feb 2000 00:00:00 GMT"},
        {1709164800000, "Thu, 29 Feb 2024 00:00:00 GMT"},
        {4102444799000, "Thu, 31 Dec 2099 23:59:59 GMT"},
        {253402300799000, "Fri, 31 Dec 9999 23:59:59 GMT"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char out[CLOCK_HTTP_SIZE];
        clock_http(out, rows[i].wall_ms);
        cr_expect_str_eq(out, rows[i].text);
    }
}

Test(clock, spells_dates_for_json_with_milliseconds) {
    static const struct {
        int64_t wall_ms;
        const char *text;
    } rows[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {784111777007, "1994-11-06T08:49:37.007Z"},
        {951868799999, "2000-02-29T23:59:59.999Z"},
        {253402300799999, "9999-12-31T23:59:59.999Z"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char out[CLOCK_ISO_SIZE];
        clock_iso(out, rows[i].wall_ms);
        cr_expect_str_eq(out, rows[i].text);
    }
}

Test(clock, each_millisecond_is_spelled_as_itself_within_a_second_and_across) {
    static const struct {
        int64_t wall_ms;
        const char *text;
    } rows[] = {
        {1795407800000, "2026-11-23T04:23:20.000Z"},
        {1795407800007, "2026-11-23T04:23:20.007Z"},
        {1795407800999, "2026-11-23T04:23:20.999Z"},
        {1795407801000, "2026-11-23T04:23:21.000Z"},
        {-1, "1970-01-01T00:00:00.000Z"},
        {1795407801012, "2026-11-23T04:23:21.012Z"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char out[CLOCK_ISO_SIZE];
        clock_iso(out, rows[i].wall_ms);
        cr_expect_str_eq(out, rows[i].text);
    }
}

Test(clock, times_out_of_range_become_the_nearest_that_can_be_spelled) {
    char http[CLOCK_HTTP_SIZE], iso[CLOCK_ISO_SIZE];
    clock_http(http, -1);
    cr_expect_str_eq(http, "Thu, 01 Jan 1970 00:00:00 GMT");
    clock_iso(iso, INT64_MIN);
    cr_expect_str_eq(iso, "1970-01-01T00:00:00.000Z");
    clock_http(http, INT64_MAX);
    cr_expect_str_eq(http, "Fri, 31 Dec 9999 23:59:59 GMT");
}

Test(clock, the_monotonic_clock_never_goes_back_and_has_two_units) {
    int64_t first = clock_mono_us();
    for (int i = 0; i < 1000; i++) {
        int64_t next = clock_mono_us();
        cr_assert_geq(next, first);
        first = next;
    }
    int64_t ms = clock_mono_ms();
    cr_expect_geq(ms, first / 1000);
    cr_expect_leq(ms, clock_mono_us() / 1000);
}

Test(clock, the_wall_clock_counts_milliseconds_since_1970) {
    const int64_t year_2020 = 1577836800000, year_2200 = 7258118400000;
    cr_expect_gt(clock_wall_ms(), year_2020);
    cr_expect_lt(clock_wall_ms(), year_2200);
}

Test(clock, http_dates_read_back_and_nothing_else_does) {
    char text[CLOCK_HTTP_SIZE];
    int64_t read_s;
    for (int64_t s = 0; s < 4102444800; s += 86399 * 37) {
        clock_http(text, s * 1000);
        cr_assert(clock_parse_http(text, strlen(text), &read_s), "%s", text);
        cr_assert_eq(read_s, s, "%s", text);
    }
    static const char *const bad[] = {"",
                                      "Mon, 23 Nov 2026 04:23:08 UTC",
                                      "Mon, 23 Nov 2026 04:23:08",
                                      "Mon, 23 Foo 2026 04:23:08 GMT",
                                      "Mon, x3 Nov 2026 04:23:08 GMT",
                                      "Monday, 23-Nov-26 04:23:08 GMT"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_expect_not(clock_parse_http(bad[i], strlen(bad[i]), &read_s), "%s", bad[i]);
}

Test(clock, stands_still_while_it_is_held) {
    clock_hold();
    int64_t mono_us = clock_mono_us(), wall_ms = clock_wall_ms();
    struct timespec now;
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while ((int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 <= mono_us / 1000 + 1);
    cr_expect_eq(clock_mono_us(), mono_us);
    cr_expect_eq(clock_mono_ms(), mono_us / 1000);
    cr_expect_eq(clock_wall_ms(), wall_ms);
    clock_release();
    cr_expect_gt(clock_mono_us(), mono_us);
    clock_hold();
    cr_expect_gt(clock_mono_us(), mono_us, "another hold is another time");
    clock_release();
}
