#include "io/operator.h"

#include "base/panic.h"
#include "io/operator_conns.h"
#include "rules/wire/http.h"

#include <event2/buffer.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdio.h>
#include <stdlib.h>

enum { HEAD_MAX = 8192, BODY_MAX = 1024, PAGE_MAX = 1 << 20 };

struct operator_port {
    struct evhttp *http;
    struct operator_conns *conns;
    const struct operator_site *site;
    struct str body;
};

struct operator_request {
    struct evhttp_request *request;
    bool is_post;
    struct span segment;
    struct evkeyvalq parameters;
};

bool operator_is_post(const struct operator_request *r) {
    return r->is_post;
}

struct span operator_segment(const struct operator_request *r) {
    return r->segment;
}

struct span operator_field(const struct operator_request *r, const char *name) {
    return span_of(evhttp_find_header(evhttp_request_get_input_headers(r->request), name));
}

struct span operator_parameter(const struct operator_request *r, const char *name) {
    return span_of(evhttp_find_header(&r->parameters, name));
}

static void reply(struct evhttp_request *request, int status, const char *type, struct span body) {
    struct evkeyvalq *fields = evhttp_request_get_output_headers(request);
    evhttp_add_header(fields, "Content-Type", type);
    evhttp_add_header(fields, "Cache-Control", "no-store");
    evhttp_add_header(fields, "X-Content-Type-Options", "nosniff");
    struct evbuffer *out = evbuffer_new();
    invariant(out);
    /* RFC 9110 section 9.3.2: what GET would send, but for the body. evhttp sends what it gets. */
    if (evhttp_request_get_command(request) == EVHTTP_REQ_HEAD) {
        char length[24];
        (void)snprintf(length, sizeof length, "%zu", body.len);
        evhttp_add_header(fields, "Content-Length", length);
    } else if (body.len > 0) {
        evbuffer_add(out, body.ptr, body.len);
    }
    evhttp_send_reply(request, status, http_reason(status), out);
    evbuffer_free(out);
}

/* "/agents/:" takes "/agents/x" but neither "/agents/" nor "/agents/x/y". */
static bool matches(const char *pattern, struct span path, struct span *segment) {
    size_t len = strlen(pattern);
    *segment = SPAN_NONE;
    if (len < 2 || strcmp(pattern + len - 2, "/:") != 0)
        return span_equal(span_of(pattern), path);
    if (path.len < len || memcmp(pattern, path.ptr, len - 1) != 0)
        return false;
    *segment = span_from(path, len - 1);
    return !memchr(segment->ptr, '/', segment->len);
}

/* The page; NULL with *known when its path is there, but not for this method. */
static const struct operator_page *find(const struct operator_port *port,
                                        struct operator_request *r, bool *known) {
    const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(r->request));
    *known = false;
    for (const struct operator_page *page = port->site->pages; path && page->method; page++) {
        if (!matches(page->path, span_of(path), &r->segment))
            continue;
        *known = true;
        if (r->is_post == (strcmp(page->method, "POST") == 0))
            return page;
    }
    return NULL;
}

/* A parameter that the page does not know; NULL: it knows all. */
static const char *unknown_parameter(const struct operator_page *page,
                                     const struct operator_request *r) {
    const struct evkeyval *given = page->parameters ? r->parameters.tqh_first : NULL;
    for (; given; given = given->next.tqe_next) {
        size_t len = strlen(given->key);
        const char *known = page->parameters;
        while (*known && !(strcspn(known, " ") == len && memcmp(known, given->key, len) == 0))
            known += strcspn(known, " ") + 1;
        if (!*known)
            return given->key;
    }
    return NULL;
}

/* A parameter that is given twice: which one is meant? NULL: none is. The page knows all of them,
 * so that one of the first few is found again, or none. */
static const char *repeated_parameter(const struct operator_page *page,
                                      const struct operator_request *r) {
    const struct evkeyval *given = page->parameters ? r->parameters.tqh_first : NULL;
    for (; given; given = given->next.tqe_next)
        for (const struct evkeyval *other = given->next.tqe_next; other;
             other = other->next.tqe_next)
            if (strcmp(given->key, other->key) == 0)
                return given->key;
    return NULL;
}

static void refuse_parameter(struct operator_port *port, struct operator_request *r,
                             const struct operator_page *page, const char *name,
                             const char *error) {
    STR_ADD(&port->body, "{\"error\":");
    str_add_json(&port->body, span_of(error));
    STR_ADD(&port->body, ",\"parameter\":");
    str_add_json(&port->body, span_of(name));
    STR_ADD(&port->body, ",\"known\":");
    str_add_json(&port->body, span_of(page->parameters));
    STR_ADD(&port->body, "}\n");
    reply(r->request, 400, "application/json; charset=utf-8", str_span(&port->body));
}

/* Who comes by hand is told what there is. */
static void refuse_path(struct operator_port *port, struct operator_request *r, bool known) {
    str_add(&port->body,
            known ? SPAN("not with this method; there are\n") : SPAN("no such page; there are\n"));
    for (const struct operator_page *page = port->site->pages; page->method; page++)
        str_addf(&port->body, "%s %s\n", page->method, page->path);
    reply(r->request, known ? 405 : 404, "text/plain; charset=utf-8", str_span(&port->body));
}

static void show(struct operator_port *port, struct operator_request *r) {
    const struct operator_site *site = port->site;
    bool known;
    str_clear(&port->body);
    int status = site->refuse ? site->refuse(site->arg, r, &port->body) : 0;
    if (status != 0) {
        reply(r->request, status, "application/json; charset=utf-8", str_span(&port->body));
        return;
    }
    const struct operator_page *page = find(port, r, &known);
    if (!page) {
        refuse_path(port, r, known);
        return;
    }
    const char *unknown = unknown_parameter(page, r);
    const char *repeated = unknown ? NULL : repeated_parameter(page, r);
    if (unknown || repeated) {
        refuse_parameter(port, r, page, unknown ? unknown : repeated,
                         unknown ? "this page has no such parameter" : "give a parameter once");
        return;
    }
    status = page->show(site->arg, r, &port->body);
    reply(r->request, status, page->content_type, str_span(&port->body));
}

static void on_request(struct evhttp_request *request, void *arg) {
    struct operator_port *port = arg;
    operator_conns_answer(port->conns, request);
    struct operator_request r = {.request = request,
                                 .is_post = evhttp_request_get_command(request) == EVHTTP_REQ_POST};
    const char *query = evhttp_uri_get_query(evhttp_request_get_evhttp_uri(request));
    /* evhttp's values end at a NUL: "yes%00no" would be "yes". */
    bool has_nul = query && strstr(query, "%00");
    if (has_nul || evhttp_parse_query_str(query ? query : "", &r.parameters) < 0)
        reply(request, 400, "text/plain; charset=utf-8", SPAN("malformed query\n"));
    else
        show(port, &r);
    evhttp_clear_headers(&r.parameters);
}

struct operator_port *operator_new(struct loop *loop, int listen_fd, size_t max_connections,
                                   const struct operator_site *site) {
    struct operator_port *port = must_zalloc(sizeof *port);
    *port = (struct operator_port){.http = evhttp_new(loop->base), .site = site};
    invariant(port->http);
    str_init(&port->body, PAGE_MAX);
    evhttp_set_allowed_methods(port->http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_POST);
    evhttp_set_max_headers_size(port->http, HEAD_MAX);
    evhttp_set_max_body_size(port->http, BODY_MAX);
    evhttp_set_gencb(port->http, on_request, port);
    port->conns = operator_conns_new(loop, port->http, listen_fd, max_connections);
    return port;
}

void operator_free(struct operator_port *port) {
    if (!port)
        return;
    evhttp_free(port->http);
    operator_conns_free(port->conns);
    str_release(&port->body);
    free(port);
}
