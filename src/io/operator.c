#include "io/operator.h"

#include "base/panic.h"
#include "rules/http.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <stdlib.h>

enum { HEAD_MAX = 8192, BODY_MAX = 1024, IDLE_S = 60, PAGE_MAX = 1 << 20, REST_MS = 100 };

struct operator_port {
    struct evhttp *http;
    const struct operator_page *pages;
    void *arg;
    struct str body;
};

static void reply(struct evhttp_request *request, int status, const char *type, struct span body) {
    struct evkeyvalq *fields = evhttp_request_get_output_headers(request);
    evhttp_add_header(fields, "Content-Type", type);
    evhttp_add_header(fields, "Cache-Control", "no-store");
    evhttp_add_header(fields, "X-Content-Type-Options", "nosniff");
    struct evbuffer *out = evbuffer_new();
    invariant(out);
    if (body.len > 0)
        evbuffer_add(out, body.ptr, body.len);
    evhttp_send_reply(request, status, http_reason(status), out);
    evbuffer_free(out);
}

static const struct operator_page *find(const struct operator_port *port, const char *path) {
    const struct operator_page *page = port->pages;
    while (page->path && (!path || strcmp(page->path, path) != 0))
        page++;
    return page->path ? page : NULL;
}

static void on_request(struct evhttp_request *request, void *arg) {
    struct operator_port *port = arg;
    const struct operator_page *page =
        find(port, evhttp_uri_get_path(evhttp_request_get_evhttp_uri(request)));
    if (!page) {
        reply(request, 404, "text/plain; charset=utf-8", SPAN("no such page\n"));
        return;
    }
    str_clear(&port->body);
    int status = page->show(port->arg, &port->body);
    reply(request, status, page->content_type, str_span(&port->body));
}

static void on_rest_over(evutil_socket_t fd, short what, void *listener) {
    (void)fd;
    (void)what;
    evconnlistener_enable(listener);
}

/* Without descriptors libevent would try again at once, for ever, with a log line each time. The
 * data port's listener has said what there is to say. */
static void on_accept_failed(struct evconnlistener *listener, void *http) {
    (void)http;
    struct timeval rest = {.tv_usec = REST_MS * 1000};
    evconnlistener_disable(listener);
    event_base_once(evconnlistener_get_base(listener), -1, EV_TIMEOUT, on_rest_over, listener,
                    &rest);
}

struct operator_port *operator_new(struct loop *loop, int listen_fd,
                                   const struct operator_page *pages, void *arg) {
    struct operator_port *port = must_zalloc(sizeof *port);
    *port = (struct operator_port){.http = evhttp_new(loop->base), .pages = pages, .arg = arg};
    invariant(port->http);
    str_init(&port->body, PAGE_MAX);
    evhttp_set_allowed_methods(port->http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD);
    evhttp_set_max_headers_size(port->http, HEAD_MAX);
    evhttp_set_max_body_size(port->http, BODY_MAX);
    evhttp_set_timeout(port->http, IDLE_S);
    evhttp_set_gencb(port->http, on_request, port);
    struct evhttp_bound_socket *bound = evhttp_accept_socket_with_handle(port->http, listen_fd);
    invariant(bound);
    evconnlistener_set_error_cb(evhttp_bound_socket_get_listener(bound), on_accept_failed);
    return port;
}

void operator_free(struct operator_port *port) {
    if (!port)
        return;
    evhttp_free(port->http);
    str_release(&port->body);
    free(port);
}
