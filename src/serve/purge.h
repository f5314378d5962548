/* What a write that passed by makes untrue here. Done before its answer is passed on, so that an
 * admin who has the answer never sees the old state. */
#pragma once

#include "rules/agent_id.h"
#include "serve/routes.h"
#include "serve/serve.h"

/* How a call with an effect ended, as far as anybody knows. */
enum ending { ENDED_WELL, ENDED_BADLY, ENDED_UNKNOWN };

void purge_after(struct serve *s, enum effect effect, enum ending ending,
                 const struct agent_id *agent);
