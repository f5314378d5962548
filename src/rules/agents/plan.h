/* What becomes of a connect: from cache, from the controller, or both. Pure: a table with a voice.
 *
 *   what is known        calm (may ask)                 storm (may not)
 *   nothing, or dead     ask                            ask
 *   fresh                cache                          cache
 *   warm                 ask, wait 1 s, else cache      cache, and refresh in the background
 *   stale                ask, wait 3 s, else cache      cache, and refresh in the background
 *
 * So in calm weather an admin's change shows within `fresh_for`, and a storm of known agents costs
 * the controller no more than the refresh rate. */
#pragma once

#include "rules/trust/grant.h"

#include <stdbool.h>

enum { PLAN_WARM_WAIT_MS = 1000, PLAN_STALE_WAIT_MS = 3000 };

struct plan_facts {
    bool known;         /* there is a grant of this very secret */
    enum grant_age age; /* of it, when known */
    bool owed;          /* the controller has not heard of a connect since a disconnect */
    bool written;       /* something it depends on was written since */
    bool no_cache;      /* the client asks for the controller's own answer */
};

/* What the facts come to: `owed` makes a fresh grant warm, `written` makes any stale. */
enum grant_age plan_age(const struct plan_facts *facts);

/* Would asking the controller be a choice and not a must? Then it takes a place in the refresh rate
 * first, and `may_ask` of plan_connect says whether there was one. */
bool plan_needs_place(const struct plan_facts *facts);

struct plan {
    bool ask;            /* go to the controller, or follow who went */
    int64_t patience_ms; /* then answer from the grant; 0: there is none, or it must not be used
                            before the controller has failed */
    bool refresh;        /* answer from the grant now, and see to it later */
};

struct plan plan_connect(const struct plan_facts *facts, bool may_ask);
