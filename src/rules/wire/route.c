#include "rules/wire/route.h"

struct span route_strip(struct span path, struct span prefix) {
    if (prefix.len == 0 || !span_starts(path, prefix))
        return path;
    struct span rest = span_from(path, prefix.len);
    if (rest.len == 0)
        return SPAN("/");
    return rest.ptr[0] == '/' ? rest : path;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes into `out` (never longer than the input). False on a broken escape. */
static bool decode(struct span text, char *out, size_t *len) {
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '%') {
            int high = i + 2 < text.len ? hex_digit(text.ptr[i + 1]) : -1;
            int low = i + 2 < text.len ? hex_digit(text.ptr[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        }
        out[n++] = c;
    }
    *len = n;
    return true;
}

static bool is_dots(struct span s) {
    return span_equal(s, SPAN(".")) || span_equal(s, SPAN(".."));
}

/* The next segment of `*rest`, which begins with '/'. */
static struct span next_segment(struct span *rest) {
    struct span after = span_from(*rest, 1);
    const char *slash = after.len ? memchr(after.ptr, '/', after.len) : NULL;
    size_t len = slash ? (size_t)(slash - after.ptr) : after.len;
    *rest = span_from(after, len);
    return (struct span){after.ptr, len};
}

/* "..", "%2e." and their like. A dot takes at most "%2e": longer raw text cannot decode to one. */
static bool is_dot_segment(struct span raw) {
    char dots[8];
    size_t len = 0;
    if (raw.len == 0 || raw.len > sizeof dots || (raw.ptr[0] != '.' && raw.ptr[0] != '%'))
        return false;
    return decode(raw, dots, &len) && is_dots((struct span){dots, len});
}

/* The segment as it is meant, in `memory` only where that is not as it is spelled. */
static bool read_segment(struct span raw, char *memory, struct span *out) {
    *out = raw;
    if (!memchr(raw.ptr, '%', raw.len))
        return true;
    out->ptr = memory;
    return decode(raw, memory, &out->len);
}

enum err route_split(struct span path, struct route_path *out) {
    out->count = 0;
    out->plain = path.len > 0 && path.ptr[0] == '/';
    size_t used = 0;
    struct span rest = out->plain ? path : SPAN_NONE;
    while (rest.len > 0) {
        struct span raw = next_segment(&rest), segment;
        if (is_dot_segment(raw))
            return ERR_BAD_PATH;
        if (raw.len == 0 && rest.len == 0) /* "/", or one trailing slash */
            break;
        if (!out->plain || raw.len == 0 || out->count == ROUTE_SEGMENTS_MAX ||
            raw.len > ROUTE_MEMORY - used || !read_segment(raw, out->memory + used, &segment)) {
            out->plain = false;
            continue; /* dot segments further on are still refused */
        }
        out->segment[out->count++] = segment;
        used += segment.len;
    }
    return ERR_OK;
}

bool route_matches(const char *pattern, const struct route_path *path,
                   struct span params[ROUTE_PARAMS_MAX]) {
    return path->plain && route_begins(pattern, path, params);
}

bool route_begins(const char *pattern, const struct route_path *path,
                  struct span params[ROUTE_PARAMS_MAX]) {
    struct span rest = span_of(pattern);
    size_t at = 0, param = 0;
    while (rest.len > 0) {
        struct span want = next_segment(&rest);
        if (span_equal(want, SPAN("*")))
            return true;
        if (at == path->count)
            return false;
        struct span got = path->segment[at++];
        if (want.len > 0 && want.ptr[0] == ':')
            params[param++] = got;
        else if (!span_equal_nocase(want, got))
            return false;
    }
    return path->plain && at == path->count;
}
