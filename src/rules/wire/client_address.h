/* Who the client is: the peer of the connection, unless the peer is a proxy of ours that says on
 * whose behalf it speaks (X-Forwarded-For). */
#pragma once

#include "rules/wire/address.h"
#include "rules/wire/http.h"

/* From the right, each trusted proxy vouches for the address it wrote in front of its own; the
 * first that is not trusted is the client. What stands further left anybody may have written. An
 * element that is no address ends the walk: its proxy is then the client, for whom it should have
 * spoken. Several X-Forwarded-For lines are one list, in their order. An address may carry a port
 * ("192.0.2.1:4711", "[2001:db8::1]:4711"). */
struct address client_address(const struct address *peer, const struct networks *trusted,
                              const struct http_fields *fields);

/* "http" or "https", as a trusted peer says in X-Forwarded-Proto; SPAN_NONE when it does not, or
 * says anything else. Borrows the fields. */
struct span client_protocol(const struct http_fields *fields);
