/* A new binary without a closed port: USR2 starts argv[0] again with our listening sockets
 * (io/inherit); once it serves it says so by USR1, and we drain. Both accept from the same queues
 * meanwhile, so no connection is lost. One that fails to start changes nothing. */
#pragma once

#include <stdbool.h>

struct succession;

/* Borrows both. */
struct succession *succession_new(char *const *argv, char *const *environment);
/* Keeps a copy of this listening socket. */
void succession_keep(struct succession *s, const char *name, int fd);
/* USR2. */
void succession_begin(struct succession *s);
/* CHLD. */
void succession_look(struct succession *s);
/* Does a successor serve, or begin to? */
bool succession_is_under_way(const struct succession *s);
/* Draining: the copies go, and with them, if nobody else has them, the ports. */
void succession_release(struct succession *s);
void succession_free(struct succession *s);
