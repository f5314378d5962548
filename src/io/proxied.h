/* Reads the PROXY protocol header of an accepted socket, and not a byte beyond it: what follows is
 * the client's own, TLS most of the time. */
#pragma once

#include "io/loop.h"
#include "rules/wire/proxy_protocol.h"

struct proxied;

/* Takes the socket. `done` is called once, from the loop, unless freed before; `said` is NULL when
 * the header is bad, cut short or missing. The caller sees to a deadline. */
struct proxied *proxied_new(struct loop *loop, int fd,
                            void (*done)(void *arg, const struct proxy_protocol *said), void *arg);
/* Frees it and gives the socket back. */
int proxied_take(struct proxied *p);
/* Frees it and closes the socket. NULL is fine. */
void proxied_free(struct proxied *p);
