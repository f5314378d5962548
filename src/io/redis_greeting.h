/* What is said first on a connection to Redis, and what is learnt from the answers: who it is, what
 * its clock says, and by which hash it knows our scripts. Private to io/redis*.c. */
#pragma once

#include "io/redis_link.h"
#include "rules/redis/far_clock.h"

enum { REDIS_SHA_HEX = 40 };

/* REDIS_NONE: it is one to work with; else why not. Called once for each greeting, from the loop,
 * unless it was forgotten, or a command of it was refused: that is the connection's trouble. */
typedef void redis_greeted(void *arg, enum redis_trouble t);

struct redis_greeting {
    const struct redis_options *options;
    struct redis_link *link;
    redis_greeted *end;
    void *arg;
    size_t left; /* replies still to come */
    /* What was learnt. */
    struct redis_info info;
    struct far_clock clock; /* the one before, until there is another */
    char (*sha)[REDIS_SHA_HEX];
    bool is_master;
    int64_t asked_us; /* monotonic: when it was asked for the time */
    int64_t took_us;  /* the quickest answer to that */
    int looks;
};

/* Borrows both. */
void redis_greeting_init(struct redis_greeting *g, struct redis_link *link,
                         const struct redis_options *options, redis_greeted *end, void *arg);
void redis_greeting_release(struct redis_greeting *g);

/* The link is ready: authenticates, asks, loads the scripts. */
void redis_greet(struct redis_greeting *g);
/* The link was closed. */
void redis_greeting_forget(struct redis_greeting *g);

/* Of a reply to TIME: microseconds since 1970. */
int64_t redis_time_us(const struct redis_reply *reply);
