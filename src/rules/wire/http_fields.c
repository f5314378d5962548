/* The fields of a head: each line taken apart, and the names we look at ourselves recognised in
 * passing. */
#include "rules/wire/http_fields.h"

/* ---- names ---- */

/* No two share length and first letter, so one comparison decides; the switch would not compile
 * if they did. */
#define KNOWN_ROWS(X)                                                                              \
    X(HTTP_HOST, 'h', "host")                                                                      \
    X(HTTP_CONTENT_LENGTH, 'c', "content-length")                                                  \
    X(HTTP_TRANSFER_ENCODING, 't', "transfer-encoding")                                            \
    X(HTTP_CONNECTION, 'c', "connection")                                                          \
    X(HTTP_EXPECT, 'e', "expect")                                                                  \
    X(HTTP_UPGRADE, 'u', "upgrade")                                                                \
    X(HTTP_AUTHORIZATION, 'a', "authorization")                                                    \
    X(HTTP_CONTENT_TYPE, 'c', "content-type")                                                      \
    X(HTTP_CONTENT_ENCODING, 'c', "content-encoding")                                              \
    X(HTTP_CORRELATION_ID, 'x', "x-correlation-id")                                                \
    X(HTTP_CACHE_CONTROL, 'c', "cache-control")                                                    \
    X(HTTP_KEEP_ALIVE, 'k', "keep-alive")                                                          \
    X(HTTP_DATE, 'd', "date")                                                                      \
    X(HTTP_RETRY_AFTER, 'r', "retry-after")

static const struct span known_names[HTTP_KNOWN_COUNT] = {
#define X(known, letter, name) [known] = {name, sizeof(name) - 1},
    KNOWN_ROWS(X)
#undef X
};

static enum http_known known_candidate(struct span name) {
#define KEY(length, letter) ((length) << 8 | (size_t)(letter))
#define X(known, letter, name)                                                                     \
    case KEY(sizeof(name) - 1, letter):                                                            \
        return known;
    switch (KEY(name.len, name.ptr[0] | 0x20)) {
        KNOWN_ROWS(X)
    default:
        return HTTP_UNKNOWN;
    }
#undef X
#undef KEY
}

/* Is this name the known one of the same length, in any case? Names are made of CHAR_TOKEN, of
 * which nothing but a letter's other case differs from a letter or a hyphen in this bit alone. */
static bool is_spelled(struct span name, const char *known) {
    const uint64_t case_bits = 0x2020202020202020;
    uint64_t a, b;
    size_t at = 0;
    for (; name.len - at >= sizeof a; at += sizeof a) {
        memcpy(&a, name.ptr + at, sizeof a);
        memcpy(&b, known + at, sizeof b);
        if ((a | case_bits) != b)
            return false;
    }
    for (; at < name.len; at++)
        if ((name.ptr[at] | 0x20) != known[at])
            return false;
    return true;
}

static enum http_known known_by_name(struct span name) {
    enum http_known candidate = known_candidate(name);
    if (candidate == HTTP_UNKNOWN || !is_spelled(name, known_names[candidate].ptr))
        return HTTP_UNKNOWN;
    return candidate;
}

/* "Content_Length": CGI-like servers behind us would read it as the real one. */
static bool is_framing_twin(struct span name) {
    enum http_known candidate = known_candidate(name);
    if (candidate != HTTP_CONTENT_LENGTH && candidate != HTTP_TRANSFER_ENCODING)
        return false;
    struct span original = known_names[candidate];
    for (size_t i = 0; i < name.len; i++) {
        bool same = (name.ptr[i] | 0x20) == original.ptr[i];
        if (!same && (name.ptr[i] != '_' || original.ptr[i] != '-'))
            return false;
    }
    return true;
}

/* ---- fields ---- */

/* A name right before its colon, a value, CRLF. A line that begins with a blank (obs-fold) has no
 * name and so is none. */
static enum err take_field(struct cursor *in, struct http_field *field) {
    if (!take_word(in, CHAR_TOKEN, ':', &field->name))
        return ERR_BAD_REQUEST;
    field->value = span_trim(take_text(in));
    if (!take(in, SPAN("\r\n")))
        return ERR_BAD_REQUEST;
    field->known = known_by_name(field->name);
    if (field->known == HTTP_UNKNOWN && is_framing_twin(field->name))
        return ERR_BAD_FRAMING;
    return ERR_OK;
}

static void note_known(struct http_fields *fields, const struct http_field *field) {
    if (field->known == HTTP_UNKNOWN)
        return;
    if (fields->known_count[field->known]++ == 0)
        fields->known[field->known] = field->value;
}

enum err http_take_fields(struct cursor *in, struct http_fields *fields) {
    fields->count = 0; /* at[] needs no clearing: it is valid up to count */
    memset(fields->known, 0, sizeof fields->known);
    memset(fields->known_count, 0, sizeof fields->known_count);
    while (!take(in, SPAN("\r\n"))) {
        if (fields->count == HTTP_FIELDS_MAX)
            return ERR_HEAD_TOO_LARGE;
        struct http_field *field = &fields->at[fields->count];
        enum err e = take_field(in, field);
        if (e)
            return e;
        note_known(fields, field);
        fields->count++;
    }
    return in->at == in->end ? ERR_OK : ERR_BAD_REQUEST;
}

struct span http_field(const struct http_fields *fields, struct span name) {
    for (size_t i = 0; i < fields->count; i++)
        if (span_equal_nocase(fields->at[i].name, name))
            return fields->at[i].value;
    return SPAN_NONE;
}

/* ---- lists ---- */

bool http_list_next(struct span *list, struct span *element) {
    while (list->len > 0) {
        const char *comma = memchr(list->ptr, ',', list->len);
        size_t len = comma ? (size_t)(comma - list->ptr) : list->len;
        *element = span_trim((struct span){list->ptr, len});
        *list = span_from(*list, len + 1);
        if (element->len > 0)
            return true;
    }
    return false;
}

bool http_list_has(struct span list, struct span token) {
    struct span element;
    while (http_list_next(&list, &element))
        if (span_equal_nocase(element, token))
            return true;
    return false;
}
