/* The stub's life: its thread, its ports, and which file answers what. */
#include "base/panic.h"
#include "base/random.h"
#include "stub/stub_private.h"

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/http_struct.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    BACKLOG = 4096, /* a fleet's restart knocks all at once */
    SWEEP_MS = 50,
    SWEEP_CALLS = 1000, /* looked at in one of them, in turn */
    AGENTS_DEFAULT = 1000,
    AGENTS_MAX = 1000000,
    TOKEN_TTL_S = 86400,
};

/* ---- sockets ---- */

static socklen_t parse_address(const char *address, int port, struct sockaddr_storage *out) {
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, address, &v4.sin_addr) == 1) {
        memcpy(out, &v4, sizeof v4);
        return sizeof v4;
    }
    if (inet_pton(AF_INET6, address, &v6.sin6_addr) == 1) {
        memcpy(out, &v6, sizeof v6);
        return sizeof v6;
    }
    return 0;
}

/* A bound socket, listening or not; -1 on failure. Accepted sockets inherit TCP_NODELAY. */
static int open_socket(const char *address, int port, bool listening) {
    struct sockaddr_storage where;
    socklen_t size = parse_address(address, port, &where);
    if (size == 0)
        return -1;
    int on = 1;
    int fd = socket(where.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0 &&
        bind(fd, (struct sockaddr *)&where, size) == 0 && (!listening || listen(fd, BACKLOG) == 0))
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static int port_of(int fd) {
    struct sockaddr_storage where = {0};
    socklen_t size = sizeof where;
    if (getsockname(fd, (struct sockaddr *)&where, &size) != 0)
        return -1;
    struct sockaddr_in6 v6;
    struct sockaddr_in v4;
    memcpy(&v4, &where, sizeof v4);
    memcpy(&v6, &where, sizeof v6);
    return ntohs(where.ss_family == AF_INET6 ? v6.sin6_port : v4.sin_port);
}

/* Whose thread this is: evhttp's listeners pass nothing of ours on. */
static _Thread_local struct stub *here;

/* No descriptor is left. What knocks is let in with the spare one and closed at once, so that it
 * hears so, and the listener does not spin. */
static void on_no_descriptor(struct evconnlistener *listener, void *arg) {
    (void)arg;
    if (here->spare_fd < 0)
        return;
    close(here->spare_fd);
    for (int fd; (fd = accept(evconnlistener_get_fd(listener), NULL, NULL)) >= 0;) {
        close(fd);
        stub_count(here, turned_away);
    }
    here->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static struct evhttp *serve_on(struct stub *stub, int fd,
                               void (*handle)(struct evhttp_request *, void *)) {
    struct evhttp *http = evhttp_new(stub->base);
    struct evhttp_bound_socket *socket = http ? evhttp_accept_socket_with_handle(http, fd) : NULL;
    if (!socket) {
        if (http)
            evhttp_free(http);
        close(fd);
        return NULL;
    }
    evhttp_set_allowed_methods(http, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD |
                                         EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS |
                                         EVHTTP_REQ_TRACE | EVHTTP_REQ_CONNECT | EVHTTP_REQ_PATCH);
    evhttp_set_max_headers_size(http, STUB_HEAD_MAX);
    evhttp_set_max_body_size(http, STUB_BODY_MAX);
    evhttp_set_default_content_type(http, NULL);
    evhttp_set_timeout(http, STUB_FIRST_S);
    evhttp_set_gencb(http, handle, stub);
    evconnlistener_set_error_cb(evhttp_bound_socket_get_listener(socket), on_no_descriptor);
    return http;
}

/* ---- which file answers what ---- */

static const char *method_name(enum evhttp_cmd_type type) {
    switch (type) {
    case EVHTTP_REQ_GET:
        return "GET";
    case EVHTTP_REQ_POST:
        return "POST";
    case EVHTTP_REQ_HEAD:
        return "HEAD";
    case EVHTTP_REQ_PUT:
        return "PUT";
    case EVHTTP_REQ_DELETE:
        return "DELETE";
    case EVHTTP_REQ_OPTIONS:
        return "OPTIONS";
    case EVHTTP_REQ_TRACE:
        return "TRACE";
    case EVHTTP_REQ_CONNECT:
        return "CONNECT";
    case EVHTTP_REQ_PATCH:
        return "PATCH";
    default:
        return "OTHER";
    }
}

static void set_correlation(struct call *c) {
    const char *given = stub_call_header(c, "x-correlation-id");
    if (given && *given)
        snprintf(c->correlation, sizeof c->correlation, "%s", given);
    else
        random_uuid(c->correlation);
}

static struct call *call_new(struct stub *stub, struct evhttp_request *request) {
    struct call *c = must_zalloc(sizeof *c);
    struct evbuffer *input = evhttp_request_get_input_buffer(request);
    c->stub = stub;
    c->request = request;
    c->connection = evhttp_request_get_connection(request);
    c->http_minor = (unsigned char)request->minor;
    c->method = method_name(evhttp_request_get_command(request));
    c->target = evhttp_request_get_uri(request);
    size_t path = strcspn(c->target, "?");
    c->path = (struct span){c->target, path};
    c->query = span_of(c->target + path);
    c->body.len = evbuffer_get_length(input);
    c->body.ptr = c->body.len ? (const char *)evbuffer_pullup(input, -1) : "";
    str_init(&c->answer, STUB_ANSWER_MAX);
    set_correlation(c);
    list_push_back(&stub->calls, &c->link);
    return c;
}

static bool fails_on_order(struct call *c) {
    struct stub_set *set = &c->stub->set;
    if (set->fail_next <= 0)
        return false;
    set->fail_next--;
    stub_count(c->stub, others);
    if (set->fail_status == 0)
        stub_answer_close(c, false);
    else
        stub_answer_error(c, (int)set->fail_status, "Failed on order", NULL);
    return true;
}

static void answer_not_found(struct call *c) {
    char message[STUB_HEAD_MAX];
    stub_count(c->stub, others);
    snprintf(message, sizeof message, "Cannot %s %s", c->method, c->target);
    stub_answer_error(c, 404, message, NULL);
}

static void on_request(struct evhttp_request *request, void *arg) {
    struct stub *stub = arg;
    struct call *c = call_new(stub, request);
    stub_count(stub, requests);
    c->seq = stub_log_add(stub->log, c, stub_call_header(c, "Authorization"));
    if (stub->set.outage == STUB_HANG) {
        stub_answer_never(c);
        return;
    }
    if (!stub_call_header(c, "Host") && c->http_minor == 1) {
        stub_answer_bad_host(c);
        return;
    }
    if (stub_streams_handle(c))
        return;
    c->delay_ms = stub->set.delay_ms;
    if (fails_on_order(c) || !stub_body_parse(c) || stub_bulk_handle(c) || stub_agents_handle(c) ||
        stub_recordings_handle(c))
        return;
    answer_not_found(c);
}

/* ---- paths as Express reads them ---- */

int stub_segments(struct span path, struct span *out, int max) {
    int count = 0;
    if (path.len == 0 || path.ptr[0] != '/')
        return -1;
    path = span_from(path, 1);
    if (path.len > 0 && path.ptr[path.len - 1] == '/')
        path.len--;
    while (path.len > 0) {
        const char *slash = memchr(path.ptr, '/', path.len);
        size_t len = slash ? (size_t)(slash - path.ptr) : path.len;
        if (count == max || len == 0)
            return -1;
        out[count++] = (struct span){path.ptr, len};
        path = slash ? span_from(path, len + 1) : SPAN_NONE;
    }
    return count;
}

static int hex_digit(char c) {
    const char *digits = "0123456789abcdef";
    const char *at = c ? strchr(digits, c | ((c >= 'A' && c <= 'F') ? 0x20 : 0)) : NULL;
    return at ? (int)(at - digits) : -1;
}

bool stub_decode(struct span text, char *out, size_t size) {
    size_t len = 0;
    for (size_t i = 0; i < text.len && len + 1 < size; i++) {
        int value = (unsigned char)text.ptr[i];
        if (value == '%') {
            int high = i + 2 < text.len ? hex_digit(text.ptr[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(text.ptr[i + 2]) : -1;
            if (low < 0)
                return false;
            value = high * 16 + low;
            i += 2;
        }
        out[len++] = (char)value;
    }
    out[len] = '\0';
    return true;
}

/* ---- life ---- */

bool stub_listen(struct stub *stub) {
    if (stub->data)
        return true;
    int fd = open_socket(stub->address, stub->port, true);
    stub->data = fd < 0 ? NULL : serve_on(stub, fd, on_request);
    return stub->data != NULL;
}

void stub_unlisten(struct stub *stub) {
    list_each_safe (at, &stub->calls)
        stub_call_free(container_of(at, struct call, link));
    if (stub->data)
        evhttp_free(stub->data);
    stub->data = NULL;
}

static void look_for_client(struct call *c) {
    if (!c->watched || !stub_call_client_left(c))
        return;
    stub_call_note_gone(c);
    if (c->at_work)
        stub_call_forsake(c);
    else if (!c->timer)
        stub_call_drop(c);
}

/* evhttp stops reading while a request waits, so somebody has to look for those who left: each is
 * looked at and goes to the end of the list. */
static void on_sweep(evutil_socket_t fd, short what, void *arg) {
    struct stub *stub = arg;
    (void)fd;
    (void)what;
    struct list looked;
    list_init(&looked);
    for (int i = 0; i < SWEEP_CALLS && !list_empty(&stub->calls); i++) {
        struct list *first = stub->calls.next;
        list_remove(first);
        list_push_back(&looked, first);
        look_for_client(container_of(first, struct call, link));
    }
    while (!list_empty(&looked)) {
        struct list *first = looked.next;
        list_remove(first);
        list_push_back(&stub->calls, first);
    }
}

static void on_stop(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    event_base_loopbreak(arg);
}

static void *run(void *arg) {
    struct stub *stub = arg;
    here = stub;
    event_base_dispatch(stub->base);
    return NULL;
}

/* No signal is ever handled in this thread; a write to a closed connection raises none either. */
static bool start_thread(struct stub *stub) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    stub->running = pthread_create(&stub->thread, NULL, run, stub) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return stub->running;
}

static void stub_free(struct stub *stub) {
    if (stub->running) {
        uint64_t one = 1;
        if (write(stub->stop_fd, &one, sizeof one) != sizeof one)
            panic(__FILE__, __LINE__, "cannot stop the stub");
        pthread_join(stub->thread, NULL);
    }
    stub_unlisten(stub);
    if (stub->control)
        evhttp_free(stub->control);
    if (stub->burners)
        stub_burners_free(stub->burners);
    if (stub->stop_event)
        event_free(stub->stop_event);
    if (stub->sweep)
        event_free(stub->sweep);
    if (stub->stop_fd >= 0)
        close(stub->stop_fd);
    if (stub->port_keeper >= 0)
        close(stub->port_keeper);
    if (stub->spare_fd >= 0)
        close(stub->spare_fd);
    if (stub->recordings)
        stub_recordings_free(stub->recordings);
    if (stub->agents)
        stub_agents_free(stub->agents);
    if (stub->log)
        stub_log_free(stub->log);
    if (stub->base)
        event_base_free(stub->base);
    free(stub->address);
    free(stub->secret);
    free(stub);
}

static const char *open_data_port(struct stub *stub, int port) {
    stub->port_keeper = open_socket(stub->address, port, false);
    if (stub->port_keeper < 0)
        return "cannot bind the stub's port";
    stub->port = port_of(stub->port_keeper);
    return stub_listen(stub) ? NULL : "cannot listen on the stub's port";
}

static const char *open_control_port(struct stub *stub, int port) {
    stub->control_port = -1;
    if (port < 0)
        return NULL;
    int fd = open_socket("127.0.0.1", port, true);
    if (fd < 0)
        return "cannot bind the stub's control port";
    stub->control_port = port_of(fd);
    stub->control = serve_on(stub, fd, stub_control_handle);
    return stub->control ? NULL : "cannot listen on the stub's control port";
}

static const char *open_loop(struct stub *stub, int processors) {
    static const struct timeval every = {.tv_usec = SWEEP_MS * 1000};
    stub->base = event_base_new();
    if (!stub->base || stub->stop_fd < 0)
        return "cannot make the stub's event loop";
    stub->stop_event = event_new(stub->base, stub->stop_fd, EV_READ, on_stop, stub->base);
    stub->sweep = event_new(stub->base, -1, EV_PERSIST, on_sweep, stub);
    if (!stub->stop_event || !stub->sweep || event_add(stub->stop_event, NULL) != 0 ||
        event_add(stub->sweep, &every) != 0)
        return "cannot watch the stub's event loop";
    stub->burners = stub_burners_new(stub->base, processors);
    return stub->burners ? NULL : "cannot start the stub's burning threads";
}

static const char *open_all(struct stub *stub, const struct stub_options *o) {
    const char *why = open_loop(stub, o->processors);
    if (!why && o->transcripts_dir)
        stub->recordings = stub_recordings_load(o->transcripts_dir, &why);
    if (!why)
        why = open_data_port(stub, o->port);
    if (!why)
        why = open_control_port(stub, o->control_port);
    if (!why && !start_thread(stub))
        why = "cannot start the stub's thread";
    return why;
}

static int agent_count(const struct stub_options *o) {
    if (o->agents <= 0)
        return AGENTS_DEFAULT;
    return o->agents > AGENTS_MAX ? AGENTS_MAX : o->agents;
}

struct stub *stub_start(const struct stub_options *o, const char **why) {
    struct stub *stub = must_zalloc(sizeof *stub);
    stub->address = must_strdup(o->address ? o->address : "127.0.0.1");
    stub->secret = must_strdup(o->jwt_secret ? o->jwt_secret : STUB_JWT_SECRET);
    stub->initial = (struct stub_set){.connect_cost_ms = o->connect_cost_ms,
                                      .bulk = o->bulk,
                                      .bulk_fail_status = 500,
                                      .token_ttl_s = o->token_ttl_s ? o->token_ttl_s : TOKEN_TTL_S};
    stub->set = stub->initial;
    stub->port_keeper = -1;
    stub->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    stub->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    stub->agents = stub_agents_new(agent_count(o));
    stub->log = stub_log_new();
    list_init(&stub->calls);
    *why = o->journal_file && !stub_log_keep(stub->log, o->journal_file)
               ? "the journal cannot be opened"
               : open_all(stub, o);
    if (!*why)
        return stub;
    stub_free(stub);
    return NULL;
}

void stub_stop(struct stub *stub) {
    if (stub)
        stub_free(stub);
}

int stub_port(const struct stub *stub) {
    return stub->port;
}

int stub_control_port(const struct stub *stub) {
    return stub->control_port;
}

void stub_counts(const struct stub *stub, struct stub_counts *out) {
#define X(name) out->name = atomic_load_explicit(&stub->counts.name, memory_order_relaxed);
    STUB_COUNT_ROWS(X)
#undef X
}
