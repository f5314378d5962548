/* The PROXY protocol, version 2: a proxy in front says in a binary header, before any other byte,
 * whose connection it passes on (haproxy.org, doc/proxy-protocol.txt, section 2.2).
 *
 * Strict: TCP over IPv4 or IPv6, or LOCAL (the proxy speaks for itself: health checks); the TLVs
 * must fill the header exactly, a checksum among them must be right. Their contents are not used.
 * Version 1 is text that ends where a line ends; it is not spoken. */
#pragma once

#include "rules/wire/address.h"

enum {
    PROXY_PROTOCOL_FIXED = 16, /* what every header begins with; it tells the length of the rest */
    PROXY_PROTOCOL_MAX = 4096, /* with certificates among the TLVs; longer ones are refused */
};

/* How long the header is that begins with these PROXY_PROTOCOL_FIXED bytes; 0: it is none. */
size_t proxy_protocol_length(const uint8_t fixed[PROXY_PROTOCOL_FIXED]);

struct proxy_protocol {
    bool local; /* the peer's own connection; source and port are not set */
    struct address source;
    uint16_t port; /* of the source */
};

/* Reads a whole header, proxy_protocol_length bytes of it. */
bool proxy_protocol_parse(struct span header, struct proxy_protocol *out);
