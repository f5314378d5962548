/* The admin port: what operators look at and change, by curl or `aiwm-gateway ctl`.
 *
 *   GET   /state /config /agents /agents/<id> /explain?method=&path=
 *   POST  /purge?agent=|instruction=|deployment=|organization=|everything=yes
 *         /revoke?agent=   /drain   /reload   /log-level?level=
 *
 * Whatever changes something needs `Authorization: Bearer <admin.token>`; on an address that others
 * than this machine can reach, everything does. Host and Origin are checked: a page in somebody's
 * browser must not reach through to here (DNS rebinding). */
#pragma once

#include "app/page.h"
#include "app/reload.h"

struct admin;

struct admin_parts {
    size_t max_connections; /* at a time */
    struct shared *shared;
    const struct page_state *pages;
    struct reload *reload;
    void (*drain)(void *arg);
    void *arg;
};

/* Takes the listening socket; borrows what the parts point to. */
struct admin *admin_new(struct loop *loop, int listen_fd, const struct admin_parts *parts);
void admin_free(struct admin *a); /* NULL is fine */
