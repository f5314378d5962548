/* Where the agents go: a URL, its addresses, its TLS, and whether we may. */
#pragma once

#include "io/loop.h"

#include <openssl/ssl.h>
#include <sys/socket.h>

enum { TARGET_WHY = 320 };

struct target {
    bool tls;
    int port;
    char host[256];
    char prefix[128];    /* of every path; "" or "/dev/aiwm" */
    char authority[272]; /* for the Host field */
    struct sockaddr_storage at;
    socklen_t at_len;
    SSL_CTX *ctx;     /* NULL: plain */
    unsigned sources; /* so many addresses of 127/8 take turns; 0: the kernel chooses */
    unsigned first;   /* of them, counted from 127.0.0.1 */
};

/* http[s]://host[:port][/prefix]. False with a sentence in `why`. */
bool target_parse(const char *url, struct target *out, char why[TARGET_WHY]);
/* Asks the name server; waits for it. */
bool target_resolve(struct target *t, char why[TARGET_WHY]);
/* Is it this machine? */
bool target_is_loopback(const struct target *t);
/* `ca_pem` empty: the system's authorities; `insecure`: any certificate will do. */
bool target_trust(struct target *t, struct span ca_pem, bool insecure, char why[TARGET_WHY]);
void target_release(struct target *t);

/* A socket that connects, from the source address of agent number `n`; -1 with errno. */
int target_socket(const struct target *t, size_t n);
