/* The operators' ports, on evhttp: trusted networks, small pages, no strangers (the data port has
 * a server of its own). Only this and operator_conns include event2/http.h in the gateway. */
#pragma once

#include "base/str.h"
#include "io/loop.h"

struct operator_port;
struct operator_request; /* valid while its page is made */

/* One page. */
struct operator_page {
    const char *method; /* "GET" (HEAD comes with it) or "POST"; NULL ends the table */
    const char *path;   /* exact, or with "/" and one more segment for a final "/:" */
    const char *content_type;
    /* The names a query may have, one space after each, such as "after limit "; another one, and
     * one that is given twice, is answered with 400 rather than overlooked. NULL: whatever is
     * there. */
    const char *parameters;
    /* Fills `body` (cleared) and returns the status. */
    int (*show)(void *arg, const struct operator_request *request, struct str *body);
};

struct operator_site {
    const struct operator_page *pages;
    void *arg;
    /* Asked first, for every request: 0, or the status with which it is refused, with `body` filled
     * as application/json. NULL: everybody may see everything. */
    int (*refuse)(void *arg, const struct operator_request *request, struct str *body);
};

/* Takes the listening socket; borrows the site. At most that many connections at a time
 * (io/operator_conns says who makes room). */
struct operator_port *operator_new(struct loop *loop, int listen_fd, size_t max_connections,
                                   const struct operator_site *site);
/* The loop has ended for good. NULL is fine. */
void operator_free(struct operator_port *port);

bool operator_is_post(const struct operator_request *r);
/* The segment that stands for "/:"; empty elsewhere. */
struct span operator_segment(const struct operator_request *r);
/* The value of a header field, or of a parameter of the query (decoded); ptr NULL: it is not there.
 */
struct span operator_field(const struct operator_request *r, const char *name);
struct span operator_parameter(const struct operator_request *r, const char *name);
