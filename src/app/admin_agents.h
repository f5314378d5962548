/* What the admin port shows of agents. */
#pragma once

#include "io/operator.h"
#include "rules/agents/agents.h"

/* A page of agents as JSON. Parameters: prefix (of the id), status, only (held, cached, refused,
 * revoked), limit (1 to 1000), after (what the page before gave as "next"). Returns the status. */
int admin_show_agents(struct agents *agents, const struct operator_request *request,
                      struct str *body);
/* The one whose id is the request's segment. */
int admin_show_agent(struct agents *agents, const struct operator_request *request,
                     struct str *body);
