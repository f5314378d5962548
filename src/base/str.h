/* A string under construction with a maximum.
 *
 * Appending never returns an error: what would exceed the maximum is not added and the string is
 * marked `overflow` for good, so a builder is checked once, at its end. Running out of memory
 * aborts (house rule); a client cannot cause that, since every string here has a maximum. */
#pragma once

#include "base/span.h"

#include <stdint.h>

struct str {
    char *ptr; /* not terminated; NULL while nothing was added */
    size_t len;
    size_t cap;
    size_t max; /* bytes */
    bool overflow;
    bool fixed; /* ptr is the caller's memory: never grown, never freed */
};

/* Grows on the heap up to `max` bytes; str_release frees it. */
void str_init(struct str *s, size_t max);
/* Builds in the caller's `memory` of `size` bytes. */
void str_init_fixed(struct str *s, char *memory, size_t size);
void str_release(struct str *s);
/* Empties and forgets the overflow; keeps the memory. */
void str_clear(struct str *s);

void str_add_char(struct str *s, char c);
void str_add_int(struct str *s, int64_t value);
/* A number's digits, without a string to put them into: they stand at the end of `memory`. Where
 * there are a dozen in a request, a printf for each would be much of it. */
enum { STR_DECIMAL = 24 };
struct span str_decimal(int64_t value, char memory[STR_DECIMAL]);
void str_addf(struct str *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* `text` as a JSON string with its quotes. Bytes that are not valid UTF-8 become U+FFFD, so that
 * what we log and answer is always valid JSON. */
void str_add_json(struct str *s, struct span text);

/* Room for at least `more` bytes behind the end, or NULL (overflow). Commit with str_grow. */
char *str_reserve(struct str *s, size_t more);
void str_grow(struct str *s, size_t written);

/* Here, so that what is added of a known length is a few moves: answers are made of such. */
static inline void str_add(struct str *s, struct span bytes) {
    if (bytes.len == 0)
        return;
    bool has_room = !s->overflow && bytes.len <= s->cap - s->len;
    char *to = has_room ? s->ptr + s->len : str_reserve(s, bytes.len);
    if (!to)
        return;
    memcpy(to, bytes.ptr, bytes.len);
    s->len += bytes.len;
}

static inline struct span str_span(const struct str *s) {
    return (struct span){s->ptr, s->len};
}

#define STR_ADD(s, literal) str_add((s), SPAN(literal))
