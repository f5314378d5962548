#include "base/str.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static void expect_text(const struct str *s, const char *text) {
    cr_expect(span_equal(str_span(s), span_of(text)), "is %.*s, not %s", SPAN_ARG(str_span(s)),
              text);
}

Test(str, builds_from_bytes_characters_numbers_and_formats) {
    struct str s;
    str_init(&s, 1000);
    str_add(&s, SPAN("a"));
    str_add(&s, SPAN_NONE);
    str_add_char(&s, '-');
    str_add_int(&s, -42);
    str_addf(&s, " %s %d", "b", 7);
    STR_ADD(&s, "!");
    expect_text(&s, "a--42 b 7!");
    cr_expect_not(s.overflow);
    str_release(&s);
}

Test(str, spells_integers_to_their_limits) {
    static const struct {
        int64_t value;
        const char *text;
    } rows[] = {{0, "0"},
                {7, "7"},
                {-7, "-7"},
                {INT64_MAX, "9223372036854775807"},
                {INT64_MIN, "-9223372036854775808"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char memory[32];
        struct str s;
        str_init_fixed(&s, memory, sizeof memory);
        str_add_int(&s, rows[i].value);
        expect_text(&s, rows[i].text);
    }
}

Test(str, fills_its_maximum_and_then_stays_overflowed) {
    struct str s;
    str_init(&s, 4);
    str_add(&s, SPAN("abcd"));
    cr_expect_not(s.overflow);
    str_add_char(&s, 'e');
    cr_expect(s.overflow);
    expect_text(&s, "abcd");
    str_release(&s);
}

Test(str, adds_all_of_a_piece_or_nothing_and_nothing_after_that) {
    struct str s;
    str_init(&s, 4);
    str_add(&s, SPAN("abc"));
    str_add(&s, SPAN("de"));
    cr_expect(s.overflow);
    str_add_char(&s, 'd'); /* would fit, but would hide the gap */
    expect_text(&s, "abc");
    str_release(&s);
}

Test(str, never_leaves_the_memory_it_was_lent) {
    char memory[6] = "######";
    struct str s;
    str_init_fixed(&s, memory, 4);
    str_addf(&s, "%s", "abcde");
    cr_expect(s.overflow);
    str_clear(&s);
    str_add(&s, SPAN("abcd"));
    cr_expect_not(s.overflow);
    cr_expect_eq((void *)s.ptr, (void *)memory);
    cr_expect_arr_eq(memory, "abcd##", 6);
    str_release(&s);
    cr_expect_arr_eq(memory, "abcd##", 6);
}

Test(str, clearing_forgets_the_overflow_and_keeps_the_memory) {
    struct str s;
    str_init(&s, 100);
    str_add(&s, SPAN("some text"));
    size_t cap = s.cap;
    (void)str_reserve(&s, 1000);
    cr_expect(s.overflow);
    str_clear(&s);
    cr_expect_eq(s.len, 0);
    cr_expect_eq(s.cap, cap);
    cr_expect_not(s.overflow);
    str_release(&s);
}

Test(str, formats_longer_than_its_first_guess) {
    char text[1500];
    struct str s;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    str_init(&s, 4000);
    str_addf(&s, "<%s>", text);
    cr_expect_eq(s.len, sizeof text + 1);
    cr_expect_eq(s.ptr[0], '<');
    cr_expect_eq(s.ptr[s.len - 1], '>');
    str_addf(&s, "%s%s", text, text);
    cr_expect(s.overflow);
    cr_expect_eq(s.len, sizeof text + 1);
    str_release(&s);
}

Test(str, reserved_room_counts_only_when_grown) {
    struct str s;
    str_init(&s, 10);
    char *room = str_reserve(&s, 10);
    cr_assert(room);
    memcpy(room, "0123456789", 10);
    cr_expect_eq(s.len, 0);
    str_grow(&s, 3);
    expect_text(&s, "012");
    cr_expect_null(str_reserve(&s, 8));
    str_release(&s);
}

Test(str, asking_for_more_than_there_is_memory_does_not_wrap_around) {
    struct str s;
    str_init(&s, 10);
    str_add(&s, SPAN("abc"));
    cr_expect_null(str_reserve(&s, SIZE_MAX));
    cr_expect(s.overflow);
    str_release(&s);
}

Test(str, can_be_released_twice_and_used_again) {
    struct str s;
    str_init(&s, 10);
    str_add(&s, SPAN("abc"));
    str_release(&s);
    str_release(&s);
    str_add(&s, SPAN("de"));
    expect_text(&s, "de");
    str_release(&s);
}

Test(str, json_escapes_what_json_forbids_and_replaces_what_is_no_utf8) {
    static const struct {
        struct span text;
        const char *json;
    } rows[] = {
        {{"", 0}, "\"\""},
        {{NULL, 0}, "\"\""},
        {{"plain", 5}, "\"plain\""},
        {{"\"\\/", 3}, "\"\\\"\\\\/\""},
        {{"\n\r\t", 3}, "\"\\n\\r\\t\""},
        {{"\0\x1f\x7f", 3}, "\"\\u0000\\u001f\\u007f\""},
        {{"\xc3\xa9", 2}, "\"\xc3\xa9\""},
        {{"\xf0\x9f\x98\x80", 4}, "\"\xf0\x9f\x98\x80\""},
        {{"\xf4\x8f\xbf\xbf", 4}, "\"\xf4\x8f\xbf\xbf\""},
        /* a lone continuation, an overlong slash, a surrogate, beyond U+10FFFF, a cut sequence */
        {{"\x80", 1}, "\"\xef\xbf\xbd\""},
        {{"\xc0\xaf", 2}, "\"\xef\xbf\xbd\xef\xbf\xbd\""},
        {{"\xe0\x80\xaf", 3}, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {{"\xed\xa0\x80", 3}, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {{"\xf4\x90\x80\x80", 4}, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {{"\xff", 1}, "\"\xef\xbf\xbd\""},
        {{"a\xe2\x82", 3}, "\"a\xef\xbf\xbd\xef\xbf\xbd\""},
        {{"\xc3(", 2}, "\"\xef\xbf\xbd(\""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char memory[64];
        struct str s;
        str_init_fixed(&s, memory, sizeof memory);
        str_add_json(&s, rows[i].text);
        cr_expect(span_equal(str_span(&s), span_of(rows[i].json)), "row %zu: %.*s", i,
                  SPAN_ARG(str_span(&s)));
    }
}
