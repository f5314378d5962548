/* Listening sockets that a process gets from the one before it, so that a new binary takes over
 * without closing a port: from systemd (sd_listen_fds(3): LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES),
 * or from a gateway that starts its successor, which says LISTEN_PARENT, its own process id, in
 * place of LISTEN_PID: it cannot know the other's. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { INHERIT_MAX = 72 }; /* sockets: of all workers, and the operators' ports */

/* How many there are of that name ("data", "health", "admin") that listen on that address; port 0:
 * on any port. */
size_t inherit_count(char *const *environment, const char *name, const char *address, int port);
/* The one with that number; beyond the last they are shared in turn. Non-blocking, close on exec,
 * the caller's own. -1: there is none. */
int inherit_take(char *const *environment, const char *name, size_t number, const char *address,
                 int port, int *bound_port);
/* Closes what was inherited; what was taken stays. */
void inherit_close(char *const *environment);
/* Did a gateway start us as its successor? It is told that we serve: USR1. */
bool inherit_has_parent(char *const *environment);
void inherit_announce(char *const *environment);

struct legacy {
    const char *name;
    int fd;
};

/* Starts argv[0] with these sockets; at most INHERIT_MAX. The process id, or -1 with errno. */
pid_t inherit_spawn(char *const *argv, char *const *environment, const struct legacy *legacies,
                    size_t count);
