/* Connects the controller refused, remembered for a while: a client in a loop with a wrong secret,
 * or one that tries ids, costs the controller one bcrypt per secret and not one per try.
 *
 * Keyed by the proof of (agent, secret), so nothing here tells a secret. Bounded: the table has a
 * fixed size, the oldest of a set goes. Thread safe. */
#pragma once

#include "rules/agents/agent_id.h"
#include "rules/trust/grant.h"

#include <stdint.h>

struct refusals;

enum { REFUSAL_MESSAGE = 128 };

struct refusal {
    int status;
    char message[REFUSAL_MESSAGE]; /* the controller's, terminated */
};

/* `entries` is rounded up to a power of two. `ttl_ms`: how long one is remembered. */
struct refusals *refusals_new(size_t entries, int64_t ttl_ms);
void refusals_free(struct refusals *r);

/* Messages that do not fit are not remembered. `now_ms` is monotonic. */
void refusals_add(struct refusals *r, const struct agent_id *agent,
                  const uint8_t proof[GRANT_PROOF], int status, const char *message,
                  int64_t now_ms);
bool refusals_find(struct refusals *r, const struct agent_id *agent,
                   const uint8_t proof[GRANT_PROOF], int64_t now_ms, struct refusal *out);
/* Something was written about this agent: what was wrong may be right now. */
void refusals_forget(struct refusals *r, const struct agent_id *agent);
