/* Accepts connections; neither spins nor storms the log when descriptors run out. */
#pragma once

#include "io/loop.h"

#include <sys/socket.h>

struct listener;

/* Takes the listening socket. `on_accept` takes each new non-blocking socket. */
struct listener *listener_new(struct loop *loop, int listen_fd,
                              void (*on_accept)(void *arg, int fd, const struct sockaddr *peer,
                                                socklen_t peer_len),
                              void *arg);
/* Takes those who wait already, whom closing would reset, then frees it. NULL is fine. */
void listener_finish(struct listener *l);
/* NULL is fine. */
void listener_free(struct listener *l);

/* A bound, listening, non-blocking socket with SO_REUSEPORT, or -1 with the reason in `why`.
 * `first`: nobody else may listen there yet; later ones share it with ours. Port 0: any free one;
 * *bound_port says which. */
int listener_socket(const char *address, int port, bool first, int *bound_port, char why[256]);
/* Does that descriptor listen there? Port 0: on any port. */
bool listener_is_at(int fd, const char *address, int port);
/* Its port; 0: it has none. */
int listener_port(int fd);
