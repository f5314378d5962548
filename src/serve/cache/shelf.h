/* The connect cache's level that all replicas share, in Redis: sealed grants, one an agent, found
 * by the proof of the secret that opens them. What a replica has learnt spares the others a bcrypt.
 *
 *   look   before an agent unknown here costs the controller a call. One script: the grant, if this
 *          secret's is there and its agent was not purged since; else whose the fill is. While it
 * is another replica's, its answer is waited for. keep   what was learnt, in the background; not
 * what was purged since it was asked for.
 *
 * Redis away, slow or lying costs nobody more than connect_cache.redis_budget, and nobody an
 * answer. */
#pragma once

#include "serve/request/context.h"

struct shelf;
struct look;

enum {
    SHELF_BUSY_MS = 200,    /* over the budget, but it answers: it is we who are slow to read */
    SHELF_LAG_MS = 500,     /* it has owed a reply for so long: it is not even asked */
    SHELF_FILL_MS = 5000,   /* a fill is one replica's for so long */
    SHELF_WAIT_MS = 1000,   /* the longest that another replica's fill is waited for */
    SHELF_AGAIN_MS = 100,   /* ... asking so often */
    SHELF_SETTLE_MS = 2500, /* Redis is back: so long nothing is looked up */
};

struct shelf *shelf_new(struct serve *s);
/* Ends all looks as if nothing had been found. Nothing may be begun afterwards. */
void shelf_close(struct shelf *shelf);
void shelf_free(struct shelf *shelf);
/* Redis is here, or away. */
void shelf_note_redis(struct shelf *shelf, bool here);

/* Is looking worth while? Not when Redis is away, behind, or has not heard yet what was purged by
 * us; nor, for a moment, when it has just come back: others may have to tell it, too. */
bool shelf_may_look(const struct shelf *shelf);

struct looked {
    struct grant *grant; /* NULL: nothing was found. Borrowed; it opens with the pass */
    struct tag_set tags;
    bool stale; /* something it depends on was written since */
};

/* `done` is called once, from the loop, unless cancelled. NULL: there is no use in looking. */
struct look *shelf_look(struct shelf *shelf, const struct grant_pass *pass,
                        void (*done)(void *arg, const struct looked *found), void *arg);
void shelf_cancel(struct look *look);

/* Keeps what was learnt; `seen` is peers_seen() when the controller was asked. Ends the fill. */
void shelf_keep(struct shelf *shelf, const struct grant_pass *pass, const struct grant *grant,
                const struct tag_set *tags, int64_t seen);
/* Nothing was learnt: ends the fill, so that another replica may try. */
void shelf_give_up(struct shelf *shelf, const struct grant_pass *pass);
