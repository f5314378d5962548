/* Field names that a proxy must neither lose nor let be imitated.
 *
 * Names match as a CGI-like server behind us would read them (RFC 3875 section 4.1.18): in any
 * case, and any character but a letter or a digit counts as a hyphen, so that `X_Forwarded_For` is
 * `X-Forwarded-For`. */
#pragma once

#include "base/span.h"

/* A claim about the client, or about what it asked for, that only a proxy may make, and we are that
 * proxy: X-Forwarded-*, Forwarded, X-Real-IP and their like. */
bool field_is_forwarding(struct span name);

/* Meant for the controller, or for the client: Connection may not nominate it (RFC 9110 section
 * 7.6.1), or the other side would judge another message than the one that was sent. The forwarding
 * fields are among them. False for those that are harmless to lose, such as traceparent. */
bool field_is_end_to_end(struct span name);

/* One of those that are listed to a CGI-like server alone: `Content_Type`, `X.Real.IP`. Names of a
 * client's own, such as `content_hash`, imitate nothing. */
bool field_is_imitation(struct span name);
