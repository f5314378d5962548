/* Names to addresses without blocking, remembered for a while: one target per resolver.
 * Numeric hosts never ask anybody. */
#pragma once

#include "io/loop.h"

#include <sys/socket.h>

struct resolver;

struct resolved {
    struct sockaddr_storage address;
    socklen_t len; /* 0: the name could not be resolved */
};

struct resolver *resolver_new(struct loop *loop, const char *host, int port);
void resolver_free(struct resolver *r);

/* Calls `done` once, at once when the address is known (numeric, or younger than 30 s), else from
 * the loop. An old address is better than none: it is given when the name server fails. */
void resolver_ask(struct resolver *r, void (*done)(void *arg, const struct resolved *found),
                  void *arg);
