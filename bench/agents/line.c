#include "agents/line.h"

#include "base/clock.h"
#include "base/panic.h"

#include <stdlib.h>

static const struct stream_events stream_events;

void line_init(struct line *l, struct line_setup *setup, void *arg) {
    *l = (struct line){.setup = setup, .arg = arg, .stream = {.fd = -1}};
}

/* ---- ends ---- */

static void forget_input(struct line *l) {
    free(l->in);
    l->in = NULL;
    l->in_len = l->in_cap = 0;
    l->scan = (struct http_scan){0};
}

/* TLS 1.3 sends its ticket after the handshake: it is there once an answer is. */
static void keep_session(struct line *l) {
    if (!l->setup->resume || !l->stream.ssl || l->stream.handshaking)
        return;
    SSL_SESSION *session = SSL_get1_session(l->stream.ssl);
    if (session && SSL_SESSION_is_resumable(session)) {
        SSL_SESSION_free(l->session);
        l->session = session;
    } else {
        SSL_SESSION_free(session);
    }
}

void line_close(struct line *l) {
    if (!l->open)
        return;
    l->open = l->waiting = false;
    l->setup->open--;
    stream_shutdown(&l->stream); /* a session whose connection was cut is not resumed */
    stream_close(&l->stream);
    forget_input(l);
}

void line_release(struct line *l) {
    line_close(l);
    SSL_SESSION_free(l->session);
    l->session = NULL;
}

static void fail(struct line *l, enum line_fault fault) {
    line_close(l);
    l->setup->on->on_failed(l->arg, fault);
}

/* ---- calls ---- */

static enum line_state open_line(struct line *l, size_t n) {
    const struct target *t = l->setup->target;
    int fd = target_socket(t, n);
    if (fd < 0)
        return LINE_NONE;
    stream_connecting(&l->stream, l->setup->loop, fd, t->ctx, t->host, &stream_events, l);
    if (l->stream.ssl && l->session)
        SSL_set_session(l->stream.ssl, l->session);
    l->open = true;
    l->setup->open++;
    return LINE_OPENING;
}

enum line_state line_prepare(struct line *l, size_t n, int64_t now_us) {
    invariant(!l->waiting);
    if (l->open && now_us < l->idle_until_us)
        return LINE_READY;
    line_close(l);
    return open_line(l, n);
}

void line_write(struct line *l, const struct span *pieces, size_t count) {
    l->waiting = true;
    stream_write(&l->stream, pieces, count);
}

void line_drip(struct line *l, struct span bytes) {
    l->waiting = true;
    stream_write(&l->stream, &bytes, 1);
}

static void on_ready(void *arg) {
    struct line *l = arg;
    l->setup->on->on_ready(l->arg);
}

/* ---- answers ---- */

/* Node's 5 s are assumed where no hint is given; a second of margin, as careful clients take. */
static int64_t idle_until(const struct http_response *r) {
    int64_t seconds = r->keep_alive_s >= 0 ? r->keep_alive_s : 5;
    return clock_mono_us() + (seconds > 1 ? seconds - 1 : 0) * 1000000;
}

static void answer(struct line *l, const struct http_response *r, struct span body) {
    l->waiting = false;
    l->idle_until_us = idle_until(r);
    keep_session(l);
    l->setup->on->on_answer(l->arg, r, body);
    if (l->setup->keep && r->keep_alive)
        forget_input(l);
    else
        line_close(l);
}

/* Walks over the chunks; with `to` their content is put there (it may be where they stand). */
static enum http_step walk_chunks(struct span bytes, char *to, size_t *len) {
    struct http_chunks chunks = {0};
    enum http_step step = HTTP_MORE;
    *len = 0;
    while (step == HTTP_MORE && bytes.len > 0) {
        size_t used = 0;
        struct span data = SPAN_NONE;
        step = http_chunks_next(&chunks, bytes, &used, &data);
        if (to && data.len > 0)
            memmove(to + *len, data.ptr, data.len);
        *len += data.len;
        bytes = span_from(bytes, used);
    }
    return step;
}

static enum http_step whole_body(const struct http_response *r, struct span *body) {
    if (r->chunked) {
        size_t len;
        enum http_step step = walk_chunks(*body, NULL, &len);
        if (step == HTTP_DONE)
            (void)walk_chunks(*body, (char *)(uintptr_t)body->ptr, &body->len);
        return step;
    }
    if (r->status == 204 || r->status == 304)
        body->len = 0;
    else if (r->content_length < 0)
        return HTTP_BAD; /* up to the close: none of our targets answers agents so */
    else if ((int64_t)body->len < r->content_length)
        return HTTP_MORE;
    else
        body->len = (size_t)r->content_length;
    return HTTP_DONE;
}

static enum http_step look(struct line *l, struct span bytes) {
    size_t head_len;
    enum err error;
    struct http_response response;
    struct http_scan scan = {0};
    enum http_step step = http_scan(&scan, bytes, &head_len, &error);
    if (step != HTTP_DONE)
        return step;
    struct span head = {bytes.ptr + scan.start, head_len - scan.start};
    if (http_response_parse(head, &response) != ERR_OK)
        return HTTP_BAD;
    struct span body = span_from(bytes, head_len);
    if (body.ptr == NULL)
        body.ptr = "";
    step = whole_body(&response, &body);
    if (step == HTTP_DONE)
        answer(l, &response, body);
    return step;
}

static bool keep_piece(struct line *l, const char *bytes, size_t len) {
    if (l->in_len + len > LINE_ANSWER_MAX)
        return false;
    if (l->in_len + len > l->in_cap) {
        l->in_cap = (uint32_t)(2 * (l->in_len + len));
        l->in = must_realloc(l->in, l->in_cap);
    }
    memcpy(l->in + l->in_len, bytes, len);
    l->in_len += (uint32_t)len;
    return true;
}

/* Most answers come whole and are judged where they were received. */
static void on_bytes(void *arg, char *bytes, size_t len) {
    struct line *l = arg;
    if (!l->waiting) {
        line_close(l); /* nobody asked */
        return;
    }
    if (l->in_len > 0 && !keep_piece(l, bytes, len)) {
        fail(l, LINE_BAD);
        return;
    }
    struct span all = l->in_len > 0 ? (struct span){l->in, l->in_len} : (struct span){bytes, len};
    enum http_step step = look(l, all);
    if (step == HTTP_BAD || (step == HTTP_MORE && l->in_len == 0 && !keep_piece(l, bytes, len)))
        fail(l, LINE_BAD);
}

static void on_drained(void *arg) {
    (void)arg;
}

static void on_closed(void *arg, enum stream_end end) {
    struct line *l = arg;
    bool was_idle = !l->waiting && !l->stream.connecting && !l->stream.handshaking;
    if (was_idle && l->setup->keep)
        line_close(l);
    else
        fail(l, end == STREAM_TLS_FAILED                       ? LINE_TLS
                : end == STREAM_BROKEN && l->stream.connecting ? LINE_REFUSED
                                                               : LINE_CLOSED);
}

static const struct stream_events stream_events = {on_ready, on_bytes, on_drained, on_closed};
