#include "rules/trust/ticket_keys.h"

#include <criterion/criterion.h>

#define TEN  "00112233445566778899"
#define KEY  TEN TEN TEN TEN TEN TEN TEN TEN
#define KEY2 "Ff" TEN TEN TEN TEN TEN TEN TEN "112233445566778899"

static size_t count(const char *text) {
    struct ticket_key keys[TICKET_KEYS_MAX];
    return ticket_keys_parse(span_of(text), keys);
}

Test(ticket_keys, the_first_line_is_the_first_key) {
    struct ticket_key keys[TICKET_KEYS_MAX];
    cr_assert_eq(ticket_keys_parse(SPAN(KEY2 "\r\n\n" KEY), keys), 2);
    cr_expect_eq(keys[0].name[0], 0xff);
    cr_expect_eq(keys[0].name[1], 0x00);
    cr_expect_eq(keys[1].name[1], 0x11);
    cr_expect_eq(keys[1].mac[31], 0x99);
}

Test(ticket_keys, what_is_no_key_makes_the_file_worthless) {
    cr_expect_eq(count(""), 0);
    cr_expect_eq(count("\n\n"), 0);
    cr_expect_eq(count(KEY "\nx"), 0);
    cr_expect_eq(count(KEY "00"), 0);
    cr_expect_eq(count("g" KEY), 0);
    cr_expect_eq(count(KEY "\n" KEY "\n" KEY "\n" KEY), 4);
    cr_expect_eq(count(KEY "\n" KEY "\n" KEY "\n" KEY "\n" KEY), 0);
}
