/* From bytes to requests:
 *
 *   step: http_scan finds the head -> begin_request judges it -> continue_whole, continue_chunked
 *         ... until the body is there -> dispatch: serve has it -> request_done
 *
 * `in` keeps what an unfinished request still needs, from its first byte; chunks are decoded as
 * they come, into `body`. */
#include "io/conn.h"

#include "base/metric.h"
#include "base/panic.h"

#include <stdatomic.h>

/* What a step made of the bytes it was given. */
struct progress {
    size_t used; /* done with, from the front */
    bool more;   /* the rest waits for bytes that have not come */
    size_t keep; /* then: how much of the rest still matters */
};

void reading_refuse(struct conn *c, enum err error, const struct http_request *request) {
    struct server *s = c->server;
    metric_add(METRIC_REQUESTS_MALFORMED, 1);
    str_clear(&s->fields);
    str_clear(&s->answer_body);
    exchange_begin(c, request, 0);
    s->on->on_refusal(s->arg, &c->x, error, request, &s->fields, &s->answer_body);
    conn_enter(c, CONN_BUSY, 0);
    exchange_answer(&c->x, &(struct answer){err_row(error)->status, str_span(&s->fields), false},
                    str_span(&s->answer_body));
}

static void dispatch(struct conn *c, const struct http_request *request, struct span body) {
    struct server *s = c->server;
    exchange_begin(c, request, body.len);
    c->x.keep_alive = request->keep_alive;
    conn_enter(c, CONN_BUSY, 0);
    c->in_request = true;
    s->on->on_request(s->arg, &c->x, request, body);
    c->in_request = false;
    if (c->state == CONN_BUSY || c->state == CONN_RAW)
        conn_pend(c, body.len);
}

/* The head's bytes without the empty line that may precede them. */
static struct span head_of(const struct conn *c, struct span bytes, size_t head_len) {
    return (struct span){bytes.ptr + c->scan.start, head_len - c->scan.start};
}

static struct progress request_done(struct conn *c, size_t used) {
    c->scan = (struct http_scan){0};
    c->head_len = 0;
    str_release(&c->body);
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
            reading_refuse(c, ERR_BAD_CHUNK, NULL);
            return at;
        }
        str_add(&c->body, data);
        if (c->body.overflow) {
            reading_refuse(c, ERR_BODY_TOO_LARGE, NULL);
            return at;
        }
        if (step == HTTP_DONE) {
            *done = true;
            break;
        }
        if (used == 0)
            break;
    }
    return at;
}

/* A head has just been completed: judge it, decide how its body comes. Returns false when it was
 * refused. */
static bool begin_request(struct conn *c, struct span bytes, size_t head_len) {
    struct server *s = c->server;
    struct http_request *request = &s->request;
    enum err error = http_request_parse(head_of(c, bytes, head_len), request);
    if (error != ERR_OK) {
        reading_refuse(c, error, NULL);
        return false;
    }
    struct server_verdict verdict = s->on->on_head(s->arg, request);
    if (verdict.error == ERR_OK && request->content_length > (int64_t)verdict.max_body)
        verdict.error = ERR_BODY_TOO_LARGE;
    if (verdict.error != ERR_OK) {
        reading_refuse(c, verdict.error, request);
        return false;
    }
    c->head_len = head_len;
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
    conn_enter(c, CONN_BODY, BODY_MS);
}

/* The head again: it was parsed from bytes that have moved since, and others have come between. */
static const struct http_request *reparse(struct conn *c, struct span bytes) {
    struct http_request *request = &c->server->request;
    invariant(http_request_parse(head_of(c, bytes, c->head_len), request) == ERR_OK);
    c->server->on->on_head_again(c->server->arg, request);
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
        conn_enter(c, CONN_HEAD, HEAD_MS);
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
            reading_refuse(c, error, NULL);
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

/* Is there a reason not to begin with another request? A client that asks and asks and does not
 * read its answers must wait until it has. */
static bool is_crowded(const struct conn *c) {
    return c->state == CONN_IDLE && stream_unsent(&c->stream) > EXCHANGE_HIGH;
}

/* Keeps `rest`, which points into `in` (from_in) or at bytes that are not ours. */
static void keep(struct conn *c, struct span rest, bool from_in) {
    if (!from_in)
        str_add(&c->in, rest);
    else if (rest.len > 0)
        memmove(c->in.ptr, rest.ptr, c->in.len = rest.len);
    else
        str_release(&c->in);
}

/* There is no room for what this one sends. Has it ended? */
static bool give_up(struct conn *c) {
    if (c->state == CONN_HEAD || c->state == CONN_BODY) {
        reading_refuse(c, ERR_OVERLOADED, NULL);
        return true;
    }
    if (c->state == CONN_BUSY)
        reading_drop(c);
    return false;
}

void reading_drop(struct conn *c) {
    c->drops = true;
    c->x.keep_alive = false;
    str_release(&c->in);
    conn_account(c);
    stream_resume(&c->stream);
}

void reading_advance(struct conn *c, struct span bytes) {
    bool from_in = c->in.len > 0;
    if (from_in)
        str_add(&c->in, bytes);
    struct span rest = from_in ? str_span(&c->in) : bytes;
    for (struct progress p = {0}; rest.len > 0 && wants_bytes(c) && !is_crowded(c) && !p.more;) {
        p = step(c, rest);
        rest = span_from(rest, p.used);
        if (p.more)
            rest.len = p.keep;
    }
    if (c->state == CONN_LINGER)
        return; /* `in` is gone, and `rest` with it */
    keep(c, rest, from_in);
    conn_account(c);
    if (too_much_buffered(c) && c->in.len + c->body.len > 0 && give_up(c))
        return;
    bool is_too_much = c->state == CONN_BUSY && c->in.len > WAITING_MAX;
    if (is_too_much)
        conn_enter(c, CONN_BUSY, PIPELINE_MS);
    if (is_crowded(c) || is_too_much)
        stream_pause(&c->stream);
}
