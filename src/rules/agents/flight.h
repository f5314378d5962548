/* Single flight: of many who ask the same at once, one goes to the controller.
 *
 * "The same" is an agent and the proof of a secret. The table keeps an agent's flights; who
 * follows, and how followers are told, is the caller's: a follower is just a link. Everything here
 * happens under the agent's lock. */
#pragma once

#include "base/list.h"
#include "rules/trust/grant.h"

enum { FLIGHT_FOLLOWERS_MAX = 64 };

struct flight {
    struct list link; /* in the agent's flights */
    uint8_t proof[GRANT_PROOF];
    uint64_t purges_seen; /* the purge sequence when it took off */
    struct list followers;
    int follower_count;
};

/* The flight of this proof that took off at the purge sequence `purged` or later; or NULL. (An
 * older one may bring an answer that is no longer true: its own passengers asked before, those who
 * come now shall not hear it.) */
struct flight *flight_find(struct list *flights, const uint8_t proof[GRANT_PROOF], uint64_t purged);
struct flight *flight_start(struct list *flights, const uint8_t proof[GRANT_PROOF],
                            uint64_t purges_seen);
/* False: full. */
bool flight_join(struct flight *flight, struct list *follower);
void flight_leave(struct flight *flight, struct list *follower);
/* Ends it; its followers are moved to `followers` (initialised here). */
void flight_land(struct flight *flight, struct list *followers);
