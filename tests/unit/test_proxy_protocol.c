#include "rules/wire/proxy_protocol.h"

#include <criterion/criterion.h>

enum { MAX = PROXY_PROTOCOL_MAX + 64 };

/* A header under construction. */
struct header {
    uint8_t bytes[MAX];
    size_t len;
};

static void add(struct header *h, const void *bytes, size_t len) {
    memcpy(h->bytes + h->len, bytes, len);
    h->len += len;
    size_t rest = h->len - PROXY_PROTOCOL_FIXED;
    h->bytes[14] = (uint8_t)(rest >> 8);
    h->bytes[15] = (uint8_t)rest;
}

#define ADD(h, literal) add((h), literal, sizeof(literal) - 1)

static struct header begin(uint8_t version_and_command, uint8_t family) {
    struct header h = {.len = PROXY_PROTOCOL_FIXED};
    memcpy(h.bytes, "\r\n\r\n\0\r\nQUIT\n", 12);
    h.bytes[12] = version_and_command;
    h.bytes[13] = family;
    return h;
}

static struct header tcp4(void) {
    struct header h = begin(0x21, 0x11);
    ADD(&h, "\xc0\x00\x02\x07\x0a\x00\x00\x01\x12\x67\x20\xfb");
    return h;
}

static bool parse(const struct header *h, struct proxy_protocol *out) {
    if (proxy_protocol_length(h->bytes) != h->len)
        return false;
    return proxy_protocol_parse((struct span){(const char *)h->bytes, h->len}, out);
}

static bool is_fine(const struct header *h) {
    struct proxy_protocol p;
    return parse(h, &p);
}

static void assert_source(const struct header *h, const char *address, int port) {
    struct proxy_protocol p;
    char text[ADDRESS_TEXT];
    cr_assert(parse(h, &p));
    cr_assert_not(p.local);
    address_text(&p.source, text);
    cr_assert_str_eq(text, address);
    cr_assert_eq(p.port, port);
}

Test(proxy_protocol, tells_the_client_of_a_connection_over_ipv4) {
    struct header h = tcp4();
    assert_source(&h, "192.0.2.7", 4711);
}

Test(proxy_protocol, tells_the_client_of_a_connection_over_ipv6) {
    struct header h = begin(0x21, 0x21);
    ADD(&h, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x09");
    ADD(&h, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x12\x67\x20\xfb");
    assert_source(&h, "2001:db8::9", 4711);
}

Test(proxy_protocol, local_is_the_peer_itself_whatever_follows) {
    struct proxy_protocol p;
    struct header h = begin(0x20, 0x00);
    cr_assert(parse(&h, &p));
    cr_assert(p.local);
    ADD(&h, "whatever");
    cr_assert(parse(&h, &p));
    cr_assert(p.local);
}

Test(proxy_protocol, takes_extensions_that_fit_and_no_others) {
    struct header h = tcp4();
    ADD(&h, "\x02\x00\x03gw1\x04\x00\x00");
    assert_source(&h, "192.0.2.7", 4711);
    struct header cut = h;
    ADD(&cut, "\x04\x00");
    cr_assert_not(is_fine(&cut));
    struct header over = h;
    ADD(&over, "\x04\x00\x02x");
    cr_assert_not(is_fine(&over));
}

Test(proxy_protocol, believes_only_a_right_checksum) {
    struct header h = tcp4();
    /* of exactly these bytes, by another implementation */
    ADD(&h, "\x03\x00\x04\x00\x00\x00\x00");
    cr_assert_not(is_fine(&h));
    memcpy(h.bytes + h.len - 4, "\xb9\xce\x23\x97", 4);
    cr_assert(is_fine(&h));
    h.bytes[16] ^= 1;
    cr_assert_not(is_fine(&h));
    struct header shorter = tcp4();
    ADD(&shorter, "\x03\x00\x02\x00\x00");
    cr_assert_not(is_fine(&shorter));
}

Test(proxy_protocol, closes_on_anything_else) {
    static const uint8_t families[] = {0x00, 0x10, 0x12, 0x13, 0x22, 0x31, 0x32, 0x41, 0xff};
    static const uint8_t commands[] = {0x22, 0x2f, 0x11, 0x31, 0x01, 0x00, 0xff};
    for (size_t i = 0; i < sizeof families; i++) {
        struct header h = tcp4();
        h.bytes[13] = families[i];
        cr_assert_not(is_fine(&h), "family %x", families[i]);
    }
    for (size_t i = 0; i < sizeof commands; i++) {
        struct header h = tcp4();
        h.bytes[12] = commands[i];
        cr_assert_eq(proxy_protocol_length(h.bytes), 0, "command %x", commands[i]);
    }
    for (size_t i = 0; i < 12; i++) {
        struct header h = tcp4();
        h.bytes[i] ^= 0x20;
        cr_assert_eq(proxy_protocol_length(h.bytes), 0, "signature %zu", i);
    }
    struct header v6_without_room = begin(0x21, 0x21), none = begin(0x21, 0x11);
    ADD(&v6_without_room, "\xc0\x00\x02\x07\x0a\x00\x00\x01\x12\x67\x20\xfb");
    cr_assert_not(is_fine(&v6_without_room));
    cr_assert_not(is_fine(&none));
}

Test(proxy_protocol, is_bounded) {
    struct header h = tcp4();
    size_t value = PROXY_PROTOCOL_MAX - h.len - 3;
    add(&h, (uint8_t[]){4, (uint8_t)(value >> 8), (uint8_t)value}, 3);
    static const uint8_t zeros[PROXY_PROTOCOL_MAX];
    add(&h, zeros, value);
    cr_assert_eq(h.len, PROXY_PROTOCOL_MAX);
    cr_assert(is_fine(&h));
    ADD(&h, "\x04\x00\x00");
    cr_assert_eq(proxy_protocol_length(h.bytes), 0);
}
