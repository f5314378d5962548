/* An agent's id: 24 hex digits of any case, 12 bytes inside. One spelling, so one identity. */
#pragma once

#include "base/span.h"

#include <stdint.h>

enum { AGENT_ID_HEX = 24 };

struct agent_id {
    uint8_t bytes[12];
};

/* False unless `text` is exactly 24 hex digits. */
bool agent_id_parse(struct span text, struct agent_id *out);
/* The canonical (lower-case) spelling, not terminated. */
void agent_id_text(const struct agent_id *id, char out[AGENT_ID_HEX]);
bool agent_id_equal(const struct agent_id *a, const struct agent_id *b);
