/* TLS over a stream's bytes: OpenSSL reads what one recv brought and writes what one send takes. */
#include "io/stream_inside.h"

#include "base/panic.h"

#include <event2/util.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <pthread.h>
#include <stdlib.h>

enum {
    RECORD_MAX = 16384,          /* RFC 8446 section 5.1: plaintext of one record */
    REPLIES_UNSENT_MAX = 1 << 20 /* a peer whose key updates we answer but who reads nothing */
};

/* ---- the BIO: OpenSSL's side ---- */

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

/* All streams of a loop share one: an idle stream has no use for it, and OpenSSL only reads and
 * writes while it is called. So whoever calls says first whose turn it is. */
static BIO *loop_bio(struct loop *loop) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_bio_method);
    if (!loop->bio) {
        loop->bio = BIO_new(bio_method);
        invariant(loop->bio);
        BIO_set_init(loop->bio, 1);
    }
    return loop->bio;
}

static SSL *make_ssl(struct stream *s, SSL_CTX *ctx) {
    SSL *ssl = SSL_new(ctx);
    BIO *bio = loop_bio(s->loop);
    invariant(ssl && BIO_up_ref(bio) == 1);
    SSL_set_bio(ssl, bio, bio);
    return ssl;
}

static void take_turn(struct stream *s) {
    BIO_set_data(s->loop->bio, s);
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

void stream_tls_begin(struct stream *s, SSL_CTX *tls, const char *host) {
    s->ssl = make_ssl(s, tls);
    s->handshaking = true;
    if (!host) {
        SSL_set_accept_state(s->ssl);
        return;
    }
    SSL_set_connect_state(s->ssl);
    expect_host(s->ssl, host);
}

/* ---- sending ---- */

/* Sends what OpenSSL has written; loop.out is empty between any two operations. */
static void flush_records(struct stream *s) {
    struct str *out = &s->loop->out;
    enum { KEEP = 262144 };
    if (out->len > 0)
        stream_send(s, &(struct span){out->ptr, out->len}, 1);
    str_clear(out);
    if (out->cap > KEEP)
        str_release(out);
}

/* What is as large as this need not leave in one send. */
enum { RECORDS_AT_ONCE = 1 << 20 };

static void encrypt(struct stream *s, struct span bytes) {
    take_turn(s);
    while (bytes.len > 0) {
        if (s->loop->out.len >= RECORDS_AT_ONCE)
            flush_records(s);
        size_t n = bytes.len < RECORD_MAX ? bytes.len : RECORD_MAX;
        if (SSL_write(s->ssl, bytes.ptr, (int)n) <= 0) {
            ERR_clear_error();
            stream_fail_later(s);
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

void stream_tls_write(struct stream *s, const struct span *pieces, size_t count) {
    if (count == 1)
        encrypt(s, pieces[0]);
    else
        encrypt_pieces(s, pieces, count);
    flush_records(s);
}

void stream_tls_say_goodbye(struct stream *s) {
    take_turn(s);
    SSL_shutdown(s->ssl);
    ERR_clear_error();
    flush_records(s);
}

/* ---- receiving ---- */

/* What OpenSSL has not read while we are paused stays with the stream. */
static void hold_feed(struct stream *s) {
    struct span feed = s->feed;
    char *old = s->held;
    s->held = feed.len > 0 ? must_copy(feed.ptr, feed.len) : NULL;
    s->held_len = feed.len;
    s->feed = SPAN_NONE;
    free(old);
}

bool stream_tls_shake_hands(struct stream *s) {
    take_turn(s);
    int done = SSL_do_handshake(s->ssl);
    int error = done == 1 ? SSL_ERROR_NONE : SSL_get_error(s->ssl, done);
    flush_records(s);
    ERR_clear_error();
    if (error == SSL_ERROR_WANT_READ)
        return false;
    if (error != SSL_ERROR_NONE) {
        stream_tell_closed(s, STREAM_TLS_FAILED);
        return false;
    }
    s->handshaking = false;
    return stream_tell_ready(s);
}

/* Asking OpenSSL once more would cost as much as a record only to hear that there is none. */
static bool holds_nothing(const struct stream *s) {
    return s->feed.len == 0 && !SSL_has_pending(s->ssl);
}

/* Fills loop.plain from the records at hand. Returns the length; *end_seen when there is no more
 * to come, with *end. */
static size_t decrypt(struct stream *s, bool *end_seen, enum stream_end *end) {
    size_t filled = 0;
    take_turn(s);
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
        stream_fail_later(s);
    return filled;
}

void stream_tls_read(struct stream *s) {
    if (s->handshaking && !stream_tls_shake_hands(s))
        return;
    bool end_seen = false;
    enum stream_end end = STREAM_EOF;
    while (!s->paused && !end_seen) {
        size_t n = decrypt(s, &end_seen, &end);
        if (n > 0 && !stream_tell_bytes(s, s->loop->plain, n))
            return;
        if (n < LOOP_SCRATCH)
            break;
    }
    if (end_seen && !s->paused) {
        stream_tell_closed(s, end);
        return;
    }
    hold_feed(s);
}

bool stream_resumed(const struct stream *s) {
    return s->ssl && SSL_session_reused(s->ssl);
}
