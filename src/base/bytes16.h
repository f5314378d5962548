/* Sixteen bytes a step: what most of a head and of a body consists of is looked for whole. */
#pragma once

#include <stdint.h>
#include <string.h>

typedef uint8_t sixteen_bytes __attribute__((vector_size(16)));
typedef int8_t sixteen_truths __attribute__((vector_size(16)));

static inline sixteen_bytes sixteen_at(const char *at) {
    sixteen_bytes bytes;
    memcpy(&bytes, at, sizeof bytes);
    return bytes;
}

/* Of eight truths the first one that holds; there is one. */
static inline unsigned sixteen_half_first(uint64_t truths) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return (unsigned)__builtin_clzll(truths) / 8;
#else
    return (unsigned)__builtin_ctzll(truths) / 8;
#endif
}

/* Which of the sixteen is the first that holds; 16: none does. */
static inline unsigned sixteen_first(sixteen_truths truths) {
    uint64_t half[2];
    memcpy(half, &truths, sizeof half);
    if (half[0])
        return sixteen_half_first(half[0]);
    return half[1] ? 8 + sixteen_half_first(half[1]) : 16;
}

/* Printable ASCII but for quotes and backslashes: stands for itself in JSON, for every reader. */
static inline int is_plain(unsigned char b) {
    static const uint64_t plain[4] = {0xfffffffb00000000, 0x7fffffffefffffff, 0, 0};
    return plain[b >> 6] >> (b & 63) & 1;
}

/* The first byte in [at, end) that is not plain, or end. */
static inline const char *plain_end(const char *at, const char *end) {
    while (end - at >= 16) {
        sixteen_bytes bytes = sixteen_at(at);
        unsigned count =
            sixteen_first((bytes < 0x20) | (bytes >= 0x7f) | (bytes == '"') | (bytes == '\\'));
        at += count;
        if (count < 16)
            return at;
    }
    while (at < end && is_plain((unsigned char)*at))
        at++;
    return at;
}
