/* One generation of configuration: what was read, and what is made of it. A reload makes a new one;
 * the old goes when no worker uses it any more. */
#pragma once

#include "app/setup.h"
#include "io/tickets.h"
#include "serve/request/context.h"

struct generation {
    struct setup setup;
    struct grant_keys keys;
    _Atomic int adopting; /* workers that still use the one before */
};

/* Reads it. `running` NULL: it is the first. NULL: refused, the complaints say why. */
struct generation *generation_read(const char *config_file, char *const *environment,
                                   const struct generation *running, struct str *complaints);
void generation_free(struct generation *g);

/* Makes it what `shared` points to. Workers adopt their own share of it (worker_adopt). */
void generation_publish(struct generation *g, struct shared *shared, struct tickets *tickets);
