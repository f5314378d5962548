/* A name to its addresses without blocking, remembered for a while: one target per resolver.
 * Numeric hosts never ask anybody. */
#pragma once

#include "io/loop.h"

#include <sys/socket.h>

struct resolver;

struct resolved_address {
    struct sockaddr_storage at;
    socklen_t len;
};

enum { RESOLVED_MAX = 8 };
struct resolved {
    size_t count; /* 0: the name could not be resolved */
    struct resolved_address address[RESOLVED_MAX];
};

struct resolver *resolver_new(struct loop *loop, const char *host, int port);
void resolver_free(struct resolver *r);

/* Calls `done` once, at once when the addresses are known (numeric, or younger than 30 s), else
 * from the loop. Old addresses are better than none: they are given when the name server fails. */
void resolver_ask(struct resolver *r, void (*done)(void *arg, const struct resolved *found),
                  void *arg);
