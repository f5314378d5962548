/* Which organization an agent was last known to be of, as its turn in a queue (rules/gate/queue):
 * so that organizations take turns also where a request does not say whose it is, as connects do.
 *
 * A fixed table of two bytes a slot that forgets only what another agent takes the place of. It may
 * be wrong about one agent in some thousands; that costs a turn and nothing else. Thread safe,
 * without locks. Agents and organizations are keyed hashes. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { FLOW_UNKNOWN = 0 };

struct flows;

/* Room for `agents`, rounded up to a power of two. */
struct flows *flows_new(size_t agents);
/* NULL is fine. */
void flows_free(struct flows *f);

/* The organization's turn: 1 to QUEUE_FLOWS - 1. Those of whom nothing is known share one, 0. */
uint64_t flows_of(uint64_t organization);
void flows_note(struct flows *f, uint64_t agent, uint64_t flow);
/* FLOW_UNKNOWN: not known. */
uint64_t flows_find(const struct flows *f, uint64_t agent);
