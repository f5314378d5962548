/* What io/stream*.c share: bytes and events on one side, TLS on the other. */
#pragma once

#include "io/stream.h"

/* ---- stream.c: the socket and the owner ---- */

/* As they are; what the kernel does not take is kept. At most 4 pieces. */
void stream_send(struct stream *s, const struct span *pieces, size_t count);
/* The error is told from the loop, so that nobody who writes is called back in the middle. */
void stream_fail_later(struct stream *s);
/* Each returns false when the stream was closed in the callback. */
bool stream_tell_bytes(struct stream *s, char *bytes, size_t len);
bool stream_tell_ready(struct stream *s);
void stream_tell_closed(struct stream *s, enum stream_end end);

/* ---- stream_tls.c ---- */

/* `host` NULL: as a server; else as a client that expects this name or address. */
void stream_tls_begin(struct stream *s, SSL_CTX *tls, const char *host);
/* True when the handshake is over and the stream still there. */
bool stream_tls_shake_hands(struct stream *s);
void stream_tls_write(struct stream *s, const struct span *pieces, size_t count);
/* close_notify */
void stream_tls_say_goodbye(struct stream *s);
/* The records in s->feed, as far as the stream is not paused: the rest is held. */
void stream_tls_read(struct stream *s);
