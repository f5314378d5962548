/* Keys of TLS session tickets. They outlive a reload's certificates, so that a renewed certificate
 * does not cost a fleet full handshakes; replicas may share them. Thread safe. */
#pragma once

#include "rules/trust/ticket_keys.h"

#include <openssl/ssl.h>

struct tickets;

/* One random key. */
struct tickets *tickets_new(void);
/* After the last SSL_CTX that uses it. NULL is fine. */
void tickets_free(struct tickets *t);

/* These, newest first, instead of what there was. */
void tickets_set(struct tickets *t, const struct ticket_key *keys, size_t count);
/* A new random key makes tickets from now on; the two before it still open them. */
void tickets_rotate(struct tickets *t);

/* Has `ctx` (a server's) make and open tickets with these keys. */
void tickets_use(struct tickets *t, SSL_CTX *ctx);
