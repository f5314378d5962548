#include "io/conn.h"

#include "base/clock.h"
#include "base/panic.h"

#include <stdatomic.h>
#include <stdlib.h>

/* Node's fetch keeps a connection over 60 s heartbeats; see IDLE_MS. */
#define KEEP_ALIVE "Connection: keep-alive\r\nKeep-Alive: timeout=75\r\n\r\n"

static struct conn *conn_of(const struct exchange *x) {
    return container_of((void *)(uintptr_t)x, struct conn, x);
}

/* ---- from beginning to end ---- */

/* A refused request is never gone on from. */
void exchange_begin(struct conn *c, const struct http_request *request, size_t received) {
    c->x = (struct exchange){
        .head_only = request && request->method == HTTP_HEAD,
        .http10 = request && request->minor == 0,
        .open = true,
        .report = {.kind = -1, .began_us = clock_mono_us(), .received = (int64_t)received}};
}

void exchange_tell_end(struct conn *c, enum exchange_end end) {
    if (!c->x.open)
        return;
    c->x.open = false;
    c->x.report.end = end;
    c->server->on->on_end(c->server->arg, &c->x, &c->x.report);
    free(c->x.extra);
    c->x.extra = NULL;
}

void exchange_add_fields(struct exchange *x, struct span fields) {
    free(x->extra);
    x->extra = fields.len > 0 ? must_copy(fields.ptr, fields.len) : NULL;
    x->extra_len = fields.len;
}

void exchange_tag(struct exchange *x, int kind, void *record) {
    x->report.kind = kind;
    x->report.record = record;
}

void *exchange_record(const struct exchange *x) {
    return x->report.record;
}

/* ---- the head ---- */

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
    if (c->x.extra)
        str_add(out, (struct span){c->x.extra, c->x.extra_len});
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
        STR_ADD(out, KEEP_ALIVE);
    else
        STR_ADD(out, "Connection: close\r\n\r\n");
    c->x.report.status = answer->status;
    c->x.report.answered_us = clock_exact_us();
}

/* ---- the answer ---- */

/* The next request, or the end. */
static void exchange_over(struct conn *c) {
    c->x.watcher = NULL;
    exchange_tell_end(c, EXCHANGE_ANSWERED);
    conn_settle(c);
    conn_account(c);
    if (!c->x.keep_alive || c->server->draining) {
        conn_linger(c);
        return;
    }
    conn_enter(c, CONN_IDLE, IDLE_MS);
    conn_watch_stall(c);
    if (!c->in_request)
        conn_go_on(c);
}

void exchange_answer(struct exchange *x, const struct answer *answer, struct span body) {
    struct conn *c = conn_of(x);
    enum { TOGETHER_MAX = 16384 }; /* one record; copying more costs more than a second one */
    struct str *text = &c->server->loop->text;
    x->keep_alive = x->keep_alive && !c->server->draining;
    spell_head(c, answer, (int64_t)body.len);
    struct span sent = has_body(x, answer->status) ? body : SPAN_NONE;
    x->report.sent = (int64_t)sent.len;
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

/* A large piece of a body that is known to go on need not leave before the next one. Small ones do:
 * whoever sends by drops may mean it. */
static void write_pieces(struct conn *c, const struct span *pieces, size_t count, size_t body_len) {
    enum { LARGE = 4096 };
    c->x.left -= (int64_t)body_len;
    c->x.report.sent += (int64_t)body_len;
    if (c->x.left > 0 && body_len >= LARGE)
        stream_write_on(&c->stream, pieces, count);
    else
        stream_write(&c->stream, pieces, count);
    conn_watch_stall(c);
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
    x->left = body_follows ? content_length : 0;
    char line[24];
    struct span pieces[PIECES_MAX] = {{c->server->loop->text.ptr, c->server->loop->text.len}};
    size_t count = 1 + frame(x, first, line, pieces + 1);
    write_pieces(c, pieces, count, count > 1 ? first.len : 0);
}

void exchange_write(struct exchange *x, struct span bytes) {
    char line[24];
    struct span pieces[PIECES_MAX];
    size_t count = frame(x, bytes, line, pieces);
    if (count > 0)
        write_pieces(conn_of(x), pieces, count, bytes.len);
    else
        conn_watch_stall(conn_of(x));
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
    exchange_tell_end(c, EXCHANGE_CUT);
    conn_cut(c);
}

size_t exchange_unsent(const struct exchange *x) {
    return stream_unsent(&conn_of(x)->stream);
}

void exchange_watch(struct exchange *x, const struct exchange_watcher *watcher, void *arg) {
    x->watcher = watcher;
    x->watcher_arg = arg;
}

bool exchange_upgrade(struct exchange *x, struct span fields) {
    struct conn *c = conn_of(x);
    if (c->drops)
        return false;
    struct str *text = &c->server->loop->text;
    str_clear(text);
    STR_ADD(text, "HTTP/1.1 101 Switching Protocols\r\n");
    str_add(text, fields);
    STR_ADD(text, "\r\n");
    stream_write(&c->stream, &(struct span){text->ptr, text->len}, 1);
    x->keep_alive = false;
    x->report.status = 101;
    x->report.answered_us = clock_exact_us();
    conn_enter(c, CONN_RAW, 0);
    conn_watch_stall(c);
    stream_keep_alive(&c->stream);
    stream_resume(&c->stream);
    if (c->in.len == 0)
        return true;
    struct str early = c->in;
    x->report.received += (int64_t)early.len;
    str_init(&c->in, early.max);
    x->watcher->on_bytes(x->watcher_arg, str_span(&early));
    str_release(&early);
    return true;
}

void exchange_keep_alive(struct exchange *x) {
    stream_keep_alive(&conn_of(x)->stream);
}

void exchange_pause(struct exchange *x) {
    stream_pause(&conn_of(x)->stream);
}

void exchange_resume(struct exchange *x) {
    stream_resume(&conn_of(x)->stream);
}

void exchange_vouch(struct exchange *x) {
    struct conn *c = conn_of(x);
    if (c->vouched)
        return;
    c->vouched = true;
    list_remove(&c->stranger);
    atomic_fetch_add(&c->server->limits->vouched, 1);
}

const struct address *exchange_peer(const struct exchange *x) {
    return &conn_of(x)->peer;
}

const char *exchange_tls_version(const struct exchange *x) {
    const SSL *ssl = conn_of(x)->stream.ssl;
    return ssl ? SSL_get_version(ssl) : NULL;
}

bool exchange_tls_resumed(const struct exchange *x) {
    return exchange_is_tls(x) && stream_resumed(&conn_of(x)->stream);
}

bool exchange_is_tls(const struct exchange *x) {
    return conn_of(x)->stream.ssl != NULL;
}
