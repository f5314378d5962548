/* JSON so plain that every parser reads it alike: what agents send, minute after minute. One walk,
 * nothing allocated; whatever is unusual ends it, and the strict readers have a look. */
#include "base/bytes16.h"
#include "rules/wire/json_scan.h"

enum { PLAIN_DEPTH = 4, PLAIN_MEMBERS = 16, PLAIN_NUMBER = 15 /* characters: exact as a double */ };

struct cursor {
    const char *at, *end;
};

static int peek(const struct cursor *c) {
    return c->at < c->end ? (unsigned char)*c->at : -1;
}

static bool take(struct cursor *c, char wanted) {
    if (peek(c) != wanted)
        return false;
    c->at++;
    return true;
}

static void skip_space(struct cursor *c) {
    if (c->at<c->end && * c->at> ' ') /* as a rule there is none */
        return;
    for (int b = peek(c); b == ' ' || b == '\n' || b == '\r' || b == '\t'; b = peek(c))
        c->at++;
}

static bool is_digit(int b) {
    return b >= '0' && b <= '9';
}

/* Printable ASCII between quotes, no escapes. */
static bool take_string(struct cursor *c) {
    if (!take(c, '"'))
        return false;
    c->at = plain_end(c->at, c->end);
    return take(c, '"');
}

static bool take_digits(struct cursor *c) {
    const char *start = c->at;
    while (is_digit(peek(c)))
        c->at++;
    return c->at > start;
}

static bool take_number(struct cursor *c, enum json_kind *kind) {
    const char *start = c->at;
    (void)take(c, '-');
    if (!take(c, '0') && !take_digits(c))
        return false;
    *kind = take(c, '.') ? JSON_KIND_FRACTION : JSON_KIND_INTEGER;
    if (*kind == JSON_KIND_FRACTION && !take_digits(c))
        return false;
    return c->at - start <= PLAIN_NUMBER; /* what follows, an exponent say, the caller judges */
}

static bool take_literal(struct cursor *c) {
    static const char *const words[] = {"true", "false", "null"};
    struct span rest = {c->at, (size_t)(c->end - c->at)};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (span_starts(rest, span_of(words[i]))) {
            c->at += strlen(words[i]);
            return true;
        }
    return false;
}

static bool take_object(struct cursor *c, int depth, struct json_members *out);
static bool take_array(struct cursor *c, int depth);

static bool take_value(struct cursor *c, int depth, enum json_kind *kind) {
    switch (peek(c)) {
    case '"':
        *kind = JSON_KIND_STRING;
        return take_string(c);
    case '{':
        *kind = JSON_KIND_OBJECT;
        return take_object(c, depth + 1, NULL);
    case '[':
        *kind = JSON_KIND_ARRAY;
        return take_array(c, depth + 1);
    case 't':
    case 'f':
    case 'n':
        *kind = JSON_KIND_LITERAL;
        return take_literal(c);
    default:
        return take_number(c, kind);
    }
}

/* Behind a value: true when another one follows, else *done says whether this was the end. */
static bool goes_on(struct cursor *c, char end, bool *done) {
    skip_space(c);
    *done = take(c, end);
    if (*done || !take(c, ','))
        return false;
    skip_space(c);
    return true;
}

static bool take_array(struct cursor *c, int depth) {
    enum json_kind kind;
    bool done;
    c->at++;
    skip_space(c);
    if (depth > PLAIN_DEPTH || take(c, ']'))
        return depth <= PLAIN_DEPTH;
    do {
        if (!take_value(c, depth, &kind))
            return false;
    } while (goes_on(c, ']', &done));
    return done;
}

/* "name": value. */
static bool take_member(struct cursor *c, int depth, struct json_member *out) {
    const char *start = c->at;
    if (!take_string(c))
        return false;
    out->name = (struct span){start + 1, (size_t)(c->at - start - 2)};
    skip_space(c);
    if (!take(c, ':'))
        return false;
    skip_space(c);
    start = c->at;
    if (!take_value(c, depth, &out->kind))
        return false;
    out->value = (struct span){start, (size_t)(c->at - start)};
    return true;
}

static bool is_among(const struct span *names, size_t count, struct span name) {
    for (size_t i = 0; i < count; i++)
        if (span_equal(names[i], name))
            return true;
    return false;
}

/* `out` may be NULL. */
static bool take_object(struct cursor *c, int depth, struct json_members *out) {
    struct span names[PLAIN_MEMBERS];
    struct json_member member;
    size_t count = 0;
    bool done;
    c->at++;
    skip_space(c);
    if (depth > PLAIN_DEPTH || take(c, '}'))
        return depth <= PLAIN_DEPTH;
    do {
        if (count == PLAIN_MEMBERS || !take_member(c, depth, &member) ||
            is_among(names, count, member.name))
            return false;
        names[count] = member.name;
        if (out)
            out->at[out->count++] = member;
        count++;
    } while (goes_on(c, '}', &done));
    return done;
}

bool json_scan_plain(struct span text, struct json_members *out) {
    struct cursor c = {text.ptr, text.ptr + text.len};
    out->count = 0;
    skip_space(&c);
    if (peek(&c) != '{' || !take_object(&c, 1, out))
        return false;
    skip_space(&c);
    return c.at == c.end;
}
