/* What a byte may be in HTTP: one table, and the loops over it. Private to rules/wire/http*.c and
 * rules/wire/cors.c. */
#pragma once

#include "base/bytes16.h"
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

/* Which of the sixteen bytes is the first control; 16: none is. HTAB counts, too. */
static inline unsigned first_control(const char *sixteen) {
    sixteen_bytes bytes = sixteen_at(sixteen);
    return sixteen_first((bytes < 0x20) | (bytes == 0x7f));
}

/* class_end for CHAR_TEXT, sixteen bytes a step: most of every head is field values. */
static inline const char *text_end(const char *at, const char *end) {
    while (end - at >= 16) {
        unsigned text = first_control(at);
        at += text;
        if (text < 16 && !char_is(*at, CHAR_TEXT))
            return at;
        at += text < 16;
    }
    return class_end(at, end, CHAR_TEXT);
}

/* class_end for CHAR_TARGET, likewise. */
static inline const char *target_end(const char *at, const char *end) {
    while (end - at >= 16) {
        sixteen_bytes bytes = sixteen_at(at);
        unsigned visible = sixteen_first((bytes <= ' ') | (bytes >= 0x7f) | (bytes == '#'));
        at += visible;
        if (visible < 16)
            return at;
    }
    return class_end(at, end, CHAR_TARGET);
}
