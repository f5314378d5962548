/* TLS contexts: what we promise to clients, what we demand of the controller. Records and sockets
 * are stream's business. */
#pragma once

#include "base/span.h"
#include "base/str.h"

#include <openssl/ssl.h>
#include <stdint.h>

enum { TLS_WHY = 256 };

/* For the data port, from PEM text: the certificate first, then its chain; the key that matches.
 * TLS 1.2 (ECDHE with AES-GCM or CHACHA20-POLY1305) and 1.3, one session ticket, no early data, no
 * renegotiation, ALPN http/1.1. NULL and a sentence in `why` on failure. */
SSL_CTX *tls_server_new(struct span certificate_pem, struct span key_pem, char why[TLS_WHY]);

/* OpenSSL's own version, such as "3.0.17": of the library that is there, not of what was compiled
 * against. Static. */
const char *tls_library_version(void);

/* When its certificate ends, seconds since 1970; 0: it has none. */
int64_t tls_server_expiry_s(const SSL_CTX *ctx);

/* For the controller: verifies its certificate against `ca_pem`, or against the system's
 * authorities when that is empty. */
SSL_CTX *tls_client_new(struct span ca_pem, char why[TLS_WHY]);

/* Presents a certificate (and its chain) to servers that want one. False and a sentence in `why`.
 */
bool tls_client_present(SSL_CTX *ctx, struct span certificate_pem, struct span key_pem,
                        char why[TLS_WHY]);

/* A certificate for `localhost`, 127.0.0.1 and ::1, valid for 30 days, made in memory: for the
 * demo. False when OpenSSL fails. */
bool tls_self_signed(struct str *certificate_pem, struct str *key_pem);
