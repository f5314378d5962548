#include "io/stream_inside.h"

#include "base/clock.h"
#include "base/panic.h"

#include <errno.h>
#include <event2/event.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- sending ---- */

static void on_writable(evutil_socket_t fd, short what, void *arg);

static void watch_writable(struct stream *s) {
    if (!s->writable)
        s->writable = event_new(s->loop->base, s->fd, EV_WRITE, on_writable, s);
    invariant(s->writable);
    event_add(s->writable, NULL);
}

/* The error is told from the loop, so that nobody who writes is called back in the middle. */
void stream_fail_later(struct stream *s) {
    if (s->failed)
        return;
    s->failed = true;
    event_active(&s->readable, EV_READ, 1);
}

static void keep_unsent(struct stream *s, struct span rest) {
    size_t need = s->unsent_at + s->unsent_len + rest.len;
    if (need > s->unsent_cap && s->unsent_at > 0) {
        memmove(s->unsent, s->unsent + s->unsent_at, s->unsent_len);
        need -= s->unsent_at;
        s->unsent_at = 0;
    }
    if (need > s->unsent_cap) {
        s->unsent_cap = need + need / 2;
        s->unsent = must_realloc(s->unsent, s->unsent_cap);
    }
    memcpy(s->unsent + s->unsent_at + s->unsent_len, rest.ptr, rest.len);
    s->unsent_len += rest.len;
}

/* How much of `bytes` the kernel took; 0 also on failure. */
static size_t send_now(struct stream *s, struct iovec *vector, int count) {
    struct msghdr message = {.msg_iov = vector, .msg_iovlen = (size_t)count};
    int flags = s->more ? MSG_NOSIGNAL | MSG_MORE : MSG_NOSIGNAL;
    ssize_t n;
    do
        n = count == 1 ? send(s->fd, vector->iov_base, vector->iov_len, flags)
                       : sendmsg(s->fd, &message, flags);
    while (n < 0 && errno == EINTR);
    if (n >= 0) {
        s->sent += (uint64_t)n;
        return (size_t)n;
    }
    if (errno != EAGAIN && errno != EWOULDBLOCK)
        stream_fail_later(s);
    return 0;
}

void stream_send(struct stream *s, const struct span *pieces, size_t count) {
    enum { PIECES_MAX = 4 };
    invariant(count <= PIECES_MAX);
    size_t sent = 0;
    if (s->unsent_len == 0 && !s->failed && !s->connecting) {
        struct iovec vector[PIECES_MAX];
        for (size_t i = 0; i < count; i++)
            vector[i] = (struct iovec){(void *)(uintptr_t)pieces[i].ptr, pieces[i].len};
        sent = send_now(s, vector, (int)count);
    }
    if (s->failed)
        return;
    for (size_t i = 0; i < count; i++) {
        if (sent >= pieces[i].len) {
            sent -= pieces[i].len;
            continue;
        }
        keep_unsent(s, span_from(pieces[i], sent));
        sent = 0;
    }
    if (s->unsent_len > 0)
        watch_writable(s);
}

void stream_write(struct stream *s, const struct span *pieces, size_t count) {
    if (s->fd < 0 || s->failed || s->shut)
        return;
    if (s->ssl)
        stream_tls_write(s, pieces, count);
    else
        stream_send(s, pieces, count);
}

void stream_write_on(struct stream *s, const struct span *pieces, size_t count) {
    s->more = true;
    stream_write(s, pieces, count);
    s->more = false;
}

size_t stream_unsent(const struct stream *s) {
    return s->unsent_len;
}

uint64_t stream_delivered(const struct stream *s) {
    int waiting = 0;
    if (s->fd < 0 || ioctl(s->fd, SIOCOUTQ, &waiting) < 0 || waiting < 0)
        return s->sent;
    return s->sent - (uint64_t)waiting;
}

static void finish_shutdown(struct stream *s) {
    if (s->shut && s->unsent_len == 0 && s->fd >= 0)
        shutdown(s->fd, SHUT_WR);
}

void stream_shutdown(struct stream *s) {
    if (s->fd < 0 || s->shut)
        return;
    if (s->ssl && !s->handshaking && !s->failed)
        stream_tls_say_goodbye(s);
    s->shut = true;
    finish_shutdown(s);
}

/* ---- receiving ---- */

bool stream_tell_bytes(struct stream *s, char *bytes, size_t len) {
    bool gone = false;
    s->gone = &gone;
    s->on->on_bytes(s->arg, bytes, len);
    if (!gone)
        s->gone = NULL;
    return !gone;
}

bool stream_tell_ready(struct stream *s) {
    bool gone = false;
    s->gone = &gone;
    s->on->on_ready(s->arg);
    if (!gone)
        s->gone = NULL;
    return !gone;
}

void stream_tell_closed(struct stream *s, enum stream_end end) {
    if (s->ended)
        return;
    s->ended = true;
    s->failed_told = end == STREAM_BROKEN;
    event_del(&s->readable);
    s->on->on_closed(s->arg, end);
}

static void tell_failed(struct stream *s) {
    if (s->failed_told)
        return;
    s->ended = s->failed_told = true;
    event_del(&s->readable);
    s->on->on_closed(s->arg, STREAM_BROKEN);
}

/* How a stream without close_notify ends. HTTP's own framing tells whether something was cut short,
 * except where the end is the framing (RFC 9112 section 9.8). */
static enum stream_end bare_end(const struct stream *s) {
    if (s->handshaking)
        return STREAM_TLS_FAILED;
    return s->ssl ? STREAM_TRUNCATED : STREAM_EOF;
}

static bool try_again(int error) {
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

static void receive(struct stream *s) {
    char *memory = s->ssl ? s->loop->cipher : s->loop->plain;
    ssize_t n = recv(s->fd, memory, LOOP_SCRATCH, 0);
    if (n <= 0 && s->failed) {
        tell_failed(s);
    } else if (n < 0) {
        if (!try_again(errno))
            stream_tell_closed(s, STREAM_BROKEN);
    } else if (n == 0) {
        stream_tell_closed(s, bare_end(s));
    } else if (!s->ssl) {
        (void)stream_tell_bytes(s, memory, (size_t)n);
    } else {
        s->feed = (struct span){memory, (size_t)n};
        stream_tls_read(s);
    }
}

static void read_on(struct stream *s) {
    if (s->failed && (s->paused || s->ended)) {
        tell_failed(s);
        return;
    }
    if (s->paused || s->ended)
        return;
    /* What the peer said before it stopped listening is still heard: an early answer, say. */
    if (s->failed)
        event_active(&s->readable, EV_READ, 1);
    if (s->resumed) {
        s->resumed = false;
        s->feed = (struct span){s->held, s->held_len};
        stream_tls_read(s);
        return;
    }
    receive(s);
}

static void on_readable(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    clock_hold();
    read_on(arg);
    clock_release();
}

static void on_connected(struct stream *s) {
    int error = 0;
    socklen_t len = sizeof error;
    getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (error != 0) {
        stream_tell_closed(s, STREAM_BROKEN);
        return;
    }
    s->connecting = false;
    event_add(&s->readable, NULL);
    if (s->ssl)
        (void)stream_tls_shake_hands(s);
    else
        (void)stream_tell_ready(s);
}

static void on_writable(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    struct stream *s = arg;
    if (s->connecting) {
        on_connected(s);
        return;
    }
    struct iovec rest = {s->unsent + s->unsent_at, s->unsent_len};
    size_t n = send_now(s, &rest, 1);
    s->unsent_at += n;
    s->unsent_len -= n;
    if (s->failed)
        return;
    if (s->unsent_len > 0) {
        watch_writable(s);
        return;
    }
    free(s->unsent);
    s->unsent = NULL;
    s->unsent_at = s->unsent_cap = 0;
    finish_shutdown(s);
    s->on->on_drained(s->arg);
}

void stream_pause(struct stream *s) {
    if (s->paused || s->fd < 0)
        return;
    s->paused = true;
    event_del(&s->readable);
    if (s->failed)
        event_active(&s->readable, EV_READ, 1);
}

void stream_resume(struct stream *s) {
    if (!s->paused || s->fd < 0)
        return;
    s->paused = false;
    if (s->ended)
        return;
    event_add(&s->readable, NULL);
    if (!s->ssl)
        return;
    /* Records, or the peer's close_notify, may have been received already. */
    s->resumed = true;
    event_active(&s->readable, EV_READ, 1);
}

/* ---- life ---- */

static void prepare(struct stream *s, struct loop *loop, int fd, const struct stream_events *on,
                    void *arg) {
    *s = (struct stream){.loop = loop, .fd = fd, .on = on, .arg = arg};
    event_assign(&s->readable, loop->base, fd, EV_READ | EV_PERSIST, on_readable, s);
    /* Answers are one write each: there is nothing for Nagle to wait for. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

void stream_accept(struct stream *s, struct loop *loop, int fd, SSL_CTX *tls,
                   const struct stream_events *on, void *arg) {
    prepare(s, loop, fd, on, arg);
    if (tls)
        stream_tls_begin(s, tls, NULL);
    event_add(&s->readable, NULL);
}

void stream_connecting(struct stream *s, struct loop *loop, int fd, SSL_CTX *tls, const char *host,
                       const struct stream_events *on, void *arg) {
    prepare(s, loop, fd, on, arg);
    s->connecting = true;
    if (tls)
        stream_tls_begin(s, tls, host);
    watch_writable(s);
}

bool stream_connect(struct stream *s, struct loop *loop, const struct sockaddr *address,
                    unsigned int address_len, SSL_CTX *tls, const char *host,
                    const struct stream_events *on, void *arg) {
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    if (connect(fd, address, address_len) < 0 && errno != EINPROGRESS) {
        int error = errno;
        close(fd);
        errno = error;
        return false;
    }
    stream_connecting(s, loop, fd, tls, host, on, arg);
    return true;
}

void stream_keep_alive(struct stream *s) {
    enum { QUIET_S = 60, PROBE_S = 10, PROBES = 6 };
    setsockopt(s->fd, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int));
    setsockopt(s->fd, IPPROTO_TCP, TCP_KEEPIDLE, &(int){QUIET_S}, sizeof(int));
    setsockopt(s->fd, IPPROTO_TCP, TCP_KEEPINTVL, &(int){PROBE_S}, sizeof(int));
    setsockopt(s->fd, IPPROTO_TCP, TCP_KEEPCNT, &(int){PROBES}, sizeof(int));
}

void stream_close(struct stream *s) {
    if (s->fd < 0)
        return;
    if (s->gone)
        *s->gone = true;
    s->gone = NULL;
    event_del(&s->readable);
    if (s->writable)
        event_free(s->writable);
    s->writable = NULL;
    SSL_free(s->ssl);
    s->ssl = NULL;
    free(s->held);
    free(s->unsent);
    s->held = s->unsent = NULL;
    s->held_len = s->unsent_len = 0;
    close(s->fd);
    s->fd = -1;
}
