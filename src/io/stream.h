/* A byte stream over a non-blocking socket, plain or TLS, that costs one recv and one send.
 *
 *        socket --recv--> loop.cipher --SSL_read (many)--> loop.plain --> on_bytes
 *        socket <--send-- loop.out <----SSL_write (many)-- stream_write
 *
 * TLS runs over a BIO of our own: OpenSSL reads from the bytes of one recv and writes to the bytes
 * of one send, so a request costs two system calls and an idle stream holds no buffer. What the
 * kernel does not take is kept (`unsent`) until it does.
 *
 * Callbacks come only from the loop, never from inside a call on the stream, so no call can free
 * the stream under its caller. In a callback the owner may do anything, stream_close included. */
#pragma once

#include "base/span.h"
#include "io/loop.h"

#include <openssl/ssl.h>

enum stream_end {
    STREAM_EOF,        /* the peer has finished sending; we may still write */
    STREAM_TRUNCATED,  /* the same, but a TLS peer did not say so: anybody may have cut it off */
    STREAM_BROKEN,     /* reset, timed out by the kernel, refused */
    STREAM_TLS_FAILED, /* handshake or record failure, bad certificate */
};

struct stream_events {
    /* Connected, and the handshake (if any) is done. */
    void (*on_ready)(void *arg);
    /* Bytes received; valid during the call only and the owner's to overwrite meanwhile. */
    void (*on_bytes)(void *arg, char *bytes, size_t len);
    /* Everything written so far is with the kernel. Only after a write had to wait. */
    void (*on_drained)(void *arg);
    /* Once; after the peer's end once more, with STREAM_BROKEN, when a write fails. Nothing but
     * writing (after the peer's end) and stream_close makes sense afterwards. */
    void (*on_closed)(void *arg, enum stream_end end);
};

struct stream {
    struct loop *loop;
    SSL *ssl;
    const struct stream_events *on;
    void *arg;
    bool *gone; /* set while a callback runs: tells the caller that the stream was closed in it */
    int fd;
    bool connecting, handshaking, paused, shut;
    bool resumed; /* what came before or during the pause is to be read first */
    bool more;    /* inside stream_write_on */
    bool ended;   /* the peer's end was told */
    bool failed;  /* a write met an error; told from the loop */
    bool failed_told;
    struct span feed; /* received records OpenSSL has not read yet */
    char *held;       /* the same, kept while paused */
    size_t held_len;
    char *unsent;
    size_t unsent_at, unsent_len, unsent_cap;
    uint64_t sent; /* bytes the kernel has taken */
    struct event readable;
    struct event *writable; /* NULL until a write has to wait: idle ones are many */
};

/* Takes the accepted socket `fd`; `tls` NULL: plain. */
void stream_accept(struct stream *s, struct loop *loop, int fd, SSL_CTX *tls,
                   const struct stream_events *on, void *arg);

struct sockaddr;
/* Connects to `address`; with `tls` the peer's certificate must be for `host`. False when no socket
 * could be had (nothing to close then): errno says why. */
bool stream_connect(struct stream *s, struct loop *loop, const struct sockaddr *address,
                    unsigned int address_len, SSL_CTX *tls, const char *host,
                    const struct stream_events *on, void *arg);

/* The same for a non-blocking socket whose connect is under way (or done): for callers that bind it
 * to an address of their own first. Takes `fd`. */
void stream_connecting(struct stream *s, struct loop *loop, int fd, SSL_CTX *tls, const char *host,
                       const struct stream_events *on, void *arg);

/* Writes the pieces as if they were one: as few records as possible, one send. Never fails: an
 * error comes as on_closed. The caller keeps stream_unsent in bounds. */
void stream_write(struct stream *s, const struct span *pieces, size_t count);
/* The same when more is known to follow right away: the kernel fills packets first, and sends what
 * fills none after 200 ms at the latest. */
void stream_write_on(struct stream *s, const struct span *pieces, size_t count);
/* Bytes the kernel has not taken yet. */
size_t stream_unsent(const struct stream *s);
/* Bytes, since the beginning, that the peer's kernel has acknowledged: asks ours. */
uint64_t stream_delivered(const struct stream *s);

/* No on_bytes until resumed; at most LOOP_SCRATCH received bytes wait meanwhile. A peer that
 * leaves is not noticed while paused. */
void stream_pause(struct stream *s);
void stream_resume(struct stream *s);

/* For streams that may be silent for ever: has the kernel find out whether the peer is still there
 * (within two minutes), since nobody else will. */
void stream_keep_alive(struct stream *s);

/* Says goodbye: close_notify, and a FIN once everything is sent. */
void stream_shutdown(struct stream *s);
/* Closes at once and releases everything. Idempotent. */
void stream_close(struct stream *s);
/* Was the TLS session resumed? */
bool stream_resumed(const struct stream *s);
