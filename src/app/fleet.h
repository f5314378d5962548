/* The agents this process knows of, counted by state, for /metrics. */
#pragma once

#include "base/str.h"
#include "rules/agents/agents.h"

/* Appends aiwm_gateway_agents{state=...}. Walks the table, shard by shard. */
void fleet_show(struct agents *agents, struct str *body);
