/* Routes of the stub's own for tests of streaming and of broken connections, and websockets.
 *
 *   GET /__stub/sse?n=5&gap_ms=100   text/event-stream, one event per gap
 *   GET /__stub/bytes?n=N            Content-Length, N bytes of a pattern, sent as they are taken
 *   GET /__stub/chunks?n=N           N chunks "chunk 0\n", "chunk 1\n", ...
 *   GET /__stub/slow?ms=N            answers after N ms
 *   GET /__stub/cut?n=N              promises N bytes, sends half of them, closes
 *   GET /__stub/reset                resets the connection without an answer
 *   GET /__stub/status?code=N        that status
 *   * /__stub/echo                   the request as it arrived, as JSON
 *   GET /socket.io/ with Upgrade     101, the opening frame, then every byte echoed */
#include "base/panic.h"
#include "base/random.h"
#include "stub/parts.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/keyvalq_struct.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PATTERN = 251, /* byte i is i % 251: a shift or a lost piece shows */
    PIECE = PATTERN * 1024,
    ECHO_BODY_MAX = 100000,
};

static int64_t parameter(const struct call *c, const char *name, int64_t otherwise) {
    struct evkeyvalq query = {NULL, NULL};
    if (c->query.len < 2 || evhttp_parse_query_str(c->query.ptr + 1, &query) != 0)
        return otherwise;
    const char *value = evhttp_find_header(&query, name);
    int64_t number = value ? strtoll(value, NULL, 10) : otherwise;
    evhttp_clear_headers(&query);
    return number;
}

/* ---- streams ---- */

/* The request lost its connection and is ours to free, or goes down with it. */
static void on_stream_closed(struct evhttp_connection *connection, void *arg) {
    struct call *c = arg;
    struct evhttp_request *request = c->request;
    (void)connection;
    stub_call_note_gone(c);
    c->connection = NULL;
    stub_call_free(c);
    if (!evhttp_request_get_connection(request))
        evhttp_send_reply_end(request);
}

static void stream_start(struct call *c, const char *type, bool with_length) {
    char length[24];
    snprintf(length, sizeof length, "%lld", (long long)c->left);
    stub_answer_common_headers(c);
    stub_answer_header(c, "Content-Type", type);
    if (with_length)
        stub_answer_header(c, "Content-Length", length);
    stub_answer_connection_headers(c, true);
    stub_log_status(c->stub->log, c->seq, 200);
    evhttp_connection_set_timeout(c->connection, STUB_STREAM_S);
    evhttp_connection_set_closecb(c->connection, on_stream_closed, c);
    evhttp_send_reply_start(c->request, 200, "OK");
}

static void stream_end(struct call *c) {
    struct evhttp_request *request = c->request;
    evhttp_connection_set_timeout(c->connection, STUB_IDLE_S);
    stub_call_free(c);
    evhttp_send_reply_end(request);
}

static struct evbuffer *new_piece(void) {
    struct evbuffer *piece = evbuffer_new();
    invariant(piece != NULL);
    return piece;
}

static void send_text(struct call *c, const char *text) {
    struct evbuffer *piece = new_piece();
    evbuffer_add(piece, text, strlen(text));
    evhttp_send_reply_chunk(c->request, piece);
    evbuffer_free(piece);
}

static void send_event(struct call *c) {
    char event[64];
    if (c->sent == c->left) {
        stream_end(c);
        return;
    }
    snprintf(event, sizeof event, "data: event %lld\n\n", (long long)c->sent++);
    send_text(c, event);
    stub_answer_later(c, c->gap_ms, send_event);
}

static void on_sse(struct call *c) {
    c->left = parameter(c, "n", 5);
    c->gap_ms = parameter(c, "gap_ms", 100);
    stream_start(c, "text/event-stream", false);
    send_event(c);
}

static void on_chunks(struct call *c) {
    char text[32];
    int64_t n = parameter(c, "n", 10);
    stream_start(c, "text/plain", false);
    for (int64_t i = 0; i < n && i < 100000; i++) {
        snprintf(text, sizeof text, "chunk %lld\n", (long long)i);
        send_text(c, text);
    }
    stream_end(c);
}

static struct evbuffer *pattern_piece(int64_t size) {
    static const size_t all = PIECE;
    struct evbuffer *piece = new_piece();
    struct evbuffer_iovec room;
    invariant(evbuffer_reserve_space(piece, PIECE, &room, 1) == 1);
    unsigned char *bytes = room.iov_base;
    room.iov_len = (size_t)size < all ? (size_t)size : all;
    for (size_t i = 0; i < room.iov_len; i++)
        bytes[i] = (unsigned char)(i % PATTERN);
    evbuffer_commit_space(piece, &room, 1);
    return piece;
}

/* The next piece goes when the one before has left: nothing piles up here. */
static void send_piece(struct evhttp_connection *connection, void *arg) {
    struct call *c = arg;
    (void)connection;
    if (c->left == 0) {
        stream_end(c);
        return;
    }
    struct evbuffer *piece = pattern_piece(c->left);
    c->left -= (int64_t)evbuffer_get_length(piece);
    evhttp_send_reply_chunk_with_cb(c->request, piece, send_piece, c);
    evbuffer_free(piece);
}

static void on_bytes(struct call *c) {
    c->left = parameter(c, "n", 1024);
    stream_start(c, "application/octet-stream", true);
    send_piece(NULL, c);
}

static void cut_now(struct evhttp_connection *connection, void *arg) {
    (void)connection;
    stub_call_drop(arg);
}

static void cut_when_sent(struct call *c) {
    struct evbuffer *piece = pattern_piece(c->left / 2);
    evhttp_send_reply_chunk_with_cb(c->request, piece, cut_now, c);
    evbuffer_free(piece);
}

static void on_cut(struct call *c) {
    int64_t n = parameter(c, "n", 1000);
    c->left = n < 2 ? 2 : n > PIECE ? PIECE : n;
    stream_start(c, "application/octet-stream", true);
    cut_when_sent(c);
}

/* ---- plain ones ---- */

static void on_slow(struct call *c) {
    c->delay_ms = parameter(c, "ms", 1000);
    stub_answer_text(c, 200, "{\"slow\":true}");
}

static void on_reset(struct call *c) {
    stub_answer_close(c, true);
}

static void on_status(struct call *c) {
    stub_answer_text(c, (int)parameter(c, "code", 200), "{\"status\":true}");
}

static void add_headers(struct str *s, const struct call *c) {
    const struct evkeyval *h;
    const struct evkeyvalq *headers = evhttp_request_get_input_headers(c->request);
    for (h = headers->tqh_first; h; h = h->next.tqe_next) {
        str_add(s, h == headers->tqh_first ? SPAN("[") : SPAN(",["));
        str_add_json(s, span_of(h->key));
        STR_ADD(s, ",");
        str_add_json(s, span_of(h->value));
        STR_ADD(s, "]");
    }
}

static void on_echo(struct call *c) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    struct str *s = &c->answer;
    struct span body = c->body;
    EVP_Digest(body.ptr, body.len, digest, NULL, EVP_sha256(), NULL);
    str_addf(s, "{\"method\":\"%s\",\"target\":", c->method);
    str_add_json(s, span_of(c->target));
    STR_ADD(s, ",\"headers\":[");
    add_headers(s, c);
    str_addf(s, "],\"body_bytes\":%zu,\"body_sha256\":\"", body.len);
    for (int i = 0; i < 32; i++)
        str_addf(s, "%02x", digest[i]);
    STR_ADD(s, "\",\"body\":");
    body.len = body.len < ECHO_BODY_MAX ? body.len : ECHO_BODY_MAX;
    str_add_json(s, body);
    STR_ADD(s, "}");
    stub_answer_json(c, 200);
}

/* ---- websockets ---- */

static void on_socket_event(struct bufferevent *bev, short what, void *arg) {
    (void)bev;
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT))
        stub_call_drop(arg);
}

static void on_socket_bytes(struct bufferevent *bev, void *arg) {
    (void)arg;
    bufferevent_write_buffer(bev, bufferevent_get_input(bev));
}

static void accept_key(const char *key, char out[32]) {
    char text[256];
    unsigned char digest[EVP_MAX_MD_SIZE];
    snprintf(text, sizeof text, "%.128s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    EVP_Digest(text, strlen(text), digest, NULL, EVP_sha1(), NULL);
    EVP_EncodeBlock((unsigned char *)out, digest, 20);
}

static void write_opening(struct call *c, struct bufferevent *bev, const char *key) {
    struct evbuffer *out = bufferevent_get_output(bev);
    char accept[32], id[RANDOM_UUID], open[256];
    accept_key(key, accept);
    random_uuid(id);
    int len = snprintf(open, sizeof open,
                       "0{\"sid\":\"%.20s\",\"upgrades\":[],\"pingInterval\":25000,"
                       "\"pingTimeout\":20000,\"maxPayload\":1000000}",
                       id);
    stub_log_status(c->stub->log, c->seq, 101);
    evbuffer_add_printf(out,
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                        "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n"
                        "Access-Control-Allow-Origin: *\r\n"
                        "Access-Control-Allow-Credentials: true\r\n\r\n",
                        accept);
    evbuffer_add(out, (unsigned char[]){0x81, (unsigned char)len}, 2);
    evbuffer_add(out, open, (size_t)len);
}

/* The bufferevent is ours from here on; the request goes when its connection does. */
static void on_websocket(struct call *c, const char *key) {
    static const struct timeval idle = {.tv_sec = STUB_STREAM_S};
    struct bufferevent *bev = evhttp_connection_get_bufferevent(c->connection);
    stub_count(c->stub, others);
    bufferevent_disable(bev, EV_READ | EV_WRITE);
    bufferevent_setcb(bev, on_socket_bytes, NULL, on_socket_event, c);
    bufferevent_setwatermark(bev, EV_READ, 0, 0);
    bufferevent_set_timeouts(bev, &idle, &idle);
    write_opening(c, bev, key);
    bufferevent_enable(bev, EV_READ | EV_WRITE);
    if (evbuffer_get_length(bufferevent_get_input(bev)) > 0)
        on_socket_bytes(bev, c);
}

/* ---- which is which ---- */

static const struct {
    const char *path;
    void (*handle)(struct call *);
} routes[] = {
    {"/__stub/sse", on_sse},       {"/__stub/bytes", on_bytes}, {"/__stub/chunks", on_chunks},
    {"/__stub/slow", on_slow},     {"/__stub/cut", on_cut},     {"/__stub/reset", on_reset},
    {"/__stub/status", on_status}, {"/__stub/echo", on_echo},
};

static bool is_websocket(const struct call *c) {
    const char *upgrade = stub_call_header(c, "Upgrade");
    return upgrade && strcasecmp(upgrade, "websocket") == 0 &&
           span_equal(c->path, SPAN("/socket.io/")) && stub_call_header(c, "Sec-WebSocket-Key");
}

bool stub_streams_handle(struct call *c) {
    if (is_websocket(c)) {
        on_websocket(c, stub_call_header(c, "Sec-WebSocket-Key"));
        return true;
    }
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (span_equal(c->path, span_of(routes[i].path))) {
            stub_count(c->stub, others);
            routes[i].handle(c);
            return true;
        }
    return false;
}
