/* One client's connection: private to the data port (server.c takes it in, conn.c keeps its life,
 * reading.c makes requests of its bytes, exchange.c writes its answers). */
#pragma once

#include "base/list.h"
#include "base/str.h"
#include "io/listener.h"
#include "io/proxied.h"
#include "io/server.h"

/* Absolute deadlines, milliseconds: a byte now and then does not move them. */
enum {
    PROXY_MS = 5000,
    HANDSHAKE_MS = 5000,
    HEAD_MS = 10000,
    BODY_MS = 30000,
    STALL_MS = 30000, /* since the peer last acknowledged anything of what waits for it */
    STALL_LOOK_MS = 5000,
    IDLE_MS = 80000, /* 5 s longer than we promise, so that the client closes first */
    LINGER_MS = 1000,
    PIPELINE_MS = 5000, /* so long a client that pipelines too much is not read; then see `drops` */
};

/* Pipelined bytes that wait behind a request in flight; above, the client is not read. */
enum { WAITING_MAX = 32768 };

enum conn_state {
    CONN_PROXY, /* a PROXY header is awaited; there is no stream yet */
    CONN_HANDSHAKE,
    CONN_IDLE,  /* nothing of the next request looked at; `in` may hold it */
    CONN_HEAD,  /* `in` holds a part of a head */
    CONN_BODY,  /* `in` holds a head and, unless chunked, a part of its body */
    CONN_BUSY,  /* serve has the exchange; `in` holds what was pipelined behind it */
    CONN_RAW,   /* upgraded: bytes pass both ways */
    CONN_LINGER /* the last answer is out; input is swallowed */
};

struct exchange {
    const struct exchange_watcher *watcher;
    void *watcher_arg;
    bool head_only;  /* HEAD: the answer's body is not sent */
    bool keep_alive; /* the connection goes on afterwards */
    bool http10;
    bool chunked;
    int64_t left; /* of the body, when its length is known: bytes that were not written yet */
    bool open;    /* on_end is owed */
    char *extra;  /* see exchange_add_fields; NULL: none */
    size_t extra_len;
    struct exchange_report report;
};

struct conn {
    struct stream stream;
    struct server *server;
    struct list link;
    struct list ready; /* in server->ready: pipelined bytes to go on with */
    enum conn_state state;
    bool in_request; /* inside on_request: the loop in reading_advance goes on by itself */
    bool ended;      /* the client has finished sending */
    bool cut;        /* to be reset in the loop's next turn */
    bool drops; /* what is pipelined is read and dropped, and the answer says that nothing follows:
                   of a client that is not read it is never seen that it has left */
    struct http_scan scan;
    struct http_chunks chunks;
    size_t head_len;  /* CONN_BODY: the head's length in `in`, its leading CRLF included */
    size_t body_want; /* CONN_BODY: Content-Length, 0 when chunked */
    bool body_chunked;
    size_t accounted; /* bytes of ours in limits->body_buffered */
    size_t pending;   /* bytes of the body that serve has */
    bool in_flight;   /* counted in limits->in_flight */
    bool vouched;
    struct list stranger; /* in server->strangers, unless vouched or being served */
    struct str in;
    struct str body; /* the chunked body so far */
    struct timer timer;
    int64_t timer_at_ms; /* 0: not running */
    int64_t deadline_ms; /* of the state; 0: none */
    int64_t look_ms;     /* when to see whether the peer takes what was written; 0: it has */
    int64_t took_ms;     /* when we last saw that it did */
    uint64_t delivered;  /* how much, then */
    struct address peer;
    struct proxied *proxied; /* CONN_PROXY: reads the header; else NULL */
    struct exchange x;
};

struct server {
    struct loop *loop;
    SSL_CTX *tls;
    struct server_limits *limits;
    const struct server_events *on;
    void *arg;
    struct listener *listener;
    bool draining;
    size_t count;
    struct list conns;
    struct list strangers; /* who waits longest first */
    struct list ready;     /* see conn_go_on */
    struct timer turn;
    struct http_request request;    /* of the exchange being handed to serve */
    struct str fields, answer_body; /* of refusals */
};

/* ---- conn.c: its life ---- */

/* Takes an accepted socket; the server has counted it. */
void conn_new(struct server *s, int fd, const struct address *peer);
/* The exchange's owner, if any, learns it; then everything is released. */
void conn_lost(struct conn *c);
/* The last answer is written: says goodbye, swallows what still comes, closes. */
void conn_linger(struct conn *c);
/* Draining: an idle connection may ask once more, within a second. */
void conn_last_chance(struct conn *c);
/* Resets the connection in the loop's next turn: the caller may be on its call stack. */
void conn_cut(struct conn *c);
/* deadline_ms 0: none. */
void conn_enter(struct conn *c, enum conn_state state, int64_t deadline_ms);
/* Call after writing: what waits for the peer has a deadline of its own, in every state. */
void conn_watch_stall(struct conn *c);
/* The exchange is over and the connection goes on: what was pipelined gets its turn from the loop,
 * never from inside the answer to another request. */
void conn_go_on(struct conn *c);
/* Brings the account of what is held of its requests up to date. */
void conn_account(struct conn *c);
/* The exchange begins to wait for serve, which has a body of that many bytes. */
void conn_pend(struct conn *c, size_t body_len);
/* It does not wait any more. Harmless when it never did. */
void conn_settle(struct conn *c);
/* For server->turn. */
void conn_turns(void *server);

/* ---- exchange.c: its answers ---- */

/* A request, or a refusal of one, begins; `received`: bytes of its body. */
void exchange_begin(struct conn *c, const struct http_request *request, size_t received);
/* Tells on_end, once. */
void exchange_tell_end(struct conn *c, enum exchange_end end);

/* ---- reading.c: from bytes to requests ---- */

/* Works on the bytes that wait in `in` and then on `bytes`; a whole request in one read is never
 * copied. */
void reading_advance(struct conn *c, struct span bytes);
/* From now on what is pipelined behind the request in flight is dropped. */
void reading_drop(struct conn *c);
/* The server's own answer, and the end of the connection. `request` may be NULL. */
void reading_refuse(struct conn *c, enum err error, const struct http_request *request);
