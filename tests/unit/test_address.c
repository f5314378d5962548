#include "rules/wire/address.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct address of(const char *text) {
    struct address a;
    cr_assert(address_parse(span_of(text), &a), "%s", text);
    return a;
}

static struct networks networks(const char *text) {
    struct networks n;
    cr_assert(networks_parse(span_of(text), &n), "%s", text);
    return n;
}

Test(address, is_spelled_in_its_shortest_form) {
    static const char *const spellings[][2] = {{"192.0.2.1", "192.0.2.1"},
                                               {"::ffff:192.0.2.1", "192.0.2.1"},
                                               {"2001:DB8:0:0:0:0:0:1", "2001:db8::1"},
                                               {"::1", "::1"}};
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++) {
        char text[ADDRESS_TEXT];
        struct address a = of(spellings[i][0]);
        address_text(&a, text);
        cr_assert_str_eq(text, spellings[i][1]);
    }
}

Test(address, refuses_what_is_none) {
    static const char *const wrong[] = {"",          "1.2.3",     "1.2.3.4.5", "01.2.3.4",
                                        "1.2.3.4 ",  "1.2.3.256", "fe80::1%1", "[::1]",
                                        "1.2.3.4:5", "::1::2",    "localhost", "12345::"};
    struct address a;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        cr_assert_not(address_parse(span_of(wrong[i]), &a), "%s", wrong[i]);
    cr_assert_not(address_parse(SPAN("1.2.3.4\0"), &a));
}

Test(address, mapped_and_dotted_are_one) {
    struct address a = of("::ffff:10.1.2.3"), b = of("10.1.2.3");
    cr_assert_arr_eq(a.bytes, b.bytes, ADDRESS_BYTES);
    cr_assert(address_is_v4(&a));
}

Test(address, sites_are_single_v4_addresses_and_networks_of_v6) {
    struct address a = of("2001:db8:1:2::1"), b = of("2001:db8:1:2:ffff::2");
    struct address c = of("2001:db8:1:3::1"), d = of("192.0.2.1"), e = of("192.0.2.2");
    cr_assert(span_equal(address_site(&a), address_site(&b)));
    cr_assert_not(span_equal(address_site(&a), address_site(&c)));
    cr_assert_not(span_equal(address_site(&d), address_site(&e)));
}

Test(networks, contain_what_has_their_prefix) {
    struct networks n = networks("10.0.0.0/8, 192.0.2.1 172.16.0.0/12,fd00::/8, 2001:db8::4/126");
    static const char *const in[] = {"10.0.0.0",   "10.255.255.255", "::ffff:10.3.2.1", "192.0.2.1",
                                     "172.31.0.1", "fdff::1",        "2001:db8::7"};
    static const char *const out[] = {"11.0.0.0", "9.255.255.255", "192.0.2.0",  "172.32.0.1",
                                      "fe00::",   "2001:db8::8",   "2001:db8::3"};
    cr_assert_eq(n.count, 5);
    for (size_t i = 0; i < sizeof in / sizeof *in; i++) {
        struct address a = of(in[i]), b = of(out[i]);
        cr_assert(networks_contain(&n, &a), "%s", in[i]);
        cr_assert_not(networks_contain(&n, &b), "%s", out[i]);
    }
}

Test(networks, of_everything_and_of_nothing) {
    struct networks all = networks("0.0.0.0/0"), none = networks(" , ");
    struct address v4 = of("203.0.113.9"), v6 = of("::1");
    cr_assert(networks_contain(&all, &v4));
    cr_assert_not(networks_contain(&all, &v6));
    cr_assert_not(networks_contain(&none, &v4));
    all = networks("::/0");
    cr_assert(networks_contain(&all, &v4));
}

Test(networks, refuse_what_was_hardly_meant) {
    static const char *const wrong[] = {
        "10.0.0.1/8",  "10.0.0.0/33",   "10.0.0.0/",   "10.0.0.0/08", "10.0.0.0/-1", "::/129",
        "10.0.0.0/8;", "proxy.example", "10.0.0.0//8", "/8",          "::1/64"};
    struct networks n;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        cr_assert_not(networks_parse(span_of(wrong[i]), &n), "%s", wrong[i]);
}

Test(networks, are_bounded) {
    char text[(NETWORKS_MAX + 1) * 16];
    size_t len = 0;
    struct networks n;
    for (int i = 0; i <= NETWORKS_MAX; i++) {
        cr_assert_eq(networks_parse((struct span){text, len}, &n), true);
        len += (size_t)snprintf(text + len, sizeof text - len, "10.0.0.%d ", i);
    }
    cr_assert_not(networks_parse((struct span){text, len}, &n));
}
