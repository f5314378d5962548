#include "io/stream.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/panic.h"

#include <errno.h>
#include <event2/event.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    RECORD_MAX = 16384,          /* RFC 8446 section 5.1: plaintext of one record */
    REPLIES_UNSENT_MAX = 1 << 20 /* a peer whose key updates we answer but who reads nothing */
};

/* ---- the BIO: OpenSSL's side of a stream ---- */

static int bio_read(BIO *bio, char *out, int size) {
    struct stream *s = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (s->feed.len == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t n = (size_t)size < s->feed.len ? (size_t)size : s->feed.len;
    memcpy(out, s->feed.ptr, n);
    s->feed = span_from(s->feed, n);
    return (int)n;
}

/* Takes everything: the send happens when OpenSSL is done, so it never sees a full socket. */
static int bio_write(BIO *bio, const char *bytes, int size) {
    struct stream *s = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    str_add(&s->loop->out, (struct span){bytes, (size_t)size});
    return s->loop->out.overflow ? -1 : size;
}

static long bio_control(BIO *bio, int command, long number, void *pointer) {
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *bio_method;

static void make_bio_method(void) {
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stream");
    invariant(bio_method);
    BIO_meth_set_read(bio_method, bio_read);
    BIO_meth_set_write(bio_method, bio_write);
    BIO_meth_set_ctrl(bio_method, bio_control);
}

static SSL *make_ssl(struct stream *s, SSL_CTX *ctx) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_bio_method);
    SSL *ssl = SSL_new(ctx);
    BIO *bio = BIO_new(bio_method);
    invariant(ssl && bio);
    BIO_set_data(bio, s);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    return ssl;
}

/* ---- sending ---- */

static void watch_writable(struct stream *s) {
    event_add(&s->writable, NULL);
}

/* The error is told from the loop, so that nobody who writes is called back in the middle. */
static void fail_later(struct stream *s) {
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
        fail_later(s);
    return 0;
}

static void send_pieces(struct stream *s, const struct span *pieces, size_t count) {
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

/* Sends what OpenSSL has written; loop.out is empty between any two operations. */
static void flush_records(struct stream *s) {
    struct str *out = &s->loop->out;
    enum { KEEP = 262144 };
    if (out->len > 0)
        send_pieces(s, &(struct span){out->ptr, out->len}, 1);
    str_clear(out);
    if (out->cap > KEEP)
        str_release(out);
}

/* What is as large as this need not leave in one send. */
enum { RECORDS_AT_ONCE = 1 << 20 };

static void encrypt(struct stream *s, struct span bytes) {
    while (bytes.len > 0) {
        if (s->loop->out.len >= RECORDS_AT_ONCE)
            flush_records(s);
        size_t n = bytes.len < RECORD_MAX ? bytes.len : RECORD_MAX;
        if (SSL_write(s->ssl, bytes.ptr, (int)n) <= 0) {
            ERR_clear_error();
            fail_later(s);
            return;
        }
        bytes = span_from(bytes, n);
    }
}

/* Small pieces share a record; only what is needed to fill it is copied. */
static void encrypt_pieces(struct stream *s, const struct span *pieces, size_t count) {
    char record[RECORD_MAX];
    size_t filled = 0;
    for (size_t i = 0; i < count; i++) {
        struct span rest = pieces[i];
        if (filled > 0 || i + 1 < count) {
            size_t n = rest.len < RECORD_MAX - filled ? rest.len : RECORD_MAX - filled;
            if (n > 0)
                memcpy(record + filled, rest.ptr, n);
            filled += n;
            rest = span_from(rest, n);
        }
        if (rest.len > 0 || filled == RECORD_MAX) {
            encrypt(s, (struct span){record, filled});
            filled = 0;
            encrypt(s, rest);
        }
    }
    encrypt(s, (struct span){record, filled});
}

void stream_write(struct stream *s, const struct span *pieces, size_t count) {
    if (s->fd < 0 || s->failed || s->shut)
        return;
    if (!s->ssl) {
        send_pieces(s, pieces, count);
        return;
    }
    if (count == 1)
        encrypt(s, pieces[0]);
    else
        encrypt_pieces(s, pieces, count);
    flush_records(s);
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
    if (s->ssl && !s->handshaking && !s->failed) {
        SSL_shutdown(s->ssl);
        ERR_clear_error();
        flush_records(s);
    }
    s->shut = true;
    finish_shutdown(s);
}

/* ---- receiving ---- */

/* Each returns false when the stream was closed in the callback. */
static bool tell_bytes(struct stream *s, char *bytes, size_t len) {
    bool gone = false;
    s->gone = &gone;
    s->on->on_bytes(s->arg, bytes, len);
    if (!gone)
        s->gone = NULL;
    return !gone;
}

static bool tell_ready(struct stream *s) {
    bool gone = false;
    s->gone = &gone;
    s->on->on_ready(s->arg);
    if (!gone)
        s->gone = NULL;
    return !gone;
}

static void tell_closed(struct stream *s, enum stream_end end) {
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

/* What OpenSSL has not read while we are paused stays with the stream. */
static void hold_feed(struct stream *s) {
    struct span feed = s->feed;
    char *old = s->held;
    s->held = feed.len > 0 ? must_copy(feed.ptr, feed.len) : NULL;
    s->held_len = feed.len;
    s->feed = SPAN_NONE;
    free(old);
}

/* True when the handshake is over and the stream still there. */
static bool advance_handshake(struct stream *s) {
    int done = SSL_do_handshake(s->ssl);
    int error = done == 1 ? SSL_ERROR_NONE : SSL_get_error(s->ssl, done);
    flush_records(s);
    ERR_clear_error();
    if (error == SSL_ERROR_WANT_READ)
        return false;
    if (error != SSL_ERROR_NONE) {
        tell_closed(s, STREAM_TLS_FAILED);
        return false;
    }
    s->handshaking = false;
    return tell_ready(s);
}

/* Asking OpenSSL once more would cost as much as a record only to hear that there is none. */
static bool holds_nothing(const struct stream *s) {
    return s->feed.len == 0 && !SSL_has_pending(s->ssl);
}

/* Fills loop.plain from the records at hand. Returns the length; *end_seen when there is no more
 * to come, with *end. */
static size_t decrypt(struct stream *s, bool *end_seen, enum stream_end *end) {
    size_t filled = 0;
    while (filled < LOOP_SCRATCH) {
        int n = SSL_read(s->ssl, s->loop->plain + filled, (int)(LOOP_SCRATCH - filled));
        if (n > 0) {
            filled += (size_t)n;
            if (holds_nothing(s))
                break;
            continue;
        }
        int error = SSL_get_error(s->ssl, n);
        ERR_clear_error();
        if (error != SSL_ERROR_WANT_READ) {
            *end_seen = true;
            *end = error == SSL_ERROR_ZERO_RETURN ? STREAM_EOF : STREAM_TLS_FAILED;
        }
        break;
    }
    bool replied = s->loop->out.len > 0; /* to key updates, with alerts */
    flush_records(s);
    if (replied && s->unsent_len > REPLIES_UNSENT_MAX)
        fail_later(s);
    return filled;
}

static void read_records(struct stream *s) {
    if (s->handshaking && !advance_handshake(s))
        return;
    bool end_seen = false;
    enum stream_end end = STREAM_EOF;
    while (!s->paused && !end_seen) {
        size_t n = decrypt(s, &end_seen, &end);
        if (n > 0 && !tell_bytes(s, s->loop->plain, n))
            return;
        if (n < LOOP_SCRATCH)
            break;
    }
    if (end_seen && !s->paused) {
        tell_closed(s, end);
        return;
    }
    hold_feed(s);
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
            tell_closed(s, STREAM_BROKEN);
    } else if (n == 0) {
        tell_closed(s, bare_end(s));
    } else if (!s->ssl) {
        (void)tell_bytes(s, memory, (size_t)n);
    } else {
        s->feed = (struct span){memory, (size_t)n};
        read_records(s);
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
        read_records(s);
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
        tell_closed(s, STREAM_BROKEN);
        return;
    }
    s->connecting = false;
    event_add(&s->readable, NULL);
    if (s->ssl)
        (void)advance_handshake(s);
    else
        (void)tell_ready(s);
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
    event_assign(&s->writable, loop->base, fd, EV_WRITE, on_writable, s);
    /* Answers are one write each: there is nothing for Nagle to wait for. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

void stream_accept(struct stream *s, struct loop *loop, int fd, SSL_CTX *tls,
                   const struct stream_events *on, void *arg) {
    prepare(s, loop, fd, on, arg);
    if (tls) {
        s->ssl = make_ssl(s, tls);
        SSL_set_accept_state(s->ssl);
        s->handshaking = true;
    }
    event_add(&s->readable, NULL);
}

static void expect_host(SSL *ssl, const char *host) {
    struct in6_addr parsed;
    bool numeric = evutil_inet_pton(AF_INET, host, &parsed) == 1 ||
                   evutil_inet_pton(AF_INET6, host, &parsed) == 1;
    if (numeric) {
        X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host);
        return;
    }
    SSL_set1_host(ssl, host);
    /* The macro of that name casts const away. */
    SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, (void *)(uintptr_t)host);
}

void stream_connecting(struct stream *s, struct loop *loop, int fd, SSL_CTX *tls, const char *host,
                       const struct stream_events *on, void *arg) {
    prepare(s, loop, fd, on, arg);
    s->connecting = true;
    if (tls) {
        s->ssl = make_ssl(s, tls);
        SSL_set_connect_state(s->ssl);
        expect_host(s->ssl, host);
        s->handshaking = true;
    }
    watch_writable(s);
}

bool stream_connect(struct stream *s, struct loop *loop, const struct sockaddr *address,
                    unsigned int address_len, SSL_CTX *tls, const char *host,
                    const struct stream_events *on, void *arg) {
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    if (connect(fd, address, address_len) < 0 && errno != EINPROGRESS) {
        close(fd);
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
    event_del(&s->writable);
    SSL_free(s->ssl);
    s->ssl = NULL;
    free(s->held);
    free(s->unsent);
    s->held = s->unsent = NULL;
    s->held_len = s->unsent_len = 0;
    close(s->fd);
    s->fd = -1;
}

bool stream_resumed(const struct stream *s) {
    return s->ssl && SSL_session_reused(s->ssl);
}
