/* How the controller's answers look on the wire, and when they are sent. */
#include "base/clock.h"
#include "base/panic.h"
#include "stub/parts.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/http_struct.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

const char *stub_call_header(const struct call *c, const char *name) {
    return evhttp_find_header(evhttp_request_get_input_headers(c->request), name);
}

void stub_answer_header(struct call *c, const char *name, const char *value) {
    evhttp_add_header(evhttp_request_get_output_headers(c->request), name, value);
}

/* ---- the end of a call ---- */

void stub_call_free(struct call *c) {
    list_remove(&c->link);
    if (c->timer)
        event_free(c->timer);
    c->timer = NULL;
    if (c->connection)
        evhttp_connection_set_closecb(c->connection, NULL, NULL);
    c->connection = NULL;
    c->request = NULL;
    if (c->at_work) {
        c->cancelled = true;
        return;
    }
    json_decref(c->json);
    str_release(&c->answer);
    free(c);
}

void stub_call_drop(struct call *c) {
    struct evhttp_connection *connection = c->connection;
    stub_call_free(c);
    evhttp_connection_free(connection);
}

void stub_call_forsake(struct call *c) {
    struct evhttp_connection *connection = c->connection;
    evhttp_connection_set_closecb(connection, NULL, NULL);
    c->connection = NULL;
    c->request = NULL;
    c->watched = false;
    json_decref(c->json);
    c->json = NULL;
    str_release(&c->answer);
    evhttp_connection_free(connection);
}

static evutil_socket_t call_fd(const struct call *c) {
    return bufferevent_getfd(evhttp_connection_get_bufferevent(c->connection));
}

bool stub_call_client_left(const struct call *c) {
    char byte;
    ssize_t n = recv(call_fd(c), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

void stub_call_note_gone(struct call *c) {
    if (c->client_gone)
        return;
    c->client_gone = true;
    stub_count(c->stub, client_gone);
    stub_log_client_gone(c->stub->log, c->seq);
}

/* ---- when ---- */

static void on_timer(evutil_socket_t fd, short what, void *arg) {
    struct call *c = arg;
    (void)fd;
    (void)what;
    event_free(c->timer);
    c->timer = NULL;
    c->watched = false;
    c->later(c);
}

void stub_answer_later(struct call *c, int64_t delay_ms, void (*later)(struct call *)) {
    struct timeval tv = {.tv_sec = delay_ms / 1000, .tv_usec = delay_ms % 1000 * 1000};
    c->later = later;
    c->watched = true;
    c->timer = event_new(c->stub->base, -1, 0, on_timer, c);
    if (!c->timer || event_add(c->timer, &tv) != 0)
        panic(__FILE__, __LINE__, "no timer");
}

void stub_answer_never(struct call *c) {
    c->watched = true;
}

static void close_now(struct call *c) {
    stub_call_drop(c);
}

/* evhttp shuts a socket down before it closes it, so SO_LINGER comes too late: dissolving the
 * association is what makes Linux send the reset. */
static void reset_now(struct call *c) {
    struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
    (void)connect(call_fd(c), &nowhere, sizeof nowhere);
    stub_call_drop(c);
}

void stub_answer_close(struct call *c, bool reset) {
    stub_answer_later(c, c->delay_ms, reset ? reset_now : close_now);
}

static void send_body(struct call *c, struct evbuffer *body) {
    if (!c->chunked) {
        evhttp_send_reply(c->request, c->status, NULL, body);
        return;
    }
    evhttp_send_reply_start(c->request, c->status, NULL);
    evhttp_send_reply_chunk(c->request, body);
    evhttp_send_reply_end(c->request);
}

static void send_now(struct call *c) {
    struct evbuffer *body = evbuffer_new();
    bool headless = strcmp(c->method, "HEAD") == 0 || c->status == 304 || c->status == 204;
    if (stub_call_client_left(c))
        stub_call_note_gone(c);
    if (!body || (!headless && evbuffer_add(body, c->answer.ptr, c->answer.len) != 0))
        panic(__FILE__, __LINE__, "no memory for an answer");
    stub_log_status(c->stub->log, c->seq, c->status);
    evhttp_connection_set_timeout(c->connection, STUB_IDLE_S);
    send_body(c, body);
    evbuffer_free(body);
    stub_call_free(c);
}

static void send_when_due(struct call *c) {
    if (c->delay_ms > 0)
        stub_answer_later(c, c->delay_ms, send_now);
    else
        send_now(c);
}

/* ---- what ---- */

static bool wants_close(const struct call *c) {
    const char *connection = stub_call_header(c, "Connection");
    if (connection && strcasestr(connection, "close"))
        return true;
    return c->http_minor == 0 && !(connection && strcasestr(connection, "keep-alive"));
}

/* Node answers HTTP/1.0 with HTTP/1.1 and says what becomes of the connection. */
void stub_answer_connection_headers(struct call *c, bool advertise) {
    char date[CLOCK_HTTP_SIZE];
    clock_http(date, clock_wall_ms());
    stub_answer_header(c, "Date", date);
    c->request->minor = 1;
    if (wants_close(c)) {
        stub_answer_header(c, "Connection", "close");
        return;
    }
    stub_answer_header(c, "Connection", "keep-alive");
    if (advertise)
        stub_answer_header(c, "Keep-Alive", "timeout=5");
}

void stub_answer_common_headers(struct call *c) {
    stub_answer_header(c, "X-Powered-By", "Express");
    stub_answer_header(c, "x-correlation-id", c->correlation);
}

static void answer_length(struct call *c) {
    char digits[24];
    snprintf(digits, sizeof digits, "%zu", c->answer.len);
    stub_answer_header(c, "Content-Length", digits);
}

void stub_answer_etag(struct call *c, char out[STUB_ETAG_SIZE]) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    char base64[32];
    EVP_Digest(c->answer.ptr ? c->answer.ptr : "", c->answer.len, digest, NULL, EVP_sha1(), NULL);
    EVP_EncodeBlock((unsigned char *)base64, digest, 20);
    snprintf(out, STUB_ETAG_SIZE, "W/\"%zx-%.27s\"", c->answer.len, base64);
}

static bool is_fresh(const struct call *c, const char *etag) {
    const char *known = stub_call_header(c, "If-None-Match");
    bool reads = strcmp(c->method, "GET") == 0 || strcmp(c->method, "HEAD") == 0;
    return reads && c->status == 200 && known && strstr(known, etag);
}

void stub_answer_json(struct call *c, int status) {
    char etag[STUB_ETAG_SIZE];
    invariant(!c->answer.overflow);
    c->status = status;
    stub_answer_etag(c, etag);
    stub_answer_common_headers(c);
    if (is_fresh(c, etag)) {
        c->status = 304;
        stub_answer_header(c, "ETag", etag);
    } else {
        stub_answer_header(c, "Content-Type", "application/json; charset=utf-8");
        answer_length(c);
        stub_answer_header(c, "ETag", etag);
    }
    stub_answer_connection_headers(c, true);
    send_when_due(c);
}

void stub_answer_text(struct call *c, int status, const char *body) {
    str_clear(&c->answer);
    str_add(&c->answer, span_of(body));
    stub_answer_json(c, status);
}

void stub_answer_error(struct call *c, int status, const char *message, const char *const *errors) {
    char now[CLOCK_ISO_SIZE];
    struct str *s = &c->answer;
    clock_iso(now, clock_wall_ms());
    str_clear(s);
    str_addf(s, "{\"statusCode\":%d,\"message\":", status);
    str_add_json(s, span_of(message));
    str_addf(s, ",\"timestamp\":\"%s\",\"path\":", now);
    str_add_json(s, span_of(c->target));
    STR_ADD(s, ",\"correlationId\":");
    str_add_json(s, span_of(c->correlation));
    for (size_t i = 0; errors && errors[i]; i++) {
        str_add(s, i ? SPAN(",") : SPAN(",\"errors\":["));
        str_add_json(s, span_of(errors[i]));
    }
    if (errors && errors[0])
        STR_ADD(s, "]");
    STR_ADD(s, "}");
    stub_answer_json(c, status);
}

void stub_answer_made(struct call *c, int status, bool with_length, bool advertise) {
    c->status = status;
    if (with_length)
        answer_length(c);
    stub_answer_connection_headers(c, advertise);
    send_when_due(c);
}

void stub_answer_bad_host(struct call *c) {
    char date[CLOCK_HTTP_SIZE];
    clock_http(date, clock_wall_ms());
    stub_answer_header(c, "Connection", "close");
    stub_answer_header(c, "Date", date);
    stub_answer_header(c, "Content-Length", "0");
    c->status = 400;
    send_when_due(c);
}
