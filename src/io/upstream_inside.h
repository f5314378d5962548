/* What io/upstream*.c share: connections to the controller, and the calls on them. */
#pragma once

#include "base/list.h"
#include "io/resolve.h"
#include "io/stream.h"
#include "io/upstream.h"

enum link_state {
    LINK_RESOLVING,
    LINK_CONNECTING,
    LINK_HEAD, /* the request is out, the head of the answer is awaited */
    LINK_BODY,
    LINK_RAW, /* after a 101 */
    LINK_IDLE,
};

/* One connection to the controller. */
struct upstream_conn {
    struct stream stream;
    struct upstream *upstream;
    struct list link; /* in upstream->idle or ->busy */
    struct call *call;
    enum link_state state;
    bool used_before, got_bytes;
    bool was_refused;    /* by one of the addresses: not everything was our own shortage */
    bool pool_after;     /* the answer allows to use the connection again */
    int64_t idle_for_ms; /* from the Keep-Alive hint */
    int64_t idle_until_ms;
    size_t attempt; /* which of the name's addresses is tried, counted from the last good one */
    struct http_scan scan;
    struct http_chunks chunks;
    int interims; /* 1xx heads before this answer, in the second: */
    int64_t interims_s;
    bool chunked;
    int64_t left;  /* of Content-Length; -1: up to the close */
    struct str in; /* a part of a head */
    struct timer timer;
    enum err timeout_error;
};

struct call {
    struct upstream *upstream;
    struct upstream_conn *conn;
    const struct call_events *on;
    void *arg;
    struct str bytes; /* the whole request, until the answer begins */
    bool head_only, repeatable, upgrade, secret, is_probe, is_whole;
    bool sent, paused;
    bool is_untimed; /* the body has no deadline, see call_lift_body_timeout */
    int64_t timeout_ms;
};

struct upstream {
    struct loop *loop;
    struct upstream_options options;
    char *host;
    struct resolver *resolver;
    struct list idle; /* last used first */
    struct list busy;
    struct list dead;
    struct timer reaper;
    size_t idle_count, busy_count;
    size_t good_address;           /* the one that last accepted a connection */
    int retries;                   /* saved up, see RETRY_COST */
    struct http_response response; /* of the head being told */
    struct upstream *former;       /* whose last calls go on; owned */
    struct upstream *successor;    /* whose former this is: no new calls */
};

/* ---- upstream.c: connections, their pool, calls ---- */

/* The connection failed its call: once more on a new one, or told. Both may be gone afterwards. */
void upstream_conn_failed(struct upstream_conn *c, enum err error);
/* The answer is complete. The same holds. */
void upstream_answer_over(struct upstream_conn *c);
/* If nothing else stops or starts the clock, `error` is what comes of it. */
void upstream_watch_clock(struct upstream_conn *c, int64_t ms, enum err error);
/* More of the body is awaited: starts the clock again, unless its call is paused or untimed. */
void upstream_await_body(struct upstream_conn *c);
/* The request is not needed any more. */
void upstream_forget_bytes(struct call *call);

/* ---- upstream_answer.c: what the controller says ---- */

/* Bytes of any state of the connection; they may be overwritten. */
void upstream_take_bytes(struct upstream_conn *c, char *bytes, size_t len);
/* Is this end of the connection the end of an answer? */
bool upstream_ends_answer(const struct upstream_conn *c, enum stream_end end);
