/* On libcrypto's SHA-256 itself. Its EVP interface reaches the same code, but allocates and copies
 * contexts on the way to it: EVP_MAC took twice as long as the hashing of a whole token. These
 * functions are called deprecated since 3.0, and are there in every 3.x. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "rules/hmac.h"

#include "base/panic.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

static void add(SHA256_CTX *c, const void *bytes, size_t len) {
    invariant(SHA256_Update(c, bytes, len) == 1);
}

static void end(SHA256_CTX *c, uint8_t out[HMAC_SIZE]) {
    invariant(SHA256_Final(out, c) == 1);
}

/* The state behind a block of the key, each byte of it mixed with `pad`. */
static void set_half(uint32_t state[8], const uint8_t key[SHA256_CBLOCK], uint8_t pad) {
    uint8_t block[SHA256_CBLOCK];
    SHA256_CTX c;
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = key[i] ^ pad;
    invariant(SHA256_Init(&c) == 1);
    add(&c, block, sizeof block);
    for (size_t i = 0; i < 8; i++)
        state[i] = (uint32_t)c.h[i];
    OPENSSL_cleanse(block, sizeof block);
    OPENSSL_cleanse(&c, sizeof c);
}

void hmac_key_set(struct hmac_key *k, struct span key) {
    uint8_t block[SHA256_CBLOCK] = {0};
    if (key.len > sizeof block) {
        SHA256_CTX c;
        invariant(SHA256_Init(&c) == 1);
        add(&c, key.ptr, key.len);
        end(&c, block);
    } else if (key.len > 0) {
        memcpy(block, key.ptr, key.len);
    }
    set_half(k->inner, block, 0x36);
    set_half(k->outer, block, 0x5c);
    OPENSSL_cleanse(block, sizeof block);
}

void hmac_key_cleanse(struct hmac_key *k) {
    OPENSSL_cleanse(k, sizeof *k);
}

/* As set_half left it: one block has gone in. */
static void begin(SHA256_CTX *c, const uint32_t state[8]) {
    invariant(SHA256_Init(c) == 1);
    for (size_t i = 0; i < 8; i++)
        c->h[i] = state[i];
    c->Nl = SHA256_CBLOCK * 8; /* bits */
}

void hmac_make(const struct hmac_key *k, const struct span *parts, size_t count,
               uint8_t out[HMAC_SIZE]) {
    SHA256_CTX c;
    begin(&c, k->inner);
    for (size_t i = 0; i < count; i++)
        if (parts[i].len > 0)
            add(&c, parts[i].ptr, parts[i].len);
    end(&c, out);
    begin(&c, k->outer);
    add(&c, out, HMAC_SIZE);
    end(&c, out); /* which cleanses what c holds of the text */
}
