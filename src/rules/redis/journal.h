/* What is to be told to the other replicas, and has not been yet: a queue that survives Redis'
 * absence, within bounds.
 *
 * Notices about the same agent are merged, tags are a set, so that the order of the rest does not
 * matter. More than `max` agents: all of them together become one "everything", which costs the
 * fleet its cache and nothing else. Not thread safe. */
#pragma once

#include "rules/redis/notice.h"

struct journal;

/* `max`: agents, at least 1. */
struct journal *journal_new(size_t max);
void journal_free(struct journal *j);

void journal_add(struct journal *j, const struct notice *n);
/* Is nothing waiting, nor being told? */
bool journal_is_empty(const struct journal *j);
/* How many agents wait to be spoken of. */
size_t journal_agents(const struct journal *j);

/* The next to be told, one at a time: until journal_told it stays ours. False: there is none, or
 * one is being told. */
bool journal_next(struct journal *j, struct notice *out);
/* Ends it. Not `well`: it is told again, merged with what came meanwhile. */
void journal_told(struct journal *j, bool well);
