/* What a byte may be in HTTP: one table, and the loops over it. Private to rules/http*.c. */
#pragma once

#include "base/span.h"

#include <stdint.h>

enum {
    CHAR_TEXT = 1,  /* field values and reasons: SP, HTAB, VCHAR, obs-text (RFC 9110 section 5.5) */
    CHAR_TOKEN = 2, /* tchar: methods and field names (RFC 9110 section 5.6.2) */
    CHAR_TARGET = 4, /* visible ASCII but '#': wider than RFC 3986, as browsers and Node send it */
    CHAR_HOST = 8,   /* unreserved: every name that DNS can resolve, and nothing to quote */
    CHAR_HEX = 16,
    CHAR_DIGIT = 32,
};

extern const uint8_t http_chars[256];

static inline bool char_is(char c, unsigned classes) {
    return (http_chars[(unsigned char)c] & classes) != 0;
}

/* The first byte in [at, end) that is not of the class, or end. */
static inline const char *class_end(const char *at, const char *end, unsigned classes) {
    while (at < end && char_is(*at, classes))
        at++;
    return at;
}

typedef uint8_t sixteen_bytes __attribute__((vector_size(16)));
typedef int8_t sixteen_truths __attribute__((vector_size(16)));

/* Is one of the sixteen bytes a control? HTAB counts, too: whoever asks then looks closer. */
static inline bool holds_control(const char *sixteen) {
    sixteen_bytes bytes;
    uint64_t found[2];
    memcpy(&bytes, sixteen, sizeof bytes);
    sixteen_truths controls = (bytes < 0x20) | (bytes == 0x7f);
    memcpy(found, &controls, sizeof found);
    return (found[0] | found[1]) != 0;
}

/* class_end for CHAR_TEXT, sixteen bytes a step: most of every head is field values. */
static inline const char *text_end(const char *at, const char *end) {
    while (end - at >= 16 && !holds_control(at))
        at += 16;
    return class_end(at, end, CHAR_TEXT);
}
