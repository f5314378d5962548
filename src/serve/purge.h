/* What a write that passed by makes untrue here. Done before its answer is passed on, so that an
 * admin who has the answer never sees the old state. */
#pragma once

#include "rules/agent_id.h"
#include "serve/routes.h"
#include "serve/serve.h"

/* Call when the write succeeded, or when nobody knows whether it did. */
void purge_after(struct serve *s, enum effect effect, const struct agent_id *agent);
