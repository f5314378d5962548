/* Commands to Redis as bytes: RESP's array of bulk strings (redis.io/docs/reference/protocol-spec).
 * Pure. By hand, since a heartbeat is a command of twenty words and a printf for each costs more
 * than to seal it. */
#pragma once

#include "base/str.h"

/* Appends one command of `count` words (at least 1). As everywhere in str.h: what does not fit
 * marks `out` as overflowed. */
void resp_add_command(struct str *out, const struct span *words, size_t count);

/* How many bytes that takes at most. */
size_t resp_command_max(const struct span *words, size_t count);
