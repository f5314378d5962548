/* The controller's own no (401, 403, 404) to an agent's heartbeat, as it is known here: repeated to
 * its next ones until it is forgotten, or for ten minutes.
 *
 * A 401 binds to the token it was said to, 403 and 404 to the agent. All under the agent's lock. */
#pragma once

#include "rules/agents/agents.h"

enum { VERDICT_MS = 600000 /* 10 min */ };

/* In place of what was said before. `token` is the hash of the one it was said to; `now_ms`
 * monotonic. Copies the message. */
void verdict_note(struct agent *agent, int status, uint64_t token, const char message[256],
                  int64_t now_ms);
/* The verdict that holds for this token, or NULL. Valid under the lock. */
const struct verdict *verdict_for(const struct agents *agents, struct agent *agent,
                                  struct span token, int64_t now_ms);
/* It holds no more; harmless where there is none. */
void verdict_forget(struct agent *agent);
/* For how long it still holds; 0: there is none. */
int64_t verdict_left_ms(const struct agent *agent, int64_t now_ms);
