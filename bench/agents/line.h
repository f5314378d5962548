/* An agent's connection: HTTP/1.1, one call at a time, kept or made anew for each.
 *
 * Answers are judged by rules/wire/http. The server's Keep-Alive hint is obeyed: a connection idle
 * for longer is not used again. A TLS session is kept for the next connection when that is wanted.
 */
#pragma once

#include "agents/target.h"
#include "io/stream.h"
#include "rules/wire/http.h"

enum line_fault {
    LINE_REFUSED,   /* no connection, or a reset */
    LINE_CLOSED,    /* ended without an answer */
    LINE_TLS,       /* handshake or certificate */
    LINE_BAD,       /* the answer is not HTTP, or over LINE_ANSWER_MAX */
    LINE_RESOURCES, /* no socket or no port left on our side */
};

enum { LINE_ANSWER_MAX = 1 << 20 };

/* No call on the line may be made in these, except line_write in on_ready. */
struct line_events {
    /* A new connection can be written to. */
    void (*on_ready)(void *arg);
    /* The whole answer; both borrow and are gone afterwards. */
    void (*on_answer)(void *arg, const struct http_response *response, struct span body);
    /* There will be no answer; the line is closed. */
    void (*on_failed)(void *arg, enum line_fault fault);
};

/* What all lines of a fleet share. */
struct line_setup {
    struct loop *loop;
    const struct target *target;
    const struct line_events *on;
    bool keep;   /* the connection, for the next call */
    bool resume; /* the TLS session */
    size_t open; /* connections now */
};

struct line {
    struct line_setup *setup;
    void *arg;
    struct stream stream;
    SSL_SESSION *session;
    char *in; /* an answer that came in pieces */
    uint32_t in_len, in_cap;
    struct http_scan scan;
    int64_t idle_until_us;
    bool open, waiting; /* waiting: for an answer */
};

void line_init(struct line *l, struct line_setup *setup, void *arg);

enum line_state {
    LINE_READY,   /* write now */
    LINE_OPENING, /* on_ready or on_failed will come */
    LINE_NONE,    /* nothing to be had: LINE_RESOURCES */
};
/* Before each call: `n` is the agent's number. */
enum line_state line_prepare(struct line *l, size_t n, int64_t now_us);
/* Sends a request; an answer is awaited from now on. */
void line_write(struct line *l, const struct span *pieces, size_t count);
/* A piece of a request, for slow clients: an answer may come any time. */
void line_drip(struct line *l, struct span bytes);
/* Nobody is told. Idempotent. */
void line_close(struct line *l);
/* line_close, and the session is forgotten. */
void line_release(struct line *l);
