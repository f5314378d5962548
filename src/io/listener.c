#include "io/listener.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/panic.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    ACCEPTS_PER_TURN = 64, /* then the connections we have get their turn */
    REST_MS = 100,         /* without descriptors: how long the listener rests */
    HEALED_MS = 10000, /* so long without being starved is worth a line, and the next one, too */
    BACKLOG = 4096,
};

struct listener {
    struct event readable;
    int fd;
    /* Given up when descriptors run out, so that one client can be taken and turned away instead
     * of waiting in the queue, waking us for ever. */
    int spare_fd;
    bool starved;
    int64_t starved_ms; /* the last time */
    struct timer rest;
    void (*on_accept)(void *arg, int fd, const struct sockaddr *peer, socklen_t peer_len);
    void *arg;
};

static int open_spare(void) {
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void turn_one_away(struct listener *l) {
    if (l->spare_fd >= 0) {
        close(l->spare_fd);
        int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) {
            close(fd);
            metric_add(METRIC_REFUSED_DESCRIPTORS, 1);
        }
    }
    l->spare_fd = open_spare();
}

static void starve(struct listener *l, int error) {
    if (!l->starved)
        log_error("no descriptors left, connections are refused; raise the limit of open files",
                  F_TEXT("error", strerror(error)));
    l->starved = true;
    l->starved_ms = clock_mono_ms();
    turn_one_away(l);
    event_del(&l->readable);
    timer_start(&l->rest, REST_MS);
}

static void on_rest_over(void *arg) {
    struct listener *l = arg;
    event_add(&l->readable, NULL);
}

/* At the edge every other client finds a place: that is still being starved. */
static void note_accepted(struct listener *l) {
    if (!l->starved || clock_mono_ms() - l->starved_ms < HEALED_MS)
        return;
    l->starved = false;
    log_info("descriptors are free again", F_NONE);
}

static bool out_of_resources(int error) {
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

/* False when nobody is waiting, or nobody can be taken. */
static bool accept_one(struct listener *l) {
    struct sockaddr_storage peer;
    socklen_t len = sizeof peer;
    int fd = accept4(l->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        note_accepted(l);
        l->on_accept(l->arg, fd, (struct sockaddr *)&peer, len);
        return true;
    }
    int error = errno;
    if (out_of_resources(error))
        starve(l, error);
    return error == ECONNABORTED || error == EINTR; /* that one's trouble */
}

static void accept_up_to(struct listener *l, int most) {
    while (most-- > 0 && accept_one(l)) {
    }
}

static void on_readable(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    accept_up_to(arg, ACCEPTS_PER_TURN);
}

struct listener *listener_new(struct loop *loop, int listen_fd,
                              void (*on_accept)(void *arg, int fd, const struct sockaddr *peer,
                                                socklen_t peer_len),
                              void *arg) {
    struct listener *l = must_zalloc(sizeof *l);
    *l = (struct listener){
        .fd = listen_fd, .spare_fd = open_spare(), .on_accept = on_accept, .arg = arg};
    timer_init(&l->rest, loop, on_rest_over, l);
    event_assign(&l->readable, loop->base, listen_fd, EV_READ | EV_PERSIST, on_readable, l);
    event_add(&l->readable, NULL);
    return l;
}

void listener_finish(struct listener *l) {
    if (!l)
        return;
    accept_up_to(l, BACKLOG);
    listener_free(l);
}

void listener_free(struct listener *l) {
    if (!l)
        return;
    event_del(&l->readable);
    timer_stop(&l->rest);
    close(l->fd);
    if (l->spare_fd >= 0)
        close(l->spare_fd);
    free(l);
}

static bool fill_address(const char *address, int port, struct sockaddr_storage *out,
                         socklen_t *len) {
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, address, &v4.sin_addr) == 1) {
        memcpy(out, &v4, *len = sizeof v4);
        return true;
    }
    if (inet_pton(AF_INET6, address, &v6.sin6_addr) == 1) {
        memcpy(out, &v6, *len = sizeof v6);
        return true;
    }
    return false;
}

int listener_port(int fd) {
    union {
        struct sockaddr_in6 v6;
        struct sockaddr_in v4;
        struct sockaddr any;
    } at = {0};
    socklen_t len = sizeof at;
    if (getsockname(fd, &at.any, &len) < 0)
        return 0;
    return ntohs(at.any.sa_family == AF_INET6 ? at.v6.sin6_port : at.v4.sin_port);
}

/* SO_REUSEPORT would let a second gateway of the same user in silently. */
static bool port_is_free(const struct sockaddr_storage *at, socklen_t len) {
    int fd = socket(at->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_free = fd >= 0 &&
                   setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) == 0 &&
                   bind(fd, (const struct sockaddr *)at, len) == 0;
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    return is_free;
}

int listener_socket(const char *address, int port, bool first, int *bound_port, char why[256]) {
    struct sockaddr_storage at = {0};
    socklen_t len;
    if (!fill_address(address, port, &at, &len)) {
        (void)snprintf(why, 256, "\"%s\" is not a numeric address", address);
        return -1;
    }
    int fd = socket(at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;
    if (fd < 0 || (first && !port_is_free(&at, len)) ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) < 0 ||
        bind(fd, (struct sockaddr *)&at, len) < 0 || listen(fd, BACKLOG) < 0) {
        (void)snprintf(why, 256, "cannot listen on %s port %d: %s", address, port, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    *bound_port = listener_port(fd);
    return fd;
}

bool listener_is_at(int fd, const char *address, int port) {
    struct sockaddr_storage wanted = {0}, at = {0};
    socklen_t wanted_len = 0, len = sizeof at, listens_len = sizeof(int);
    int listens = 0;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &listens_len) < 0 || !listens ||
        getsockname(fd, (struct sockaddr *)&at, &len) < 0)
        return false;
    int bound = listener_port(fd);
    return (port == 0 || port == bound) && fill_address(address, bound, &wanted, &wanted_len) &&
           wanted_len == len && memcmp(&wanted, &at, len) == 0;
}
