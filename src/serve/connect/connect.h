/* The connect journey: from cache, or one flight to the controller for all who ask the same. */
#pragma once

#include "rules/agents/plan.h"
#include "serve/request/context.h"

struct request;

void connect_journey(struct serve *s, struct request *r);

/* What is known here of who presents this pass. Forgets a grant whose token is not taken any more.
 * Under the agent's lock. */
struct plan_facts connect_facts(struct serve *s, struct agent *agent, const struct grant_pass *pass,
                                bool no_cache);
