/* Sealing: what may leave our memory, so that nobody who lacks a key can read or change it.
 *
 * AES-256-GCM (NIST SP 800-38D) under a key of one purpose: each purpose has a label of its own, so
 * that no sealed bytes are ever of use elsewhere. Sealed are: a fresh random nonce, the ciphertext,
 * the tag. A random nonce bounds how much one key may seal: 2^32 messages; whoever seals more
 * derives a new key now and then. */
#pragma once

#include "base/span.h"

#include <stdint.h>

enum {
    SEAL_KEY = 32,
    SEAL_NONCE = 12,
    SEAL_TAG = 16,
    SEAL_EXTRA = SEAL_NONCE + SEAL_TAG, /* sealed bytes are longer by these */
    SEAL_HMAC = 32,
};

/* HMAC-SHA256 (RFC 2104) of all parts, one after the other. */
void seal_hmac(struct span key, const struct span *parts, size_t count, uint8_t out[SEAL_HMAC]);

/* Writes text.len + SEAL_EXTRA bytes. `facts` (`fact_count` parts) are not in them, but vouched
 * for. */
void seal_close(const uint8_t key[SEAL_KEY], const struct span *facts, size_t fact_count,
                struct span text, uint8_t *out);

/* The same under a key that is used time and again; each thread remembers the last one. */
void seal_close_again(const uint8_t key[SEAL_KEY], const struct span *facts, size_t fact_count,
                      struct span text, uint8_t *out);

/* Writes sealed.len - SEAL_EXTRA bytes. False: another key, other facts, or tampered with; `out` is
 * cleansed then. */
bool seal_open(const uint8_t key[SEAL_KEY], const struct span *facts, size_t fact_count,
               struct span sealed, char *out);
