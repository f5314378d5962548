/* The data port: a strict HTTP/1.1 server for strangers (evhttp serves only the operators' ports;
 * docs/design.md says why). One per worker.
 *
 * A connection's life:
 *
 *   (PROXY header, where listen.proxy_protocol says so, then)
 *   handshake --> idle --> head --> body --> busy --> idle ...      (keep-alive)
 *       |          |        |        |         |
 *       |          |        |        |         +--> linger --> closed   (last answer)
 *       +----------+--------+--------+-------------> closed        (deadline, client gone)
 *
 * One request is in flight per connection; pipelined ones wait, in order, in a bounded buffer.
 * Bytes are judged by rules/wire/http before anything else sees them. Every state has a deadline.
 */
#pragma once

#include "base/err.h"
#include "base/span.h"
#include "io/loop.h"
#include "io/stream.h"
#include "rules/wire/address.h"
#include "rules/wire/http.h"

#include <openssl/ssl.h>

struct server;
struct exchange; /* one request and its answer */

enum exchange_end {
    EXCHANGE_ANSWERED, /* all of it was written */
    EXCHANGE_CUT,      /* a part of it: see exchange_cut */
    EXCHANGE_LEFT,     /* the client has left, or was slow beyond bearing */
};

/* What became of an exchange. */
struct exchange_report {
    enum exchange_end end;
    int kind;     /* as exchange_tag gave them */
    void *record; /* likewise */
    int status;   /* 0: nothing was answered */
    /* Monotonic microseconds: when the request was there as a whole, and when the head of its
     * answer was written (0: never). */
    int64_t began_us, answered_us;
    /* Bytes of bodies, without framing; of an upgraded exchange, what passed. */
    int64_t received, sent;
};

/* What a request gets before its body is read. */
struct server_verdict {
    enum err error;  /* ERR_OK: go on; else it is refused with this, and the connection closed */
    size_t max_body; /* bytes; a longer body is refused with 413 */
};

struct server_events {
    /* A head is complete. The request is valid during the call. */
    struct server_verdict (*on_head)(void *arg, const struct http_request *request);
    /* The same head, in other memory: its body had to be waited for, and other heads may have come
     * between. Right before its on_request. */
    void (*on_head_again)(void *arg, const struct http_request *request);
    /* Head and body are complete, both valid until the exchange is answered or the call returns,
     * whichever comes first: copy what you keep. The exchange lives until it is answered
     * (exchange_answer, _finish, _cut) or its client is gone (exchange_watch). */
    void (*on_request)(void *arg, struct exchange *x, const struct http_request *request,
                       struct span body);
    /* The server itself refuses: builds the body of the answer. `request` may be NULL (no valid
     * head). `fields` and `body` are cleared builders. The exchange is answered right after. */
    void (*on_refusal)(void *arg, struct exchange *x, enum err error,
                       const struct http_request *request, struct str *fields, struct str *body);
    /* The last thing that is heard of an exchange, once for each on_request and on_refusal. Those
     * who know its bytes may be on the call stack: nothing may be answered or cut here. */
    void (*on_end)(void *arg, struct exchange *x, const struct exchange_report *report);
};

/* Shared by the servers of all workers; numbers and addresses are set before the first. */
struct server_limits {
    int64_t max_connections;
    /* Bytes of requests that are still being received, or wait for their answer, all together.
     * Above, those still coming are refused. */
    size_t max_body_buffered;
    struct networks trusted_proxies;
    bool proxy_protocol; /* connections begin with a PROXY header; from trusted_proxies, if any */
    _Atomic int64_t connections;
    _Atomic int64_t body_buffered;
    _Atomic int64_t vouched;   /* connections of those we know */
    _Atomic int64_t in_flight; /* requests that serve has not answered at once */
};

struct server *server_new(struct loop *loop, SSL_CTX *tls /* NULL: plain; referenced */,
                          struct server_limits *limits, const struct server_events *on, void *arg);
/* Serves this listening socket from now on (takes it). */
void server_listen(struct server *s, int listen_fd);
/* Connections accepted from now on use this certificate; referenced. Only where there was TLS. */
void server_set_tls(struct server *s, SSL_CTX *tls);
/* No new connections; answers say Connection: close. Idle connections are given a second to ask
 * once more and be told so (a request that is on its way would be lost), then closed. */
void server_drain(struct server *s);
/* Connections still open. */
size_t server_connections(const struct server *s);
/* Cuts everything. */
void server_free(struct server *s);

/* ---- answers ---- */

/* `fields` are whole lines ("Name: value\r\n") without framing; Content-Length, Connection,
 * Keep-Alive and (unless it stands there: has_date) Date are added here. */
struct answer {
    int status;
    struct span fields;
    bool has_date;
};

/* The whole answer in one write. The exchange is over. */
void exchange_answer(struct exchange *x, const struct answer *answer, struct span body);

/* An answer in pieces; `first` (may be empty) goes out with its head, in one write.
 * content_length -1: unknown (chunked, or up to the close for HTTP/1.0).
 * After _start: any number of _write, then _finish, or _cut when the rest will never come (the
 * connection is reset, so that nobody takes a part for the whole). */
void exchange_start(struct exchange *x, const struct answer *answer, int64_t content_length,
                    struct span first);
void exchange_write(struct exchange *x, struct span bytes);
void exchange_finish(struct exchange *x);
void exchange_cut(struct exchange *x);
/* Bytes written but not taken by the kernel yet: the producer pauses above EXCHANGE_HIGH and goes
 * on when told on_drained. */
enum { EXCHANGE_HIGH = 65536 };
size_t exchange_unsent(const struct exchange *x);

struct exchange_watcher {
    /* The client is gone; the exchange must not be touched any more. */
    void (*on_gone)(void *arg);
    /* Everything written is with the kernel. May be NULL. */
    void (*on_drained)(void *arg);
    /* After exchange_upgrade only: bytes from the client, valid during the call. */
    void (*on_bytes)(void *arg, struct span bytes);
};

/* Who is told while the exchange is pending. Replaces the former watcher. */
void exchange_watch(struct exchange *x, const struct exchange_watcher *watcher, void *arg);

/* Switches protocols: sends the 101 and from then on passes raw bytes both ways (on_bytes,
 * exchange_write). Ends with _finish or _cut. `fields` must hold Connection and Upgrade. False: of
 * what the client has sent ahead some was dropped, and nothing is sent: cut it. */
bool exchange_upgrade(struct exchange *x, struct span fields);
/* Stops and restarts on_bytes: backpressure for upgraded connections. */
void exchange_pause(struct exchange *x);
void exchange_resume(struct exchange *x);

/* The answer may be silent for long: TCP keepalive finds a client that is gone (within two minutes,
 * see stream_keep_alive). */
void exchange_keep_alive(struct exchange *x);

/* Whole lines that the answer will carry, whoever gives it (but for a switch of protocols). Copied;
 * instead of those given before. */
void exchange_add_fields(struct exchange *x, struct span fields);

/* Whoever sent this is somebody we know: the connection is no stranger's any more. Where
 * max_connections are open, a newcomer takes the place of the stranger who waits longest (of those
 * that are not being served), so that a flood of connections makes room for agents by itself. */
void exchange_vouch(struct exchange *x);

/* `kind` (-1 until it is told) and `record` come back with on_end: whose they are, and what they
 * mean, is the caller's business. */
void exchange_tag(struct exchange *x, int kind, void *record);
/* The record; NULL: none. */
void *exchange_record(const struct exchange *x);

/* Who has connected, or on whose behalf a PROXY header says it was done. Valid like the exchange.
 */
const struct address *exchange_peer(const struct exchange *x);
bool exchange_is_tls(const struct exchange *x);
/* "TLSv1.3", NULL without TLS; and whether the session was resumed. */
const char *exchange_tls_version(const struct exchange *x);
bool exchange_tls_resumed(const struct exchange *x);
