/* IP addresses and networks, as values. An IPv4 address is held as ::ffff:a.b.c.d (RFC 4291
 * section 2.5.5.2), so that a client is the same one however it reaches a dual-stack socket. */
#pragma once

#include "base/span.h"

#include <stdint.h>

enum { ADDRESS_BYTES = 16, ADDRESS_TEXT = 46 /* INET6_ADDRSTRLEN */, NETWORKS_MAX = 64 };

struct address {
    uint8_t bytes[ADDRESS_BYTES];
};

void address_of_v4(const uint8_t bytes[4], struct address *out);
/* ::ffff:a.b.c.d becomes the IPv4 address by itself. */
void address_of_v6(const uint8_t bytes[16], struct address *out);
bool address_is_v4(const struct address *a);

/* "192.0.2.1", "2001:db8::1"; no port, no brackets, no zone, no spaces. */
bool address_parse(struct span text, struct address *out);
/* Its shortest spelling (RFC 5952), terminated; IPv4 in dots. */
void address_text(const struct address *a, char out[ADDRESS_TEXT]);

/* Whom a limit per address is about: an IPv4 address, or the /64 of an IPv6 one, all of whose
 * addresses one host may use. Borrows `a`. */
struct span address_site(const struct address *a);

/* A list of networks: "10.0.0.0/8, 192.0.2.1, fd00::/8". */
struct networks {
    size_t count;
    struct network {
        struct address base;
        int bits; /* of 128; an IPv4 network has 96 more than it is written with */
    } at[NETWORKS_MAX];
};

/* Separated by commas or spaces; empty: none. False for anything else, bits set behind the prefix
 * (10.0.0.1/8) and more than NETWORKS_MAX included; then nothing is promised about *out. */
bool networks_parse(struct span text, struct networks *out);
bool networks_contain(const struct networks *n, const struct address *a);
