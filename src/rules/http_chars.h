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

/* Is one of the eight bytes a control? HTAB counts, too: whoever asks then looks closer. */
static inline bool holds_control(const char *eight) {
    const uint64_t ones = UINT64_MAX / 255;
    uint64_t word;
    memcpy(&word, eight, sizeof word);
    uint64_t del = word ^ (ones * 0x7f);
    return (((word - ones * 0x20) & ~word) | ((del - ones) & ~del)) & (ones * 0x80);
}

/* class_end for CHAR_TEXT, eight bytes a step: most of every head is field values. */
static inline const char *text_end(const char *at, const char *end) {
    while (end - at >= 8 && !holds_control(at))
        at += 8;
    return class_end(at, end, CHAR_TEXT);
}
