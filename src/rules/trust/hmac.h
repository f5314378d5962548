/* HMAC-SHA256 (RFC 2104), set up once for a key and made often: a token, a presented secret. Pure.
 *
 * A key is kept as what SHA-256 has come to behind its padded bytes, twice; they are as good as
 * the key to whoever reads them. */
#pragma once

#include "base/span.h"

#include <openssl/sha.h>
#include <stdint.h>

enum { HMAC_SIZE = 32 };

struct hmac_key {
    SHA256_CTX inner, outer;
};

/* A key of any length; an empty one is allowed here, and protects nothing. */
void hmac_key_set(struct hmac_key *k, struct span key);
void hmac_key_cleanse(struct hmac_key *k);

/* Of all parts, one after the other. */
void hmac_make(const struct hmac_key *k, const struct span *parts, size_t count,
               uint8_t out[HMAC_SIZE]);
