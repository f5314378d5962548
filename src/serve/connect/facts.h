/* What is known here of who connects: what rules/agents/plan decides by. */
#pragma once

#include "rules/agents/plan.h"
#include "serve/request/context.h"

/* Of who presents this pass. Forgets a grant whose token is not taken any more. Under the agent's
 * lock. */
struct plan_facts facts_gather(struct serve *s, struct agent *agent, const struct grant_pass *pass,
                               bool no_cache);
