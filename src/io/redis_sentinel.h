/* The sentinels, asked who the master is: one after the other, each with little patience, since one
 * that is silent must not use up the time of all. Who answered is asked first the next time, over
 * the same connection while it lasts. Private to io/redis*.c. */
#pragma once

#include "io/redis_link.h"
#include "io/resolve.h"

/* `master` NULL: none of them could say, `t` is why (the last one's reason). Called once for each
 * question, from the loop. Valid during the call. */
typedef void redis_master_named(void *arg, enum redis_trouble t, const struct redis_host *master);

struct redis_sentinels {
    struct loop *loop;
    const struct redis_options *options;
    redis_master_named *named;
    void *arg;
    struct redis_link link;
    struct resolver *resolver;
    struct timer patience;
    enum redis_trouble blame; /* what it is when patience is over */
    bool asking;
    size_t current; /* the one asked */
    size_t tried;   /* how many of them, for this question */
};

/* Borrows `options`, whose URL names the sentinels. */
void redis_sentinels_init(struct redis_sentinels *s, struct loop *loop,
                          const struct redis_options *options, redis_master_named *named,
                          void *arg);
void redis_sentinels_release(struct redis_sentinels *s);

/* While a question is under way: nothing. */
void redis_sentinels_ask(struct redis_sentinels *s);
