/* The controller, as one worker reaches it: an HTTP/1.1 client with a keep-alive pool.
 *
 * Idle connections are used again for less than the controller's Keep-Alive hint minus a second,
 * last used first; but an upgrade gets a connection of its own: on one that carried something
 * before, engine.io lets an upgrade that it does not serve hang instead of closing it. A call is
 * repeated, once, on a new connection when a reused one ended without giving a byte and the caller
 * allows it (the controller closed it while we wrote); at most one call in five. A name's addresses
 * are tried in turn, the last good one first. */
#pragma once

#include "base/err.h"
#include "base/span.h"
#include "io/loop.h"
#include "rules/wire/http.h"

#include <openssl/ssl.h>

struct upstream;
struct call; /* one request to the controller and its answer */

struct upstream_options {
    const char *host;
    int port;
    SSL_CTX *tls;                /* NULL: plain; referenced */
    int64_t connect_timeout_ms;  /* name, connection and handshake together */
    int64_t response_timeout_ms; /* to the head, and between two reads of the body */
    size_t max_connections;      /* busy and idle ones, those of predecessors included */
};

struct upstream *upstream_new(struct loop *loop, const struct upstream_options *options);
/* Cancels what is pending (on_done is called with ERR_CANCELLED). */
void upstream_free(struct upstream *u);

/* Takes the place of `former`, which it takes: calls there go on, no new ones begin, and it is
 * freed when the last has ended, or together with `u`. */
void upstream_succeed(struct upstream *u, struct upstream *former);

struct call_events {
    /* The head of the final answer (or of a 101), valid during the call. */
    void (*on_head)(void *arg, const struct http_response *head);
    /* Content, without its framing; after a 101 raw bytes. Valid during the call. */
    void (*on_body)(void *arg, struct span bytes);
    /* What was received so far has been told, and more is to come: a time to pass things on. May be
     * NULL. An answer that came whole in one read is told without it. */
    void (*on_turn)(void *arg);
    /* Exactly once, unless cancelled: ERR_OK at the end of the answer, or why there is none (or
     * why it is cut short: on_head was called before). The call is gone. */
    void (*on_done)(void *arg, enum err error);
    /* After a 101: everything written is with the kernel. May be NULL. */
    void (*on_drained)(void *arg);
};

struct call_request {
    struct span head; /* request line and all fields, framing and the empty line included; copied */
    struct span body; /* copied */
    bool head_only;   /* a HEAD request: its answer has no body */
    bool repeatable;  /* may be repeated on a new connection (see above) */
    bool upgrade;     /* a 101 is welcome */
    bool secret;      /* our copy is cleansed once it is not needed any more */
    bool is_probe;    /* may have a connection beyond max_connections: it says when they are free */
    bool is_whole;    /* timeout_ms is for the whole answer, however it comes */
    int64_t timeout_ms; /* for the head; 0: the upstream's response timeout */
};

/* Never NULL: trouble comes through on_done, from the loop. */
struct call *upstream_call(struct upstream *u, const struct call_request *request,
                           const struct call_events *on, void *arg);
/* Nobody is told; the connection is closed. */
void call_cancel(struct call *call);
/* Have its bytes been handed to a connection? Until then the controller cannot have seen it. */
bool call_was_sent(const struct call *call);
/* Backpressure. While paused no timeout runs. */
void call_pause(struct call *call);
void call_resume(struct call *call);
/* From within on_head: the body may be silent for as long as it likes. TCP keepalive finds a
 * controller that is gone (within two minutes, see stream_keep_alive). */
void call_lift_body_timeout(struct call *call);
/* After a 101. */
void call_write(struct call *call, struct span bytes);
size_t call_unsent(const struct call *call);

/* Connections that are not idle: calls pending, those with predecessors included. */
size_t upstream_busy(const struct upstream *u);
