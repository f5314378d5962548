#include "rules/wire/json_scan.h"

enum { END = -1 };

struct scan {
    struct span text;
    size_t at;
    struct json_fault fault; /* what == NULL while nothing is wrong */
};

static int peek(const struct scan *s) {
    return s->at < s->text.len ? (unsigned char)s->text.ptr[s->at] : END;
}

static bool fail(struct scan *s, const char *what) {
    s->fault = (struct json_fault){.what = what, .at = s->at};
    return false;
}

static bool fail_unexpected(struct scan *s) {
    if (peek(s) != END)
        return fail(s, "Unexpected token in JSON");
    fail(s, "Unexpected end of JSON input");
    s->fault.ended = true;
    return false;
}

static bool is_digit(int c) {
    return c >= '0' && c <= '9';
}

static bool is_hex(int c) {
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static void skip_space(struct scan *s) {
    for (int c = peek(s); c == ' ' || c == '\t' || c == '\n' || c == '\r'; c = peek(s))
        s->at++;
}

/* ---- scalars ---- */

/* From the character behind the backslash. */
static bool scan_escape(struct scan *s) {
    int c = peek(s);
    if (c == END)
        return fail(s, "Unterminated string in JSON");
    if (c != 'u') {
        if (c == 0 || !strchr("\"\\/bfnrt", c))
            return fail(s, "Bad escaped character in JSON");
        s->at++;
        return true;
    }
    s->at++;
    for (int i = 0; i < 4; i++, s->at++)
        if (!is_hex(peek(s)))
            return fail(s, "Bad Unicode escape in JSON");
    return true;
}

/* From the opening quote to behind the closing one. */
static bool scan_string(struct scan *s, bool *escaped) {
    *escaped = false;
    s->at++;
    for (;;) {
        int c = peek(s);
        if (c == END)
            return fail(s, "Unterminated string in JSON");
        if (c < 0x20)
            return fail(s, "Bad control character in string literal in JSON");
        s->at++;
        if (c == '"')
            return true;
        if (c != '\\')
            continue;
        *escaped = true;
        if (!scan_escape(s))
            return false;
    }
}

static bool scan_digits(struct scan *s, const char *otherwise) {
    if (!is_digit(peek(s)))
        return fail(s, otherwise);
    while (is_digit(peek(s)))
        s->at++;
    return true;
}

static bool scan_number(struct scan *s, enum json_kind *kind) {
    *kind = JSON_KIND_INTEGER;
    if (peek(s) == '-')
        s->at++;
    if (peek(s) == '0')
        s->at++; /* no digit may follow: the caller finds it unexpected */
    else if (!scan_digits(s, "No number after minus sign in JSON"))
        return false;
    if (peek(s) == '.') {
        *kind = JSON_KIND_FRACTION;
        s->at++;
        if (!scan_digits(s, "Unterminated fractional number in JSON"))
            return false;
    }
    if (peek(s) == 'e' || peek(s) == 'E') {
        *kind = JSON_KIND_FRACTION;
        s->at++;
        if (peek(s) == '+' || peek(s) == '-')
            s->at++;
        return scan_digits(s, "Exponent part is missing a number in JSON");
    }
    return true;
}

static bool scan_literal(struct scan *s, struct span word) {
    if (!span_starts(span_from(s->text, s->at), word))
        return fail_unexpected(s);
    s->at += word.len;
    return true;
}

/* ---- values ---- */

static bool scan_value(struct scan *s, int depth, struct json_members *members,
                       enum json_kind *kind);

static bool add_member(struct json_members *members, const struct json_member *member) {
    if (members->count == JSON_MEMBERS_MAX || json_member_find(members, member->name))
        return false;
    members->at[members->count++] = *member;
    return true;
}

/* "name": value, from the quote. */
static bool scan_member(struct scan *s, int depth, struct json_members *members) {
    struct json_member member;
    size_t start = s->at;
    bool escaped;
    if (!scan_string(s, &escaped))
        return false;
    member.name = (struct span){s->text.ptr + start + 1, s->at - start - 2};
    skip_space(s);
    if (peek(s) != ':')
        return fail(s, "Expected ':' after property name in JSON");
    s->at++;
    skip_space(s);
    start = s->at;
    if (!scan_value(s, depth + 1, NULL, &member.kind))
        return false;
    member.value = (struct span){s->text.ptr + start, s->at - start};
    if (members && (escaped || !add_member(members, &member)))
        return fail(s, "Repeated, escaped or too many property names in JSON");
    return true;
}

static bool scan_members(struct scan *s, int depth, struct json_members *members) {
    s->at++;
    skip_space(s);
    if (peek(s) == '}') {
        s->at++;
        return true;
    }
    if (peek(s) != '"')
        return fail(s, "Expected property name or '}' in JSON");
    for (;;) {
        if (!scan_member(s, depth, members))
            return false;
        skip_space(s);
        int c = peek(s);
        if (c != ',' && c != '}')
            return fail(s, "Expected ',' or '}' after property value in JSON");
        s->at++;
        if (c == '}')
            return true;
        skip_space(s);
        if (peek(s) != '"')
            return fail(s, "Expected double-quoted property name in JSON");
    }
}

static bool scan_elements(struct scan *s, int depth) {
    enum json_kind kind;
    s->at++;
    skip_space(s);
    if (peek(s) == ']') {
        s->at++;
        return true;
    }
    for (;;) {
        if (!scan_value(s, depth + 1, NULL, &kind))
            return false;
        skip_space(s);
        int c = peek(s);
        if (c != ',' && c != ']')
            return fail(s, "Expected ',' or ']' after array element in JSON");
        s->at++;
        if (c == ']')
            return true;
        skip_space(s);
    }
}

/* `depth` counts the brackets around this value. Recursion goes no deeper than JSON_DEPTH_MAX. */
static bool scan_value(struct scan *s, int depth, struct json_members *members,
                       enum json_kind *kind) {
    int c = peek(s);
    bool escaped;
    if ((c == '{' || c == '[') && depth == JSON_DEPTH_MAX)
        return fail(s, "Too many nested levels in JSON");
    *kind = JSON_KIND_LITERAL;
    switch (c) {
    case '{':
        *kind = JSON_KIND_OBJECT;
        return scan_members(s, depth, members);
    case '[':
        *kind = JSON_KIND_ARRAY;
        return scan_elements(s, depth);
    case '"':
        *kind = JSON_KIND_STRING;
        return scan_string(s, &escaped);
    case 't':
        return scan_literal(s, SPAN("true"));
    case 'f':
        return scan_literal(s, SPAN("false"));
    case 'n':
        return scan_literal(s, SPAN("null"));
    default:
        if (c != '-' && !is_digit(c))
            return fail_unexpected(s);
        return scan_number(s, kind);
    }
}

/* The whole text: one value and nothing behind it. */
static bool scan_whole(struct scan *s, struct json_members *members, enum json_kind *kind) {
    skip_space(s);
    if (!scan_value(s, 0, members, kind))
        return false;
    skip_space(s);
    if (peek(s) != END)
        return fail(s, "Unexpected non-whitespace character after JSON");
    return true;
}

bool json_scan_text(struct span text, struct json_fault *fault) {
    struct scan s = {.text = text};
    enum json_kind kind;
    if (scan_whole(&s, NULL, &kind))
        return true;
    *fault = s.fault;
    return false;
}

bool json_scan_object(struct span text, struct json_members *out) {
    struct scan s = {.text = text};
    enum json_kind kind;
    out->count = 0;
    return scan_whole(&s, out, &kind) && kind == JSON_KIND_OBJECT;
}

/* ---- members ---- */

const struct json_member *json_member_find(const struct json_members *members, struct span name) {
    for (size_t i = 0; i < members->count; i++)
        if (span_equal(members->at[i].name, name))
            return &members->at[i];
    return NULL;
}

bool json_member_integer(const struct json_member *member, int64_t *out) {
    if (!member || member->kind != JSON_KIND_INTEGER)
        return false;
    bool negative = member->value.ptr[0] == '-';
    int64_t value = 0;
    /* Towards the negative end, which reaches one further than the positive. */
    for (size_t i = negative; i < member->value.len; i++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_sub_overflow(value, member->value.ptr[i] - '0', &value))
            return false;
    if (!negative && value == INT64_MIN)
        return false;
    *out = negative ? value : -value;
    return true;
}

bool json_member_string(const struct json_member *member, struct span *out) {
    if (!member || member->kind != JSON_KIND_STRING)
        return false;
    struct span inside = {member->value.ptr + 1, member->value.len - 2};
    if (inside.len && memchr(inside.ptr, '\\', inside.len))
        return false;
    *out = inside;
    return true;
}
