/* Reload: a whole new generation of configuration, or the old one with all complaints.
 *
 *   HUP, or renewed contents of *_file keys (looked at every 10 s: Kubernetes swaps links)
 *      |
 *   read and judge everything anew ----- anything wrong ------> complaints are logged, nothing
 *      |                                                        changes
 *   publish it; each worker adopts its share in its own loop (certificate, keys of tokens,
 *   connections to the controller: calls under way go on)
 *      |
 *   all have adopted: the old generation is freed
 *
 * Keys that need a restart keep their running value, and the log names them. */
#pragma once

#include "app/generation.h"
#include "app/worker.h"

struct reload;

struct reload_parts {
    const char *config_file; /* NULL: the environment alone */
    char *const *environment;
    struct shared *shared;
    struct tickets *tickets;
    struct worker **workers; /* shared->worker_count of them */
};

/* Borrows everything in `parts`, and the first generation, which it never frees: Redis' connections
 * are made of it. */
struct reload *reload_new(struct loop *loop, const struct reload_parts *parts,
                          struct generation *first);
/* Frees the generations after the first. The workers have ended. */
void reload_free(struct reload *r);
/* As soon as the one under way, if any, is over. */
void reload_now(struct reload *r);
