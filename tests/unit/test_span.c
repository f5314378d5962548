#include "base/span.h"

#include <criterion/criterion.h>

Test(span, of_nothing_is_empty) {
    cr_expect_eq(span_of(NULL).len, 0);
    cr_expect_eq(span_of("").len, 0);
    cr_expect_eq(span_of("abc").len, 3);
    cr_expect_eq(SPAN("a\0b").len, 3);
}

Test(span, equality_is_of_bytes_and_length) {
    static const struct {
        struct span a, b;
        bool equal, equal_nocase;
    } rows[] = {
        {{"abc", 3}, {"abc", 3}, true, true},
        {{"abc", 3}, {"ABC", 3}, false, true},
        {{"abc", 3}, {"abd", 3}, false, false},
        {{"abc", 2}, {"abd", 2}, true, true},
        {{"abc", 3}, {"abc", 2}, false, false},
        {{"", 0}, {NULL, 0}, true, true},
        {{NULL, 0}, {NULL, 0}, true, true},
        /* Case is ASCII's: 0xc4 and 0xe4 are a letter's two cases in Latin-1 only. */
        {{"\xc4", 1}, {"\xe4", 1}, false, false},
        {{"[", 1}, {"{", 1}, false, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cr_expect_eq(span_equal(rows[i].a, rows[i].b), rows[i].equal, "row %zu", i);
        cr_expect_eq(span_equal(rows[i].b, rows[i].a), rows[i].equal, "row %zu turned", i);
        cr_expect_eq(span_equal_nocase(rows[i].a, rows[i].b), rows[i].equal_nocase, "row %zu", i);
    }
}

Test(span, equality_does_not_end_at_a_zero_byte) {
    cr_expect_not(span_equal(SPAN("a\0b"), SPAN("a\0c")));
    cr_expect(span_equal(SPAN("a\0b"), SPAN("a\0b")));
    cr_expect_not(span_equal_nocase(SPAN("a\0b"), SPAN("axb")));
}

Test(span, starts_with_its_beginnings) {
    cr_expect(span_starts(SPAN("abc"), SPAN("ab")));
    cr_expect(span_starts(SPAN("abc"), SPAN("abc")));
    cr_expect(span_starts(SPAN("abc"), SPAN_NONE));
    cr_expect(span_starts(SPAN_NONE, SPAN_NONE));
    cr_expect_not(span_starts(SPAN("ab"), SPAN("abc")));
    cr_expect_not(span_starts(SPAN("abc"), SPAN("b")));
}

Test(span, from_an_offset_never_reaches_past_the_end) {
    cr_expect(span_equal(span_from(SPAN("abc"), 0), SPAN("abc")));
    cr_expect(span_equal(span_from(SPAN("abc"), 2), SPAN("c")));
    cr_expect_eq(span_from(SPAN("abc"), 3).len, 0);
    cr_expect_eq(span_from(SPAN("abc"), 4).len, 0);
    cr_expect_eq(span_from(SPAN_NONE, 0).len, 0);
}

Test(span, trims_spaces_and_tabs_and_nothing_else) {
    static const struct {
        const char *text, *trimmed;
    } rows[] = {{"", ""},           {" \t", ""},      {"a", "a"},        {"  a b\t", "a b"},
                {"\ra\n", "\ra\n"}, {" \va ", "\va"}, {"a\xa0", "a\xa0"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_expect(span_equal(span_trim(span_of(rows[i].text)), span_of(rows[i].trimmed)), "row %zu",
                  i);
    cr_expect_eq(span_trim(SPAN_NONE).len, 0);
}
