#include "rules/wire/route.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct span text(const char *s) {
    return span_of(s);
}

Test(route, strips_a_prefix_of_whole_segments_only) {
    static const struct {
        const char *path, *prefix, *left;
    } rows[] = {
        {"/dev/aiwm/agents", "/dev/aiwm", "/agents"},
        {"/dev/aiwm", "/dev/aiwm", "/"},
        {"/dev/aiwm/", "/dev/aiwm", "/"},
        {"/dev/aiwmx/agents", "/dev/aiwm", "/dev/aiwmx/agents"},
        {"/dev", "/dev/aiwm", "/dev"},
        {"/other/agents", "/dev/aiwm", "/other/agents"},
        {"/DEV/aiwm/agents", "/dev/aiwm", "/DEV/aiwm/agents"},
        {"/agents", "", "/agents"},
        {"*", "/dev", "*"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct span left = route_strip(text(rows[i].path), text(rows[i].prefix));
        cr_expect(span_equal(left, text(rows[i].left)), "row %zu: %.*s", i, SPAN_ARG(left));
    }
}

/* The segments joined by '|', "-" when no pattern can match, "!" when refused. */
static const char *split(struct span path, char out[2048]) {
    struct route_path parts;
    size_t at = 0;
    if (route_split(path, &parts) != ERR_OK)
        return "!";
    if (!parts.plain)
        return "-";
    for (size_t i = 0; i < parts.count; i++)
        at += (size_t)snprintf(out + at, 2048 - at, "%s%.*s", i ? "|" : "",
                               SPAN_ARG(parts.segment[i]));
    out[at] = '\0';
    return out;
}

Test(route, splits_a_path_as_the_controllers_router_does) {
    static const struct {
        const char *path, *expected;
    } rows[] = {
        {"/", ""},
        {"/agents", "agents"},
        {"/agents/", "agents"},
        {"/agents/x/connect", "agents|x|connect"},
        {"/agents/%36a/Connect/", "agents|6a|Connect"},
        {"/a%2Fb", "a/b"},
        {"/%41%7a", "Az"},
        {"/1/2/3/4/5/6/7/8", "1|2|3|4|5|6|7|8"},
        {"/1/2/3/4/5/6/7/8/", "1|2|3|4|5|6|7|8"},
        {"/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16", "1|2|3|4|5|6|7|8|9|10|11|12|13|14|15|16"},
        {"/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17", "-"},
        {"//agents", "-"},
        {"/agents//connect", "-"},
        {"/agents//", "-"},
        {"/%", "-"},
        {"/%4", "-"},
        {"/%zz", "-"},
        {"/%4g", "-"},
        {"/%e2%82%ac", "\xe2\x82\xac"},
        {"*", "-"},
        {"", "-"},
        {"agents", "-"},
        {"/.", "!"},
        {"/..", "!"},
        {"/agents/..", "!"},
        {"/agents/../x", "!"},
        {"/agents/%2e%2E/x", "!"},
        {"/agents/.%2e", "!"},
        {"/agents/%2e", "!"},
        {"/%zz/../x", "!"},
        {"//../x", "!"},
        {"/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/..", "!"},
        {"/...", "..."},
        {"/.well-known", ".well-known"},
        {"/%252e%252e", "%2e%2e"},
    };
    char memory[2048];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *got = split(text(rows[i].path), memory);
        cr_expect_str_eq(got, rows[i].expected, "row %zu, %s: %s", i, rows[i].path, got);
    }
}

Test(route, a_path_longer_than_its_memory_matches_nothing) {
    char path[ROUTE_MEMORY + 2], memory[2048];
    memset(path, 'a', sizeof path);
    path[0] = '/';
    cr_expect_str_neq(split((struct span){path, ROUTE_MEMORY + 1}, memory), "-", "just fits");
    cr_expect_str_eq(split((struct span){path, ROUTE_MEMORY + 2}, memory), "-");
    path[200] = '/';
    cr_expect_str_neq(split((struct span){path, ROUTE_MEMORY + 2}, memory), "-",
                      "slashes are free");
}

static bool matches(const char *pattern, const char *path, struct span params[ROUTE_PARAMS_MAX]) {
    static struct route_path parts;
    return route_split(text(path), &parts) == ERR_OK && route_matches(pattern, &parts, params);
}

Test(route, matches_in_any_case_and_hands_out_parameters) {
    static const struct {
        const char *pattern, *path;
        bool expected;
        const char *first, *second;
    } rows[] = {
        {"/agents/:id/connect", "/agents/x/connect", true, "x", NULL},
        {"/agents/:id/connect", "/AGENTS/x/Connect/", true, "x", NULL},
        {"/agents/:id/connect", "/agents/%36A/connect", true, "6A", NULL},
        {"/agents/:id/connect", "/agents/x/connec", false, NULL, NULL},
        {"/agents/:id/connect", "/agents/x/connect/y", false, NULL, NULL},
        {"/agents/:id/connect", "/agents/x", false, NULL, NULL},
        {"/agents/:id", "/agents", false, NULL, NULL},
        {"/agents/:id", "/agents/", false, NULL, NULL},
        {"/agents/:id", "/agents/x", true, "x", NULL},
        {"/a/:one/:two", "/a/1/2", true, "1", "2"},
        {"/agents", "/agents", true, NULL, NULL},
        {"/agents", "//agents", false, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct span params[ROUTE_PARAMS_MAX] = {SPAN_NONE, SPAN_NONE};
        bool got = matches(rows[i].pattern, rows[i].path, params);
        cr_expect_eq(got, rows[i].expected, "row %zu", i);
        if (got && rows[i].first)
            cr_expect(span_equal(params[0], text(rows[i].first)), "row %zu", i);
        if (got && rows[i].second)
            cr_expect(span_equal(params[1], text(rows[i].second)), "row %zu", i);
    }
}
