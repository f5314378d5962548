/* How many agents are known at each address: who was let in from there, or proved there who it is.
 * Failed connects are limited per address; an address that many agents share may have more of them
 * (serve/limits/limiting.h).
 *
 * Time goes in periods. An agent counts at its address from the moment it is added until the end of
 * the next period, so for one to two of them; added again, it counts once. The count is the larger
 * one of this period's and of the last's: it is exact while the same agents come back, and low,
 * never high, while they change.
 *
 * Only those who have shown a good secret or token may be added: nobody else can raise a count.
 * Bounded. Where a set of the table is full of this period's, another is not counted. Where there
 * is no room for an address, that with the fewest agents is forgotten until the next period. Thread
 * safe: one lock, the innermost of all. Agents and addresses are keyed hashes
 * (rules/gate/limits). */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Half a day: an agent's token lives a day, and many connect no more often. */
#define KNOWN_AGENTS_PERIOD_US INT64_C(43200000000)

struct known_agents;

/* Room for `agents` of all addresses, 16 bytes each, and for `addresses`, 24 bytes each; both are
 * rounded up to a power of two. */
struct known_agents *known_agents_new(size_t agents, size_t addresses);
/* NULL is fine. */
void known_agents_free(struct known_agents *k);

/* Neither key is 0. `now_us` is monotonic, 0 or more. */
void known_agents_add(struct known_agents *k, uint64_t address, uint64_t agent, int64_t now_us);
int64_t known_agents_count(struct known_agents *k, uint64_t address, int64_t now_us);
/* Which period it is, 1 or more: who was added in this one need not be added again. */
uint32_t known_agents_period(int64_t now_us);
