/* The client's connections, against a controller in this very loop. */
#include "base/panic.h"
#include "io/stream.h"
#include "io/upstream.h"

#include <criterion/criterion.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <stdlib.h>

/* Answers every read with the same bytes. */
struct controller {
    struct loop *loop;
    struct evconnlistener *listener;
    int port, accepted;
    struct stream stream[8];
    struct span answer;
    struct span rest; /* written behind it a moment later, then the connection is closed */
    struct timer later;
};

static void on_bytes(void *arg, char *bytes, size_t len) {
    struct controller *c = arg;
    (void)bytes;
    (void)len;
    struct stream *s = &c->stream[c->accepted - 1];
    stream_write(s, &c->answer, 1);
    if (c->rest.ptr)
        timer_start(&c->later, 20);
}

static void write_rest(void *arg) {
    struct controller *c = arg;
    struct stream *s = &c->stream[c->accepted - 1];
    stream_write(s, &c->rest, 1);
    stream_shutdown(s);
}

static void on_nothing(void *arg) {
    (void)arg;
}

static void on_closed(void *arg, enum stream_end end) {
    (void)arg;
    (void)end;
}

static const struct stream_events controller_events = {on_nothing, on_bytes, on_nothing, on_closed};

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *peer,
                      int len, void *arg) {
    struct controller *c = arg;
    (void)listener;
    (void)peer;
    (void)len;
    invariant(c->accepted < 8);
    stream_accept(&c->stream[c->accepted++], c->loop, (int)fd, NULL, &controller_events, c);
}

static void controller_start(struct controller *c, struct loop *loop) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof at;
    *c = (struct controller){.loop = loop};
    for (int i = 0; i < 8; i++)
        c->stream[i].fd = -1;
    timer_init(&c->later, loop, write_rest, c);
    c->listener = evconnlistener_new_bind(loop->base, on_accept, c, LEV_OPT_CLOSE_ON_FREE, -1,
                                          (struct sockaddr *)&at, sizeof at);
    invariant(c->listener);
    getsockname(evconnlistener_get_fd(c->listener), (struct sockaddr *)&at, &len);
    c->port = ntohs(at.sin_port);
}

static void controller_stop(struct controller *c) {
    evconnlistener_free(c->listener);
    timer_stop(&c->later);
    for (int i = 0; i < 8; i++)
        stream_close(&c->stream[i]);
}

/* One call, and what came of it. */
struct asking {
    struct loop *loop;
    struct call *call;
    bool pause_on_body, cancel_on_head, cancel_on_body;
    int heads, turns, dones;
    size_t body;
    enum err error;
};

static void stop_if_cancelled(struct asking *a, bool cancel) {
    if (!cancel)
        return;
    call_cancel(a->call);
    a->call = NULL;
    loop_stop(a->loop);
}

static void on_head(void *arg, const struct http_response *head) {
    struct asking *a = arg;
    (void)head;
    a->heads++;
    stop_if_cancelled(a, a->cancel_on_head);
}

static void on_body(void *arg, struct span bytes) {
    struct asking *a = arg;
    a->body += bytes.len;
    if (a->pause_on_body)
        call_pause(a->call);
    stop_if_cancelled(a, a->cancel_on_body);
}

static void on_turn(void *arg) {
    struct asking *a = arg;
    a->turns++;
}

static void on_done(void *arg, enum err error) {
    struct asking *a = arg;
    a->dones++;
    a->error = error;
    a->call = NULL;
    loop_stop(a->loop);
}

static const struct call_events call_events = {on_head, on_body, on_turn, on_done, NULL};

struct setting {
    struct loop loop;
    struct controller controller;
    struct upstream *upstream;
};

static void begin(struct setting *s) {
    loop_init(&s->loop);
    controller_start(&s->controller, &s->loop);
    s->upstream = upstream_new(&s->loop, &(struct upstream_options){.host = "127.0.0.1",
                                                                    .port = s->controller.port,
                                                                    .connect_timeout_ms = 1000,
                                                                    .response_timeout_ms = 1000,
                                                                    .max_connections = 4});
}

static void end(struct setting *s) {
    upstream_free(s->upstream);
    controller_stop(&s->controller);
    loop_release(&s->loop);
}

static void ask(struct setting *s, struct asking *a) {
    struct call_request request = {.head = SPAN("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
                                   .repeatable = true};
    a->loop = &s->loop;
    a->call = upstream_call(s->upstream, &request, &call_events, a);
    loop_run(&s->loop);
}

#define PLAIN SPAN("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody")

Test(upstream, uses_a_connection_again_that_was_paused_on_its_last_bytes) {
    struct setting s;
    begin(&s);
    s.controller.answer = PLAIN;
    struct asking first = {.pause_on_body = true}, second = {0};
    ask(&s, &first);
    cr_expect_eq(first.error, ERR_OK);
    ask(&s, &second);
    cr_expect_eq(second.error, ERR_OK, "%s", err_row(second.error)->symbol);
    cr_expect_eq(second.body, 4);
    cr_expect_eq(s.controller.accepted, 1);
    end(&s);
}

Test(upstream, tells_an_answer_that_came_whole_without_a_turn) {
    struct setting s;
    begin(&s);
    s.controller.answer = PLAIN;
    struct asking a = {0};
    ask(&s, &a);
    cr_expect_eq(a.turns, 0);
    cr_expect_eq(a.heads, 1);
    end(&s);
}

Test(upstream, lets_a_call_be_cancelled_in_its_own_callbacks) {
    struct setting s;
    begin(&s);
    s.controller.answer = PLAIN;
    struct asking on_head_gone = {.cancel_on_head = true}, on_body_gone = {.cancel_on_body = true};
    ask(&s, &on_head_gone);
    cr_expect_eq(on_head_gone.body, 0);
    ask(&s, &on_body_gone);
    cr_expect_eq(on_body_gone.body, 4);
    cr_expect_eq(on_head_gone.dones + on_body_gone.dones, 0);
    struct asking after = {0};
    ask(&s, &after);
    cr_expect_eq(after.error, ERR_OK);
    cr_expect_eq(s.controller.accepted, 3, "cancelled calls' connections are closed");
    cr_expect_eq(upstream_busy(s.upstream), 0);
    end(&s);
}

Test(upstream, says_how_an_answer_was_cut_short) {
    static const struct {
        const char *name, *answer, *rest;
        enum err error;
        int heads;
    } rows[] = {
        {"length", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbo", "dy", ERR_UPSTREAM_CLOSED, 1},
        {"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n", "1\r\n",
         ERR_UPSTREAM_CLOSED, 1},
        {"bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n", "?",
         ERR_UPSTREAM_PROTOCOL, 1},
        {"head", "HTTP/1.1 200 OK\r\n", "A: b\r\n", ERR_UPSTREAM_CLOSED, 0},
        {"nonsense", "HTTP", "?\r\n\r\n", ERR_UPSTREAM_PROTOCOL, 0},
        {"up to the close", "HTTP/1.1 200 OK\r\n\r\nbo", "dy", ERR_OK, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct setting s;
        begin(&s);
        s.controller.answer = span_of(rows[i].answer);
        s.controller.rest = span_of(rows[i].rest);
        struct asking a = {0};
        ask(&s, &a);
        cr_expect_eq(a.error, rows[i].error, "%s: %s", rows[i].name, err_row(a.error)->symbol);
        cr_expect_eq(a.heads, rows[i].heads, "%s", rows[i].name);
        cr_expect_eq(a.dones, 1, "%s", rows[i].name);
        end(&s);
    }
}

Test(upstream, tells_pending_calls_that_they_are_cancelled_at_the_end) {
    struct setting s;
    begin(&s);
    struct asking a = {.loop = &s.loop};
    struct call_request request = {.head = SPAN("GET / HTTP/1.1\r\nHost: a\r\n\r\n")};
    a.call = upstream_call(s.upstream, &request, &call_events, &a);
    cr_expect_eq(upstream_busy(s.upstream), 1);
    end(&s);
    cr_expect_eq(a.dones, 1);
    cr_expect_eq(a.error, ERR_CANCELLED);
}
