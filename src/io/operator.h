/* The operators' ports, on evhttp: trusted networks, small pages, no strangers (the data port has
 * a server of its own). The only file that includes event2/http.h in the gateway. */
#pragma once

#include "base/str.h"
#include "io/loop.h"

struct operator_port;

/* One page; GET and HEAD only. */
struct operator_page {
    const char *path; /* exact; a row with NULL ends the table */
    const char *content_type;
    /* Fills `body` (cleared) and returns the status. */
    int (*show)(void *arg, struct str *body);
};

/* Takes the listening socket. */
struct operator_port *operator_new(struct loop *loop, int listen_fd,
                                   const struct operator_page *pages, void *arg);
/* The loop has ended for good. NULL is fine. */
void operator_free(struct operator_port *port);
