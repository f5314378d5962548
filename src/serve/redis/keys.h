/* What keys in Redis are called: <redis.key_prefix>1:<name>[:<agent's id>]. The 1 is the version of
 * what is kept under them: a gateway that keeps it otherwise counts on. */
#pragma once

#include "rules/agents/agent_id.h"
#include "serve/request/context.h"

enum { KEY_MAX = 192 };

/* Spelled into `memory`. `agent` NULL: not an agent's. */
struct span key_spell(const struct shared *shared, const char *name, const struct agent_id *agent,
                      char memory[KEY_MAX]);
