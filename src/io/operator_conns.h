/* The client connections of one operators' port: how many there may be, how long a request and an
 * idle connection may take, and which connection makes room for a new one. evhttp serves them; it
 * has idle timeouts only, and no bound on connections.
 *
 *   accepted --> unfinished --whole request--> answering --answer sent--> idle
 *                    ^                                                     |
 *                    +---------- first byte of the next request -----------+
 *
 * At most `max` connections, at most OPERATOR_CONNS_PER_SITE of one address (IPv6: /64). Where a
 * new one exceeds that, the oldest unfinished one is closed, once it has had 5 ms; else the one
 * that is idle longest; else one whose client has not taken its answer for a second. If the bound
 * of an address is reached, it is one of that address. A connection whose client waits for an
 * answer is never closed for another: then the new connection is closed.
 *
 * Deadlines are absolute: a byte now and then does not extend them. Not thread safe: everything
 * happens on the loop. */
#pragma once

#include "io/loop.h"

#include <stddef.h>

enum {
    /* For `max`. A kubelet and two Prometheus need five; the rest is for people and slow scrapes.
     */
    OPERATOR_CONNS_MAX = 64,
    /* One client cannot take a port from others. Every probe of a node has the node's address. */
    OPERATOR_CONNS_PER_SITE = 8,
};

struct evhttp;
struct evhttp_request;
struct operator_conns;

/* Has `http` serve the listening socket (takes it), at most `max` connections at a time. To be
 * freed after `http`. */
struct operator_conns *operator_conns_new(struct loop *loop, struct evhttp *http, int listen_fd,
                                          size_t max);
/* NULL is fine. */
void operator_conns_free(struct operator_conns *s);

/* The whole request is there, and its answer begins: from evhttp's request callback. */
void operator_conns_answer(struct operator_conns *s, struct evhttp_request *request);
