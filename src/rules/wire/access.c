#include "rules/wire/access.h"

#include "rules/agents/agent_id.h"

enum { SEGMENTS_MAX = 16, WORD_MAX = 32, VERSION_MAX = 4, VALUE_MAX = 64 };

bool access_is_wanted(enum access_mode mode, enum access_kind kind, uint64_t number,
                      int64_t sample) {
    switch (mode) {
    case ACCESS_OFF:
        return false;
    case ACCESS_ERRORS:
        return kind == ACCESS_FAILED;
    case ACCESS_SAMPLED:
        return kind != ACCESS_GOOD_BEAT || number % (uint64_t)sample == 0;
    default:
        return true;
    }
}

/* ---- the path ---- */

static bool is_letter(char c) {
    return c >= 'a' && c <= 'z';
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_word(struct span s) {
    if (s.len > WORD_MAX)
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (!is_letter(s.ptr[i]) && s.ptr[i] != '.' && s.ptr[i] != '-' && s.ptr[i] != '_')
            return false;
    return true;
}

static bool is_version(struct span s) {
    if (s.len < 2 || s.len > VERSION_MAX || s.ptr[0] != 'v')
        return false;
    for (size_t i = 1; i < s.len; i++)
        if (!is_digit(s.ptr[i]))
            return false;
    return true;
}

static bool may_stand(struct span segment) {
    struct agent_id id;
    return is_word(segment) || is_version(segment) || agent_id_parse(segment, &id);
}

/* Up to the separator, or all of it. */
static struct span take_until(struct span *rest, char separator) {
    const char *end = rest->len > 0 ? memchr(rest->ptr, separator, rest->len) : NULL;
    struct span taken = {rest->ptr, end ? (size_t)(end - rest->ptr) : rest->len};
    *rest = span_from(*rest, taken.len + 1);
    return taken;
}

void access_spell_path(struct str *out, struct span path) {
    struct span rest = path.len > 0 && path.ptr[0] == '/' ? span_from(path, 1) : path;
    for (size_t i = 0; rest.len > 0 && i < SEGMENTS_MAX; i++) {
        struct span segment = take_until(&rest, '/');
        str_add_char(out, '/');
        str_add(out, may_stand(segment) ? segment : SPAN("*"));
    }
    if (rest.len > 0)
        STR_ADD(out, "/*");
    else if (path.len > 0 && path.ptr[path.len - 1] == '/')
        str_add_char(out, '/');
}

/* ---- the query ---- */

static bool is_separator(char c) {
    return c == ',' || c == ' ';
}

static struct span next_name(struct span *names) {
    while (names->len > 0 && is_separator(names->ptr[0]))
        *names = span_from(*names, 1);
    size_t len = 0;
    while (len < names->len && !is_separator(names->ptr[len]))
        len++;
    struct span name = {names->ptr, len};
    *names = span_from(*names, len);
    return name;
}

static bool is_allowed(struct span name, struct span names) {
    for (struct span one = next_name(&names); one.len > 0; one = next_name(&names))
        if (span_equal(one, name))
            return true;
    return false;
}

void access_spell_query(struct str *out, struct span query, struct span names) {
    struct span rest = query.len > 0 && query.ptr[0] == '?' ? span_from(query, 1) : query;
    bool first = true;
    while (names.len > 0 && rest.len > 0) {
        struct span value = take_until(&rest, '&');
        size_t whole = value.len;
        struct span name = take_until(&value, '=');
        bool has_value = name.len < whole;
        if (name.len == 0 || !is_allowed(name, names))
            continue;
        if (!first)
            str_add_char(out, '&');
        first = false;
        str_add(out, name);
        if (has_value)
            str_add_char(out, '=');
        str_add(out, value.len <= VALUE_MAX ? value : SPAN("*"));
    }
}

const char *access_names_complaint(struct span names) {
    for (size_t i = 0; i < names.len; i++) {
        char c = names.ptr[i];
        if (!is_separator(c) && !is_letter(c | 0x20) && !is_digit(c) && c != '_' && c != '-' &&
            c != '.')
            return "is no list of names; write query parameters such as `page, limit`";
    }
    return NULL;
}
