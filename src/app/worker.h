/* One thread: a loop with its own listener, connections to the controller, and share of the work.
 * Workers share the configuration, the agents table and TLS contexts; everything else crosses by
 * mailbox. */
#pragma once

#include "app/generation.h"
#include "serve/serve.h"

struct worker;

struct worker_setup {
    struct shared *shared;
    size_t number;
    int listen_fd; /* taken */
    SSL_CTX *tls;  /* NULL: plain; referenced */
    struct upstream_options upstream;
};

/* Makes it; its mailbox is in shared->mailbox[number] from then on. */
struct worker *worker_new(const struct worker_setup *setup);
void worker_start(struct worker *w);
/* Thread safe: finish what is under way, send what is held (shared->draining is set), and go on
 * until told to stop: a colleague's letter may bring more to do. */
void worker_drain(struct worker *w);
/* Thread safe: from its loop's next turn on it works with this generation, and counts itself out of
 * g->adopting. One at a time. */
void worker_adopt(struct worker *w, struct generation *g);
/* Thread safe: end now. */
void worker_stop(struct worker *w);
/* Thread safe: is it draining, with no connection open and no call under way a moment ago? */
bool worker_is_idle(const struct worker *w);
/* The end, in three steps, each for all workers before the next: they send each other letters. */
void worker_join(struct worker *w);
void worker_close(struct worker *w);
void worker_free(struct worker *w);
