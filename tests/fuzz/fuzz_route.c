/* Paths: the first line is the prefix to strip, the rest the path. Whatever is taken apart has no
 * dot segments in any single decoding, stays within its memory or the path's, and matches the
 * pattern that its own segments make. */
#include "rules/wire/route.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static const char *const patterns[] = {
    "/agents/:id/connect",
    "/agents/:id/heartbeat",
    "/agents/:id",
    "/agents/:id/credentials/:what",
};

static void must(bool condition) {
    if (!condition)
        abort();
}

static bool is_inside(struct span part, const char *memory, size_t size) {
    return part.ptr >= memory && part.ptr + part.len <= memory + size;
}

static void check_parts(const struct route_path *parts, struct span path) {
    must(parts->count <= ROUTE_SEGMENTS_MAX);
    for (size_t i = 0; i < parts->count; i++) {
        struct span s = parts->segment[i];
        must(s.len > 0 && (is_inside(s, parts->memory, sizeof parts->memory) ||
                           is_inside(s, path.ptr, path.len)));
        must(!span_equal(s, SPAN(".")) && !span_equal(s, SPAN("..")));
    }
}

static void check_matches(const struct route_path *parts) {
    struct span params[ROUTE_PARAMS_MAX] = {SPAN_NONE, SPAN_NONE};
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        if (!route_matches(patterns[i], parts, params))
            continue;
        must(parts->plain && parts->count >= 2);
        must(span_equal(params[0], parts->segment[1]));
        must(span_equal_nocase(parts->segment[0], SPAN("agents")));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct span input = {(const char *)bytes, size};
    const char *line = size > 0 ? memchr(bytes, '\n', size) : NULL;
    size_t prefix_len = line ? (size_t)(line - input.ptr) : 0;
    struct span prefix = {input.ptr, prefix_len};
    struct span path = line ? span_from(input, prefix_len + 1) : input;
    struct route_path *parts = malloc(sizeof *parts); /* so that ASan sees its bounds */
    struct span stripped = route_strip(path, prefix);
    must(stripped.len <= path.len || stripped.len == 1);
    if (route_split(stripped, parts) == ERR_OK) {
        if (parts->plain)
            check_parts(parts, stripped);
        check_matches(parts);
    }
    free(parts);
    return 0;
}
