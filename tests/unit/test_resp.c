#include "rules/redis/resp.h"

#include <criterion/criterion.h>
#include <string.h>

static void expect_command(const struct span *words, size_t count, const char *expected) {
    struct str out;
    str_init(&out, 65536);
    STR_ADD(&out, "before");
    resp_add_command(&out, words, count);
    cr_expect_not(out.overflow);
    cr_expect(span_equal(span_from(str_span(&out), 6), span_of(expected)), "%.*s, expected %s",
              SPAN_ARG(str_span(&out)), expected);
    cr_expect_leq(out.len - 6, resp_command_max(words, count));
    str_release(&out);
}

Test(resp, spells_each_word_with_its_length) {
    expect_command((struct span[]){SPAN("PING")}, 1, "*1\r\n$4\r\nPING\r\n");
    expect_command((struct span[]){SPAN("SET"), SPAN("a key"), SPAN("\r\n$3\r\n")}, 3,
                   "*3\r\n$3\r\nSET\r\n$5\r\na key\r\n$6\r\n\r\n$3\r\n\r\n");
}

Test(resp, an_empty_word_is_a_word) {
    expect_command((struct span[]){SPAN("GET"), SPAN_NONE, SPAN("")}, 3,
                   "*3\r\n$3\r\nGET\r\n$0\r\n\r\n$0\r\n\r\n");
}

Test(resp, counts_in_as_many_digits_as_it_takes) {
    struct span words[12];
    char expected[512] = "*12\r\n";
    for (size_t i = 0; i < 12; i++) {
        words[i] = SPAN("0123456789");
        strcat(expected, "$10\r\n0123456789\r\n");
    }
    expect_command(words, 12, expected);
}

Test(resp, what_does_not_fit_is_an_overflow_and_nothing_is_added) {
    struct str out;
    char memory[20];
    str_init_fixed(&out, memory, sizeof memory);
    resp_add_command(&out, (struct span[]){SPAN("a word that is longer")}, 1);
    cr_expect(out.overflow);
    cr_expect_eq(out.len, 0);
}
