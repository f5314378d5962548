/* On libcrypto's SHA-256 itself. Its EVP interface reaches the same code, but allocates and copies
 * contexts on the way to it: EVP_MAC took twice as long as the hashing of a whole token. These
 * functions are called deprecated since 3.0, and are there in every 3.x. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "rules/trust/hmac.h"

#include "base/panic.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

static void add(SHA256_CTX *c, const void *bytes, size_t len) {
    invariant(SHA256_Update(c, bytes, len) == 1);
}

static void end(SHA256_CTX *c, uint8_t out[HMAC_SIZE]) {
    invariant(SHA256_Final(out, c) == 1);
}

/* What SHA-256 has come to behind a block of the key, each byte of it mixed with `pad`. */
static void set_half(SHA256_CTX *half, const uint8_t key[SHA256_CBLOCK], uint8_t pad) {
    uint8_t block[SHA256_CBLOCK];
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = key[i] ^ pad;
    invariant(SHA256_Init(half) == 1);
    add(half, block, sizeof block);
    OPENSSL_cleanse(block, sizeof block);
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
    set_half(&k->inner, block, 0x36);
    set_half(&k->outer, block, 0x5c);
    OPENSSL_cleanse(block, sizeof block);
}

void hmac_key_cleanse(struct hmac_key *k) {
    OPENSSL_cleanse(k, sizeof *k);
}

void hmac_make(const struct hmac_key *k, const struct span *parts, size_t count,
               uint8_t out[HMAC_SIZE]) {
    SHA256_CTX c = k->inner;
    for (size_t i = 0; i < count; i++)
        if (parts[i].len > 0)
            add(&c, parts[i].ptr, parts[i].len);
    end(&c, out);
    c = k->outer;
    add(&c, out, HMAC_SIZE);
    end(&c, out); /* which cleanses what c holds of the text */
}
