#include "rules/wire/client_address.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct http_request request;

/* Who is the client of `peer`, which sends these lines? */
static const char *client(const char *peer, const char *trusted, const char *lines) {
    static char text[ADDRESS_TEXT], head[4096];
    struct networks networks;
    struct address at;
    (void)snprintf(head, sizeof head, "GET / HTTP/1.1\r\nHost: h\r\n%s\r\n", lines);
    cr_assert_eq(http_request_parse(span_of(head), &request), ERR_OK, "%s", lines);
    cr_assert(networks_parse(span_of(trusted), &networks));
    cr_assert(address_parse(span_of(peer), &at));
    at = client_address(&at, &networks, &request.fields);
    address_text(&at, text);
    return text;
}

#define XFF(list) "X-Forwarded-For: " list "\r\n"

Test(client_address, is_the_peer_when_nobody_is_trusted) {
    cr_assert_str_eq(client("192.0.2.1", "", XFF("10.0.0.1")), "192.0.2.1");
    cr_assert_str_eq(client("192.0.2.1", "10.0.0.0/8", XFF("10.0.0.1")), "192.0.2.1");
}

Test(client_address, is_the_rightmost_that_is_not_trusted) {
    const char *proxies = "10.0.0.0/8 fd00::/8";
    cr_assert_str_eq(client("10.0.0.1", proxies, XFF("203.0.113.7")), "203.0.113.7");
    cr_assert_str_eq(client("10.0.0.1", proxies, XFF("6.6.6.6, 203.0.113.7")), "203.0.113.7");
    cr_assert_str_eq(client("10.0.0.1", proxies, XFF("6.6.6.6, 203.0.113.7,10.0.0.2 ,fd00::5")),
                     "203.0.113.7");
    cr_assert_str_eq(client("::ffff:10.0.0.1", proxies, XFF("203.0.113.7")), "203.0.113.7");
}

Test(client_address, several_lines_are_one_list) {
    cr_assert_str_eq(client("10.0.0.1", "10.0.0.0/8",
                            XFF("6.6.6.6") XFF("203.0.113.7") "x-forwarded-for: 10.1.1.1\r\n"),
                     "203.0.113.7");
}

Test(client_address, is_the_leftmost_proxy_when_all_are) {
    cr_assert_str_eq(client("10.0.0.1", "10.0.0.0/8", XFF("10.0.0.3, 10.0.0.2")), "10.0.0.3");
    cr_assert_str_eq(client("10.0.0.1", "10.0.0.0/8", ""), "10.0.0.1");
    cr_assert_str_eq(client("10.0.0.1", "10.0.0.0/8", XFF("")), "10.0.0.1");
}

Test(client_address, what_is_no_address_ends_the_walk) {
    static const char *const junk[] = {"unknown",     "203.0.113.7 x", "[::1",        "_hidden",
                                       "1.2.3.4:5:6", "203.0.113.999", "\"10.0.0.9\""};
    for (size_t i = 0; i < sizeof junk / sizeof *junk; i++) {
        char lines[256];
        (void)snprintf(lines, sizeof lines, XFF("203.0.113.7, %s, 10.0.0.2"), junk[i]);
        cr_assert_str_eq(client("10.0.0.1", "10.0.0.0/8", lines), "10.0.0.2", "%s", junk[i]);
    }
}

Test(client_address, empty_elements_count_for_nothing) {
    cr_assert_str_eq(client("10.0.0.1", "10.0.0.0/8", XFF(", 203.0.113.7, ,")), "203.0.113.7");
}

Test(client_address, may_carry_a_port) {
    cr_assert_str_eq(client("10.0.0.1", "10.0.0.0/8", XFF("203.0.113.7:4711")), "203.0.113.7");
    cr_assert_str_eq(client("10.0.0.1", "10.0.0.0/8", XFF("[2001:db8::9]:4711")), "2001:db8::9");
    cr_assert_str_eq(client("10.0.0.1", "10.0.0.0/8", XFF("2001:db8::9")), "2001:db8::9");
}

Test(client_address, protocol_is_one_of_two) {
    client("10.0.0.1", "", "X-Forwarded-Proto: https\r\n");
    cr_assert(span_equal(client_protocol(&request.fields), SPAN("https")));
    client("10.0.0.1", "", "X-Forwarded-Proto: gopher\r\n");
    cr_assert_null(client_protocol(&request.fields).ptr);
    client("10.0.0.1", "", "");
    cr_assert_null(client_protocol(&request.fields).ptr);
}
