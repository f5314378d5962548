#include "io/server.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/panic.h"
#include "io/listener.h"

#include <arpa/inet.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Absolute deadlines, milliseconds: a byte now and then does not move them. */
enum {
    HANDSHAKE_MS = 5000,
    HEAD_MS = 10000,
    BODY_MS = 30000,
    WRITE_STALL_MS = 30000, /* since the kernel last took anything */
    IDLE_MS = 80000,        /* 5 s longer than we promise, so that the client closes first */
    KEEP_ALIVE_S = 75,      /* Node's fetch keeps a connection over 60 s heartbeats */
    LINGER_MS = 1000,
};

/* Pipelined bytes that wait behind a request in flight; above, the client is not read. */
enum { WAITING_MAX = 32768 };

enum conn_state {
    CONN_HANDSHAKE,
    CONN_IDLE,  /* nothing of the next request seen */
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
};

struct conn {
    struct stream stream;
    struct server *server;
    struct list link;
    enum conn_state state;
    bool in_request; /* inside on_request: the loop in `advance` goes on by itself */
    struct http_scan scan;
    struct http_chunks chunks;
    size_t head_len;  /* CONN_BODY: the head's length in `in`, its leading CRLF included */
    size_t body_max;  /* CONN_BODY: what serve allows */
    size_t body_want; /* CONN_BODY: Content-Length, 0 when chunked */
    bool body_chunked;
    size_t accounted; /* bytes of ours in limits->body_buffered */
    struct str in;
    struct str body; /* the chunked body so far */
    struct timer timer;
    int64_t deadline_ms, timer_at_ms;
    bool stalled;      /* the deadline is for the peer to take what we wrote */
    size_t stalled_at; /* unsent bytes when that deadline was last moved */
    bool cut;
    struct sockaddr_in6 peer;
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
    struct http_request request;    /* of the exchange being handed to serve */
    struct str fields, answer_body; /* of refusals */
};

static void advance(struct conn *c, struct span bytes);

static struct conn *conn_of(const struct exchange *x) {
    return container_of((void *)(uintptr_t)x, struct conn, x);
}

/* ---- deadlines ---- */

/* One lazily re-armed timer: moving a deadline into the future costs nothing. */
static void set_deadline(struct conn *c, int64_t ms) {
    int64_t now = clock_mono_ms();
    c->deadline_ms = now + ms;
    if (c->timer_at_ms == 0 || c->timer_at_ms > c->deadline_ms) {
        c->timer_at_ms = c->deadline_ms;
        timer_start(&c->timer, ms);
    }
}

static void clear_deadline(struct conn *c) {
    c->deadline_ms = 0;
}

static void enter(struct conn *c, enum conn_state state, int64_t deadline_ms) {
    c->state = state;
    c->stalled = false;
    if (deadline_ms > 0)
        set_deadline(c, deadline_ms);
    else
        clear_deadline(c);
}

/* What was written waits for the peer: that has a deadline of its own, in every state. */
static void watch_stall(struct conn *c) {
    if (stream_unsent(&c->stream) == 0 || c->stalled)
        return;
    c->stalled = true;
    c->stalled_at = stream_unsent(&c->stream);
    set_deadline(c, WRITE_STALL_MS);
}

/* ---- the end of a connection ---- */

static void account(struct conn *c, size_t held) {
    if (held == c->accounted)
        return;
    atomic_fetch_add(&c->server->limits->body_buffered, (int64_t)held - (int64_t)c->accounted);
    c->accounted = held;
}

static void conn_free(struct conn *c) {
    struct server *s = c->server;
    account(c, 0);
    stream_close(&c->stream);
    timer_stop(&c->timer);
    str_release(&c->in);
    str_release(&c->body);
    list_remove(&c->link);
    s->count--;
    atomic_fetch_sub(&s->limits->connections, 1);
    metric_add(METRIC_CONNECTIONS, -1);
    free(c);
}

/* The exchange's owner learns it first; nobody else holds the connection. */
static void conn_lost(struct conn *c) {
    if ((c->state == CONN_BUSY || c->state == CONN_RAW) && c->x.watcher) {
        const struct exchange_watcher *watcher = c->x.watcher;
        void *arg = c->x.watcher_arg;
        c->x.watcher = NULL;
        metric_add(METRIC_CLIENTS_GONE, 1);
        watcher->on_gone(arg);
    }
    conn_free(c);
}

/* Closing at once would let the peer's unread bytes turn our last answer into a reset. */
static void linger(struct conn *c) {
    str_release(&c->in);
    str_release(&c->body);
    account(c, 0);
    stream_shutdown(&c->stream);
    stream_resume(&c->stream);
    enter(c, CONN_LINGER, LINGER_MS);
    watch_stall(c);
}

/* ---- answers ---- */

static void count_answer(int status) {
    if (status >= 200 && status < 600)
        metric_add(METRIC_ANSWERS_2XX + (enum metric)(status / 100 - 2), 1);
}

static bool has_body(const struct exchange *x, int status) {
    return !x->head_only && status != 204 && status != 304 && status >= 200;
}

/* Appends the status line and all fields to loop->text. content_length -1: not known. */
static void spell_head(struct conn *c, const struct answer *answer, int64_t content_length) {
    struct str *out = &c->server->loop->text;
    str_clear(out);
    STR_ADD(out, "HTTP/1.1 ");
    str_add_int(out, answer->status);
    str_add_char(out, ' ');
    str_add(out, span_of(http_reason(answer->status)));
    STR_ADD(out, "\r\n");
    str_add(out, answer->fields);
    if (!answer->has_date) {
        STR_ADD(out, "Date: ");
        str_add(out, loop_date(c->server->loop));
        STR_ADD(out, "\r\n");
    }
    if (c->x.chunked) {
        STR_ADD(out, "Transfer-Encoding: chunked\r\n");
    } else if (content_length >= 0 && answer->status != 204) {
        STR_ADD(out, "Content-Length: ");
        str_add_int(out, content_length);
        STR_ADD(out, "\r\n");
    }
    if (c->x.keep_alive)
        str_addf(out, "Connection: keep-alive\r\nKeep-Alive: timeout=%d\r\n\r\n", KEEP_ALIVE_S);
    else
        STR_ADD(out, "Connection: close\r\n\r\n");
    count_answer(answer->status);
}

/* The exchange is over: the next request, or the end. */
static void exchange_over(struct conn *c) {
    c->x.watcher = NULL;
    if (!c->x.keep_alive) {
        linger(c);
        return;
    }
    enter(c, CONN_IDLE, IDLE_MS);
    watch_stall(c);
    if (c->in_request)
        return; /* `advance` is on the stack and goes on */
    stream_resume(&c->stream);
    if (c->in.len > 0)
        advance(c, SPAN_NONE);
}

void exchange_answer(struct exchange *x, const struct answer *answer, struct span body) {
    struct conn *c = conn_of(x);
    enum { TOGETHER_MAX = 16384 }; /* one record; copying more costs more than a second one */
    struct str *text = &c->server->loop->text;
    x->keep_alive = x->keep_alive && !c->server->draining;
    spell_head(c, answer, (int64_t)body.len);
    struct span sent = has_body(x, answer->status) ? body : SPAN_NONE;
    if (text->len + sent.len <= TOGETHER_MAX) {
        str_add(text, sent);
        stream_write(&c->stream, &(struct span){text->ptr, text->len}, 1);
    } else {
        stream_write(&c->stream, (struct span[]){{text->ptr, text->len}, sent}, 2);
    }
    exchange_over(c);
}

enum { PIECES_MAX = 4 };

/* `bytes` in their framing, as pieces for one write; `line` holds the chunk's size. */
static size_t frame(const struct exchange *x, struct span bytes, char line[24],
                    struct span pieces[PIECES_MAX - 1]) {
    if (bytes.len == 0 || x->head_only)
        return 0;
    if (!x->chunked) {
        pieces[0] = bytes;
        return 1;
    }
    struct str size;
    str_init_fixed(&size, line, 24);
    str_addf(&size, "%zx\r\n", bytes.len);
    pieces[0] = str_span(&size);
    pieces[1] = bytes;
    pieces[2] = SPAN("\r\n");
    return 3;
}

void exchange_start(struct exchange *x, const struct answer *answer, int64_t content_length,
                    struct span first) {
    struct conn *c = conn_of(x);
    x->keep_alive = x->keep_alive && !c->server->draining;
    bool body_follows = has_body(x, answer->status);
    x->chunked = body_follows && content_length < 0 && !x->http10;
    if (body_follows && content_length < 0 && x->http10)
        x->keep_alive = false;
    spell_head(c, answer, content_length);
    x->head_only = !body_follows;
    char line[24];
    struct span pieces[PIECES_MAX] = {{c->server->loop->text.ptr, c->server->loop->text.len}};
    size_t count = 1 + frame(x, first, line, pieces + 1);
    stream_write(&c->stream, pieces, count);
    watch_stall(c);
}

void exchange_write(struct exchange *x, struct span bytes) {
    struct conn *c = conn_of(x);
    char line[24];
    struct span pieces[PIECES_MAX];
    size_t count = frame(x, bytes, line, pieces);
    if (count > 0)
        stream_write(&c->stream, pieces, count);
    watch_stall(c);
}

void exchange_finish(struct exchange *x) {
    struct conn *c = conn_of(x);
    if (x->chunked)
        stream_write(&c->stream, &SPAN("0\r\n\r\n"), 1);
    exchange_over(c);
}

void exchange_cut(struct exchange *x) {
    struct conn *c = conn_of(x);
    x->watcher = NULL;
    /* A reset, so that a close-delimited part is not taken for the whole. The loop frees it: we
     * may be on the connection's own call stack. */
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(c->stream.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    c->cut = true;
    c->state = CONN_LINGER;
    str_release(&c->in);
    set_deadline(c, 0);
}

size_t exchange_unsent(const struct exchange *x) {
    return stream_unsent(&conn_of(x)->stream);
}

void exchange_watch(struct exchange *x, const struct exchange_watcher *watcher, void *arg) {
    x->watcher = watcher;
    x->watcher_arg = arg;
}

void exchange_upgrade(struct exchange *x, struct span fields) {
    struct conn *c = conn_of(x);
    struct str *text = &c->server->loop->text;
    str_clear(text);
    STR_ADD(text, "HTTP/1.1 101 Switching Protocols\r\n");
    str_add(text, fields);
    STR_ADD(text, "\r\n");
    stream_write(&c->stream, &(struct span){text->ptr, text->len}, 1);
    x->keep_alive = false;
    enter(c, CONN_RAW, 0);
    watch_stall(c);
    if (c->in.len > 0) {
        struct str early = c->in;
        str_init(&c->in, c->in.max);
        x->watcher->on_bytes(x->watcher_arg, str_span(&early));
        str_release(&early);
    }
    stream_resume(&c->stream);
}

void exchange_pause(struct exchange *x) {
    stream_pause(&conn_of(x)->stream);
}

void exchange_resume(struct exchange *x) {
    stream_resume(&conn_of(x)->stream);
}

void exchange_peer(const struct exchange *x, char out[EXCHANGE_PEER]) {
    const struct sockaddr_in6 *peer = &conn_of(x)->peer;
    const void *raw = &peer->sin6_addr;
    if (peer->sin6_family == AF_INET)
        raw = &((const struct sockaddr_in *)(const void *)peer)->sin_addr;
    if (!inet_ntop(peer->sin6_family, raw, out, EXCHANGE_PEER))
        out[0] = '\0';
}

bool exchange_is_tls(const struct exchange *x) {
    return conn_of(x)->stream.ssl != NULL;
}

/* ---- from bytes to requests ---- */

/* What a step made of the bytes it was given. */
struct progress {
    size_t used; /* done with, from the front */
    bool more;   /* the rest waits for bytes that have not come */
    size_t keep; /* then: how much of the rest still matters */
};

static void refuse(struct conn *c, enum err error, const struct http_request *request) {
    struct server *s = c->server;
    metric_add(METRIC_REQUESTS_MALFORMED, 1);
    str_clear(&s->fields);
    str_clear(&s->answer_body);
    s->on->on_refusal(s->arg, error, request, &s->fields, &s->answer_body);
    c->x = (struct exchange){.head_only = request && request->method == HTTP_HEAD};
    enter(c, CONN_BUSY, 0);
    exchange_answer(&c->x, &(struct answer){err_row(error)->status, str_span(&s->fields), false},
                    str_span(&s->answer_body));
}

static void dispatch(struct conn *c, const struct http_request *request, struct span body) {
    struct server *s = c->server;
    c->x = (struct exchange){.head_only = request->method == HTTP_HEAD,
                             .keep_alive = request->keep_alive,
                             .http10 = request->minor == 0};
    enter(c, CONN_BUSY, 0);
    c->in_request = true;
    s->on->on_request(s->arg, &c->x, request, body);
    c->in_request = false;
}

/* The head's bytes without the empty line that may precede them. */
static struct span head_of(const struct conn *c, struct span bytes, size_t head_len) {
    return (struct span){bytes.ptr + c->scan.start, head_len - c->scan.start};
}

static struct progress request_done(struct conn *c, size_t used) {
    c->scan = (struct http_scan){0};
    c->head_len = 0;
    str_release(&c->body);
    account(c, 0);
    return (struct progress){.used = used};
}

static bool too_much_buffered(const struct conn *c) {
    const struct server_limits *l = c->server->limits;
    return atomic_load_explicit(&l->body_buffered, memory_order_relaxed) >
           (int64_t)l->max_body_buffered;
}

/* Decodes what is new; all of `bytes` is consumed unless the body ends in it. */
static size_t take_chunks(struct conn *c, struct span bytes, bool *done) {
    size_t at = 0;
    *done = false;
    while (at < bytes.len) {
        struct span data;
        size_t used = 0;
        enum http_step step = http_chunks_next(&c->chunks, span_from(bytes, at), &used, &data);
        at += used;
        if (step == HTTP_BAD) {
            refuse(c, ERR_BAD_CHUNK, NULL);
            return at;
        }
        str_add(&c->body, data);
        if (c->body.overflow) {
            refuse(c, ERR_BODY_TOO_LARGE, NULL);
            return at;
        }
        if (step == HTTP_DONE) {
            *done = true;
            break;
        }
        if (used == 0)
            break;
    }
    account(c, c->body.len);
    if (!*done && too_much_buffered(c))
        refuse(c, ERR_OVERLOADED, NULL);
    return at;
}

/* A head has just been completed: judge it, decide how its body comes. Returns false when it was
 * refused. */
static bool begin_request(struct conn *c, struct span bytes, size_t head_len) {
    struct server *s = c->server;
    struct http_request *request = &s->request;
    enum err error = http_request_parse(head_of(c, bytes, head_len), request);
    if (error != ERR_OK) {
        refuse(c, error, NULL);
        return false;
    }
    struct server_verdict verdict = s->on->on_head(s->arg, request);
    if (verdict.error == ERR_OK && request->content_length > (int64_t)verdict.max_body)
        verdict.error = ERR_BODY_TOO_LARGE;
    if (verdict.error != ERR_OK) {
        refuse(c, verdict.error, request);
        return false;
    }
    c->head_len = head_len;
    c->body_max = verdict.max_body;
    c->body_chunked = request->chunked;
    c->body_want = request->chunked ? 0 : (size_t)request->content_length;
    c->chunks = (struct http_chunks){0};
    str_init(&c->body, verdict.max_body);
    return true;
}

static void await_body(struct conn *c) {
    if (c->state == CONN_BODY)
        return;
    if (c->server->request.expect_continue)
        stream_write(&c->stream, &SPAN("HTTP/1.1 100 Continue\r\n\r\n"), 1);
    enter(c, CONN_BODY, BODY_MS);
}

/* The head again: it was parsed from bytes that have moved since. */
static const struct http_request *reparse(struct conn *c, struct span bytes) {
    struct http_request *request = &c->server->request;
    invariant(http_request_parse(head_of(c, bytes, c->head_len), request) == ERR_OK);
    return request;
}

/* The head stays at the front of `bytes`; the chunks behind it are consumed as they come. */
static struct progress continue_chunked(struct conn *c, struct span bytes) {
    bool done;
    size_t used = take_chunks(c, span_from(bytes, c->head_len), &done);
    if (c->state == CONN_LINGER)
        return (struct progress){0};
    if (!done) {
        await_body(c);
        return (struct progress){.more = true, .keep = c->head_len};
    }
    const struct http_request *request = reparse(c, bytes);
    size_t total = c->head_len + used;
    dispatch(c, request, str_span(&c->body));
    return request_done(c, total);
}

static struct progress continue_whole(struct conn *c, struct span bytes) {
    size_t total = c->head_len + c->body_want;
    if (bytes.len < total) {
        await_body(c);
        account(c, bytes.len - c->head_len);
        if (too_much_buffered(c))
            refuse(c, ERR_OVERLOADED, NULL);
        return (struct progress){.more = true, .keep = bytes.len};
    }
    struct span body = {bytes.ptr + c->head_len, c->body_want};
    const struct http_request *request =
        c->state == CONN_BODY ? reparse(c, bytes) : &c->server->request;
    dispatch(c, request, body);
    return request_done(c, total);
}

static struct progress await_head(struct conn *c, struct span bytes) {
    if (c->state == CONN_IDLE)
        enter(c, CONN_HEAD, HEAD_MS);
    return (struct progress){.more = true, .keep = bytes.len};
}

/* As much of a request as is there. */
static struct progress step(struct conn *c, struct span bytes) {
    if (c->head_len == 0) {
        size_t head_len = 0;
        enum err error = ERR_OK;
        enum http_step found = http_scan(&c->scan, bytes, &head_len, &error);
        if (found == HTTP_MORE)
            return await_head(c, bytes);
        if (found == HTTP_BAD) {
            refuse(c, error, NULL);
            return (struct progress){0};
        }
        if (!begin_request(c, bytes, head_len))
            return (struct progress){0};
    }
    return c->body_chunked ? continue_chunked(c, bytes) : continue_whole(c, bytes);
}

static bool wants_bytes(const struct conn *c) {
    return c->state == CONN_IDLE || c->state == CONN_HEAD || c->state == CONN_BODY;
}

/* Works on the bytes that wait in `in`, or directly on `bytes` when nothing waits there: a whole
 * request in one read is never copied. */
static void advance(struct conn *c, struct span bytes) {
    bool from_in = c->in.len > 0;
    if (from_in)
        str_add(&c->in, bytes);
    struct span rest = from_in ? str_span(&c->in) : bytes;
    for (struct progress p = {0}; rest.len > 0 && wants_bytes(c) && !p.more;) {
        p = step(c, rest);
        rest = span_from(rest, p.used);
        if (p.more)
            rest.len = p.keep;
    }
    if (c->state == CONN_LINGER)
        return; /* `in` is gone, and `rest` with it */
    if (!from_in)
        str_add(&c->in, rest);
    else if (rest.len > 0)
        memmove(c->in.ptr, rest.ptr, c->in.len = rest.len);
    else
        str_release(&c->in);
    if (c->state == CONN_BUSY && c->in.len > WAITING_MAX)
        stream_pause(&c->stream);
}

/* ---- what the stream tells ---- */

static void on_ready(void *arg) {
    struct conn *c = arg;
    metric_add(stream_resumed(&c->stream) ? METRIC_TLS_RESUMED : METRIC_TLS_FULL, 1);
    enter(c, CONN_IDLE, IDLE_MS);
}

static void on_bytes(void *arg, char *bytes, size_t len) {
    struct conn *c = arg;
    struct span got = {bytes, len};
    if (c->state == CONN_LINGER)
        return;
    if (c->state == CONN_RAW) {
        c->x.watcher->on_bytes(c->x.watcher_arg, got);
        return;
    }
    if (c->state == CONN_BUSY) {
        str_add(&c->in, got);
        if (c->in.len > WAITING_MAX)
            stream_pause(&c->stream);
        return;
    }
    advance(c, got);
}

static void on_drained(void *arg) {
    struct conn *c = arg;
    c->stalled = false;
    clear_deadline(c);
    if (c->state == CONN_IDLE)
        set_deadline(c, IDLE_MS);
    else if (c->state == CONN_LINGER)
        set_deadline(c, LINGER_MS);
    else if (c->state != CONN_BUSY && c->state != CONN_RAW)
        set_deadline(c, HEAD_MS);
    else if (c->x.watcher && c->x.watcher->on_drained)
        c->x.watcher->on_drained(c->x.watcher_arg);
}

static void on_closed(void *arg, enum stream_end end) {
    struct conn *c = arg;
    if (end == STREAM_TLS_FAILED && c->state == CONN_HANDSHAKE)
        metric_add(METRIC_TLS_FAILED, 1);
    /* A client that has only finished sending still gets the answer that is under way. */
    bool answered = c->state == CONN_IDLE || c->state == CONN_LINGER;
    if (end == STREAM_EOF && answered && stream_unsent(&c->stream) > 0)
        linger(c);
    else
        conn_lost(c);
}

static const struct stream_events conn_events = {on_ready, on_bytes, on_drained, on_closed};

/* Did the peer take some of the answer since the deadline was set? */
static bool still_sending(struct conn *c) {
    size_t unsent = stream_unsent(&c->stream);
    if (!c->stalled || unsent >= c->stalled_at)
        return false;
    c->stalled_at = unsent;
    set_deadline(c, WRITE_STALL_MS);
    return true;
}

static void on_deadline(struct conn *c) {
    if (!c->cut && still_sending(c))
        return;
    bool reading = stream_unsent(&c->stream) == 0;
    if (reading && (c->state == CONN_HEAD || c->state == CONN_BODY))
        refuse(c, ERR_REQUEST_TIMEOUT, NULL);
    else if (reading && c->state == CONN_IDLE)
        linger(c);
    else
        conn_lost(c);
}

static void on_timer(void *arg) {
    struct conn *c = arg;
    c->timer_at_ms = 0;
    if (c->deadline_ms == 0)
        return;
    int64_t left = c->deadline_ms - clock_mono_ms();
    if (left > 0) {
        c->timer_at_ms = c->deadline_ms;
        timer_start(&c->timer, left);
        return;
    }
    on_deadline(c);
}

/* ---- the server ---- */

/* Over the limit nothing is spent on the client, a TLS handshake least of all. */
static bool admit(struct server *s) {
    int64_t open = atomic_fetch_add(&s->limits->connections, 1) + 1;
    if (open <= s->limits->max_connections)
        return true;
    atomic_fetch_sub(&s->limits->connections, 1);
    metric_add(METRIC_REFUSED_LIMIT, 1);
    return false;
}

static void on_accept(void *arg, int fd, const struct sockaddr *peer, socklen_t peer_len) {
    struct server *s = arg;
    if (!admit(s)) {
        close(fd);
        return;
    }
    struct conn *c = must_zalloc(sizeof *c);
    c->server = s;
    if (peer_len <= sizeof c->peer)
        memcpy(&c->peer, peer, peer_len);
    enum { IN_MAX = HTTP_HEAD_MAX + (64 << 20) + LOOP_SCRATCH + WAITING_MAX };
    str_init(&c->in, IN_MAX);
    timer_init(&c->timer, s->loop, on_timer, c);
    list_push_back(&s->conns, &c->link);
    s->count++;
    metric_add(METRIC_CONNECTIONS, 1);
    metric_add(METRIC_CONNECTIONS_ACCEPTED, 1);
    stream_accept(&c->stream, s->loop, fd, s->tls, &conn_events, c);
    if (s->tls)
        enter(c, CONN_HANDSHAKE, HANDSHAKE_MS);
    else
        enter(c, CONN_IDLE, IDLE_MS);
}

struct server *server_new(struct loop *loop, SSL_CTX *tls, struct server_limits *limits,
                          const struct server_events *on, void *arg) {
    struct server *s = must_zalloc(sizeof *s);
    *s = (struct server){.loop = loop, .tls = tls, .limits = limits, .on = on, .arg = arg};
    if (tls)
        SSL_CTX_up_ref(tls);
    list_init(&s->conns);
    enum { REFUSAL_MAX = 4 * HTTP_HEAD_MAX };
    str_init(&s->fields, REFUSAL_MAX);
    str_init(&s->answer_body, REFUSAL_MAX);
    return s;
}

void server_listen(struct server *s, int listen_fd) {
    s->listener = listener_new(s->loop, listen_fd, on_accept, s);
}

void server_drain(struct server *s) {
    if (s->draining)
        return;
    s->draining = true;
    listener_free(s->listener);
    s->listener = NULL;
    list_each_safe (at, &s->conns) {
        struct conn *c = container_of(at, struct conn, link);
        if (c->state == CONN_IDLE)
            linger(c);
    }
}

size_t server_connections(const struct server *s) {
    return s->count;
}

void server_free(struct server *s) {
    listener_free(s->listener);
    list_each_safe (at, &s->conns)
        conn_lost(container_of(at, struct conn, link));
    SSL_CTX_free(s->tls);
    str_release(&s->fields);
    str_release(&s->answer_body);
    free(s);
}
