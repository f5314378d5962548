/* Pieces of a head, taken from left to right: what http.c and http_fields.c read with. Private to
 * rules/wire/http*.c. */
#pragma once

#include "rules/wire/http.h"
#include "rules/wire/http_chars.h"

struct cursor {
    const char *at;
    const char *end;
};

static inline bool take(struct cursor *in, struct span literal) {
    struct span rest = {in->at, (size_t)(in->end - in->at)};
    if (!span_starts(rest, literal))
        return false;
    in->at += literal.len;
    return true;
}

/* One or more bytes of the class, and the one that must follow. */
static inline bool take_word(struct cursor *in, unsigned class, char follower, struct span *word) {
    const char *stop = class_end(in->at, in->end, class);
    *word = (struct span){in->at, (size_t)(stop - in->at)};
    if (word->len == 0 || stop == in->end || *stop != follower)
        return false;
    in->at = stop + 1;
    return true;
}

static inline struct span take_text(struct cursor *in) {
    const char *start = in->at;
    in->at = text_end(start, in->end);
    return (struct span){start, (size_t)(in->at - start)};
}

/* All fields up to the empty line, which must be the end of the head. */
enum err http_take_fields(struct cursor *in, struct http_fields *fields);

/* The next element of a comma-separated list, trimmed; moves `list` past it. Skips empty ones. */
bool http_list_next(struct span *list, struct span *element);
