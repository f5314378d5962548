/* A strict, bounded walk over JSON text (RFC 8259) that allocates nothing and knows where things
 * stand. For what a parser into a tree cannot tell (the position of a value, a repeated name) and
 * for what must not reach a parser before it was bounded.
 *
 * Strict: no byte order mark, no comments, no trailing commas, no NaN, no control characters in
 * strings, at most JSON_DEPTH_MAX levels. Not looked at: whether bytes above 0x7f are UTF-8 and
 * whether \u escapes pair up. All spans borrow the text. */
#pragma once

#include "base/span.h"

#include <stdint.h>

enum {
    JSON_DEPTH_MAX = 64,   /* levels; what agents and the controller send has at most 5 */
    JSON_MEMBERS_MAX = 64, /* of one object that is read; keeps the check for twins cheap */
};

enum json_kind {
    JSON_KIND_OBJECT,
    JSON_KIND_ARRAY,
    JSON_KIND_STRING,
    JSON_KIND_INTEGER,  /* digits and perhaps a minus: no fraction, no exponent */
    JSON_KIND_FRACTION, /* any other number */
    JSON_KIND_LITERAL,  /* true, false, null */
};

/* What is wrong and at which byte; the words are those of Node's parser where it has some. */
struct json_fault {
    const char *what; /* static */
    size_t at;
    bool ended; /* the text stopped where a value should stand */
};

/* Is the text exactly one JSON value, with nothing but white space around it? */
bool json_scan_text(struct span text, struct json_fault *fault);

struct json_member {
    struct span name; /* without quotes */
    enum json_kind kind;
    struct span value; /* as it stands, strings with their quotes */
};

struct json_members {
    size_t count;
    struct json_member at[JSON_MEMBERS_MAX];
};

/* The members of a text that is one JSON object. False when it is not, when a name stands twice or
 * holds an escape (so that spelled alike means alike), or when there are too many members. */
bool json_scan_object(struct span text, struct json_members *out);

/* The same for a text so plain that all parsers read it alike: strings are printable ASCII without
 * escapes, numbers short and without exponents, nothing nests deeper than four levels, no object
 * has more than 16 members, and at no level does a name stand twice. False says nothing but that
 * somebody else has to look. */
bool json_scan_plain(struct span text, struct json_members *out);

/* NULL if there is none. */
const struct json_member *json_member_find(const struct json_members *members, struct span name);

/* False for NULL, for anything but an integer, and beyond 64 bits. */
bool json_member_integer(const struct json_member *member, int64_t *out);
/* The text between the quotes; false for NULL, for other kinds, and when it holds an escape. */
bool json_member_string(const struct json_member *member, struct span *out);
