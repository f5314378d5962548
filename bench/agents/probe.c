#include "agents/probe.h"

#include "base/panic.h"
#include "io/upstream.h"

#include <stdlib.h>

enum { TIMEOUT_MS = 2000, ANSWER_MAX = 1 << 20 };

struct probe {
    struct upstream *upstream;
    struct str answer;
    bool asking, fine;
    void (*done)(void *arg, struct span answer);
    void *arg;
};

static void on_head(void *arg, const struct http_response *head) {
    struct probe *p = arg;
    p->fine = head->status == 200;
}

static void on_body(void *arg, struct span bytes) {
    struct probe *p = arg;
    str_add(&p->answer, bytes);
}

static void on_done(void *arg, enum err error) {
    struct probe *p = arg;
    bool fine = error == ERR_OK && p->fine && !p->answer.overflow && p->answer.len > 0;
    p->asking = false;
    if (error != ERR_CANCELLED)
        p->done(p->arg, fine ? str_span(&p->answer) : SPAN_NONE);
}

static const struct call_events events = {
    .on_head = on_head, .on_body = on_body, .on_done = on_done};

struct probe *probe_new(struct loop *loop, int port) {
    struct probe *p = must_zalloc(sizeof *p);
    struct upstream_options options = {.host = "127.0.0.1",
                                       .port = port,
                                       .connect_timeout_ms = TIMEOUT_MS,
                                       .response_timeout_ms = TIMEOUT_MS,
                                       .max_connections = 1};
    p->upstream = upstream_new(loop, &options);
    str_init(&p->answer, ANSWER_MAX);
    return p;
}

void probe_free(struct probe *p) {
    upstream_free(p->upstream);
    str_release(&p->answer);
    free(p);
}

bool probe_ask(struct probe *p, const char *path, struct span body,
               void (*done)(void *arg, struct span answer), void *arg) {
    char memory[512];
    struct str head;
    if (p->asking)
        return false;
    str_init_fixed(&head, memory, sizeof memory);
    str_addf(&head, "%s %s HTTP/1.1\r\nHost: localhost\r\n", body.ptr ? "POST" : "GET", path);
    if (body.ptr)
        str_addf(&head, "Content-Length: %zu\r\n", body.len);
    STR_ADD(&head, "\r\n");
    str_clear(&p->answer);
    p->asking = true;
    p->fine = false;
    p->done = done;
    p->arg = arg;
    upstream_call(p->upstream,
                  &(struct call_request){.head = str_span(&head), .body = body, .repeatable = true},
                  &events, p);
    return true;
}
