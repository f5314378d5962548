/* Makes tokens for tests, good and bad ones: any header, any claims, any key. */
#pragma once

#include "base/span.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#define MINT_SECRET "aiwm-local-test-secret-0123456789abcdef"
#define MINT_HEADER "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"

/* Appends base64url without padding at `to`; returns the new end. */
static inline char *mint_base64url(char *to, const void *bytes, size_t len) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const unsigned char *from = bytes;
    for (size_t i = 0; i < len; i += 3) {
        unsigned left = len - i > 2 ? 3 : (unsigned)(len - i);
        unsigned bits = (unsigned)from[i] << 16;
        bits |= left > 1 ? (unsigned)from[i + 1] << 8 : 0;
        bits |= left > 2 ? (unsigned)from[i + 2] : 0;
        for (unsigned k = 0; k <= left; k++)
            *to++ = digits[bits >> (18 - 6 * k) & 63];
    }
    return to;
}

/* Signs header and claims as they are with the digest named; `out` has room for
 * 4/3 of both and 100 bytes. */
static inline struct span mint_any(char *out, struct span header, struct span claims,
                                   struct span secret, const char *digest) {
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned mac_len = 0;
    char *end = mint_base64url(out, header.ptr, header.len);
    *end++ = '.';
    end = mint_base64url(end, claims.ptr, claims.len);
    HMAC(EVP_get_digestbyname(digest), secret.ptr, (int)secret.len, (const unsigned char *)out,
         (size_t)(end - out), mac, &mac_len);
    *end++ = '.';
    end = mint_base64url(end, mac, mac_len);
    return (struct span){out, (size_t)(end - out)};
}

static inline struct span mint(char *out, const char *claims) {
    return mint_any(out, SPAN(MINT_HEADER), span_of(claims), SPAN(MINT_SECRET), "SHA256");
}
