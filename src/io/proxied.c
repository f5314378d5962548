#include "io/proxied.h"

#include "base/panic.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct proxied {
    struct event readable;
    int fd;
    void (*done)(void *arg, const struct proxy_protocol *said);
    void *arg;
    size_t have, want; /* bytes of the header; `want` as far as it is known */
    char header[PROXY_PROTOCOL_MAX];
};

enum reading { READ_MORE, READ_WHOLE, READ_FAILED };

/* The rest of what is wanted, if it is there. */
static enum reading read_wanted(struct proxied *p) {
    while (p->have < p->want) {
        ssize_t n = recv(p->fd, p->header + p->have, p->want - p->have, 0);
        if (n > 0)
            p->have += (size_t)n;
        else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return READ_MORE;
        else if (n == 0 || errno != EINTR)
            return READ_FAILED;
    }
    return READ_WHOLE;
}

static enum reading read_header(struct proxied *p) {
    enum reading result = read_wanted(p);
    if (result != READ_WHOLE || p->want > PROXY_PROTOCOL_FIXED)
        return result;
    p->want = proxy_protocol_length((const uint8_t *)p->header);
    return p->want == 0 ? READ_FAILED : read_wanted(p);
}

static void on_readable(evutil_socket_t fd, short what, void *arg) {
    struct proxied *p = arg;
    struct proxy_protocol said;
    (void)fd;
    (void)what;
    enum reading result = read_header(p);
    if (result == READ_MORE)
        return;
    event_del(&p->readable);
    bool fine =
        result == READ_WHOLE && proxy_protocol_parse((struct span){p->header, p->have}, &said);
    p->done(p->arg, fine ? &said : NULL);
}

struct proxied *proxied_new(struct loop *loop, int fd,
                            void (*done)(void *arg, const struct proxy_protocol *said), void *arg) {
    struct proxied *p = must_alloc(sizeof *p);
    p->fd = fd;
    p->done = done;
    p->arg = arg;
    p->have = 0;
    p->want = PROXY_PROTOCOL_FIXED;
    event_assign(&p->readable, loop->base, fd, EV_READ | EV_PERSIST, on_readable, p);
    event_add(&p->readable, NULL);
    return p;
}

int proxied_take(struct proxied *p) {
    int fd = p->fd;
    event_del(&p->readable);
    free(p);
    return fd;
}

void proxied_free(struct proxied *p) {
    if (p)
        close(proxied_take(p));
}
