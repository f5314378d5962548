/* A span borrows a run of bytes: a pointer and a length, no terminator, no ownership.
 * Whoever holds the bytes decides how long a span lives. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
    const char *ptr;
    size_t len;
};

/* The quotes before it refuse what is no literal: its size would be a pointer's. */
#define SPAN(literal) ((struct span){"" literal, sizeof("" literal) - 1})
#define SPAN_NONE     ((struct span){NULL, 0})
/* For printf's "%.*s". */
#define SPAN_ARG(s) (int)(s).len, (s).ptr ? (s).ptr : ""

static inline struct span span_of(const char *zero_terminated) {
    return (struct span){zero_terminated, zero_terminated ? strlen(zero_terminated) : 0};
}

static inline bool span_equal(struct span a, struct span b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* ASCII case only: field names, schemes, path segments. */
static inline bool span_equal_nocase(struct span a, struct span b) {
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++) {
        unsigned char x = (unsigned char)a.ptr[i], y = (unsigned char)b.ptr[i];
        if (x != y && ((x | 0x20) != (y | 0x20) || (x | 0x20) < 'a' || (x | 0x20) > 'z'))
            return false;
    }
    return true;
}

static inline bool span_starts(struct span s, struct span prefix) {
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

static inline struct span span_from(struct span s, size_t offset) {
    return offset >= s.len ? SPAN_NONE : (struct span){s.ptr + offset, s.len - offset};
}

/* Without leading and trailing spaces and tabs (RFC 9110 section 5.6.3, OWS). */
static inline struct span span_trim(struct span s) {
    while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t')) {
        s.ptr++;
        s.len--;
    }
    while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

/* The number that 1 to `most` digits spell (at most 18: it always fits), or -1: no sign, no space,
 * nothing else. */
static inline int64_t span_decimal(struct span digits, size_t most) {
    if (digits.len == 0 || digits.len > most)
        return -1;
    int64_t value = 0;
    for (size_t i = 0; i < digits.len; i++) {
        if (digits.ptr[i] < '0' || digits.ptr[i] > '9')
            return -1;
        value = value * 10 + (digits.ptr[i] - '0');
    }
    return value;
}
