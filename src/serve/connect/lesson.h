/* What the controller's answer to a connect teaches: a grant to keep with what it depends on, or
 * that this secret opens nothing (any more). */
#pragma once

#include "serve/gate/fetch.h"

struct lesson {
    const struct grant_pass *pass;
    const struct fetched *fetched;
    struct grant *grant;  /* NULL: none to keep */
    uint64_t flow;        /* of its organization; FLOW_UNKNOWN */
    struct tag_set tags;  /* of the grant */
    uint64_t purges_seen; /* the purge sequence when the controller was asked */
    int64_t peers_seen;   /* the same of all replicas (serve/cache/peers) */
};

/* Reads the answer and seals what is to be kept. Borrows `pass` and `fetched`. */
void lesson_take(struct lesson *l, struct serve *s, const struct grant_pass *pass,
                 const struct fetched *fetched, uint64_t purges_seen, int64_t peers_seen);
void lesson_release(struct lesson *l);

/* Under the agent's lock. Returns whether the grant was stored: what was written since the
 * controller was asked is truer than its answer, and so is what a later call has brought. */
bool lesson_learn(const struct lesson *l, struct serve *s, struct agent *agent);
