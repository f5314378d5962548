/* Follows a stream in Redis, on a connection of its own: each entry once, in order, and a word when
 * there may have been some that we did not see.
 *
 * It starts at the stream's end. The last id is kept over a lost connection, so that what was added
 * meanwhile is read then. With each read it is seen whether the entry before is still there: if
 * not, the stream was trimmed past us, or flushed, or is another one: on_gap, and then all that is
 * there once more. */
#pragma once

#include "io/redis.h"

struct tail;

struct tail_events {
    /* Names and values in turn. Borrowed. */
    void (*on_entry)(void *arg, const struct redis_reply *fields);
    /* What was added before this moment may not have been seen: at the start, too. */
    void (*on_gap)(void *arg);
};

enum {
    TAIL_BLOCK_MS = 500,     /* a read waits so long for news */
    TAIL_PATIENCE_MS = 10000 /* and this much longer: then the connection is given up */
};

/* Borrows `key`, `events` and what `options` point to. A stream on another Redis: its own health.
 */
struct tail *tail_new(struct loop *loop, const struct redis_options *options, const char *key,
                      const struct tail_events *events, void *arg);
void tail_free(struct tail *t); /* NULL is fine */

/* Connects anew, where Redis may be another one now. */
void tail_reconnect(struct tail *t);
/* Monotonic: when all that had been added was last seen; 0: never. */
int64_t tail_heard_ms(const struct tail *t);

/* The value behind `name` in an entry's fields, or NULL. */
const struct redis_reply *tail_field(const struct redis_reply *fields, struct span name);
