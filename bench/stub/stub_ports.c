/* The stub's ports: bound once, so that nobody else gets them, and listening as long as it shall be
 * reached. */
#include "stub/parts.h"

#include <arpa/inet.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

enum { BACKLOG = 4096 /* a fleet's restart knocks all at once */ };

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

void stub_ports_enter(struct stub *stub) {
    here = stub;
}

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

static struct evhttp *serve_on(struct stub *stub, int fd, stub_handler *handle) {
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

/* ---- ports ---- */

bool stub_listen(struct stub *stub) {
    if (stub->data)
        return true;
    int fd = open_socket(stub->address, stub->port, true);
    stub->data = fd < 0 ? NULL : serve_on(stub, fd, stub->answer);
    return stub->data != NULL;
}

void stub_unlisten(struct stub *stub) {
    list_each_safe (at, &stub->calls)
        stub_call_free(container_of(at, struct call, link));
    if (stub->data)
        evhttp_free(stub->data);
    stub->data = NULL;
}

const char *stub_open_data_port(struct stub *stub, int port) {
    stub->port_keeper = open_socket(stub->address, port, false);
    if (stub->port_keeper < 0)
        return "cannot bind the stub's port";
    stub->port = port_of(stub->port_keeper);
    return stub_listen(stub) ? NULL : "cannot listen on the stub's port";
}

const char *stub_open_control_port(struct stub *stub, int port, stub_handler *handle) {
    stub->control_port = -1;
    if (port < 0)
        return NULL;
    int fd = open_socket("127.0.0.1", port, true);
    if (fd < 0)
        return "cannot bind the stub's control port";
    stub->control_port = port_of(fd);
    stub->control = serve_on(stub, fd, handle);
    return stub->control ? NULL : "cannot listen on the stub's control port";
}
