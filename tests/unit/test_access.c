#include "rules/wire/access.h"

#include <criterion/criterion.h>

Test(access, what_is_wanted_depends_on_how_it_ended) {
    static const struct {
        enum access_mode mode;
        bool beat, failed, other;
    } rows[] = {
        {ACCESS_OFF, false, false, false},
        {ACCESS_ERRORS, false, true, false},
        {ACCESS_SAMPLED, false, true, true},
        {ACCESS_ALL, true, true, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cr_expect_eq(access_is_wanted(rows[i].mode, ACCESS_GOOD_BEAT, 7, 100), rows[i].beat);
        cr_expect_eq(access_is_wanted(rows[i].mode, ACCESS_FAILED, 7, 100), rows[i].failed);
        cr_expect_eq(access_is_wanted(rows[i].mode, ACCESS_OTHER, 7, 100), rows[i].other);
    }
}

Test(access, one_good_heartbeat_in_so_many_is_sampled) {
    int wanted = 0;
    for (uint64_t n = 1; n <= 1000; n++)
        wanted += access_is_wanted(ACCESS_SAMPLED, ACCESS_GOOD_BEAT, n, 100);
    cr_expect_eq(wanted, 10);
    cr_expect(access_is_wanted(ACCESS_SAMPLED, ACCESS_GOOD_BEAT, 1, 1));
}

static void expect_path(const char *path, const char *spelled) {
    char memory[1024];
    struct str out;
    str_init_fixed(&out, memory, sizeof memory);
    access_spell_path(&out, span_of(path));
    cr_expect(span_equal(str_span(&out), span_of(spelled)), "%s: %.*s", path,
              SPAN_ARG(str_span(&out)));
}

Test(access, a_path_is_written_by_allow_list) {
    expect_path("/agents", "/agents");
    expect_path("/", "/");
    expect_path("", "");
    expect_path("*", "/*");
    expect_path("/agents/", "/agents/");
    expect_path("/agents/64b1f0c2a1b2c3d4e5f60718", "/agents/64b1f0c2a1b2c3d4e5f60718");
    expect_path("/AGENTS/64B1F0C2A1B2C3D4E5F60718/Connect", "/*/64B1F0C2A1B2C3D4E5F60718/*");
    expect_path("/socket.io/", "/socket.io/");
    expect_path("/deployments/64b1f0c2a1b2c3d4e5f60718/inference/v1/chat/completions",
                "/deployments/64b1f0c2a1b2c3d4e5f60718/inference/v1/chat/completions");
    expect_path("/reset/s3cret-t0ken", "/reset/*");
    expect_path("/reset/eyJhbGciOiJIUzI1NiJ9.e30.x", "/reset/*");
    expect_path("/a%6ent/b c", "/*/*");
    expect_path("/a//b", "/a//b");
    expect_path("/v1/v12345/v", "/v1/*/v");
    expect_path("/abcdefghijklmnopqrstuvwxyzabcdefg", "/*");
    expect_path("/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/b/c", "/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/*");
}

static void expect_query(const char *query, const char *names, const char *spelled) {
    char memory[1024];
    struct str out;
    str_init_fixed(&out, memory, sizeof memory);
    access_spell_query(&out, span_of(query), span_of(names));
    cr_expect(span_equal(str_span(&out), span_of(spelled)), "%s: %.*s", query,
              SPAN_ARG(str_span(&out)));
}

Test(access, of_a_query_only_the_named_parameters_are_written) {
    expect_query("?token=abc&page=2", "", "");
    expect_query("?token=abc&page=2&limit=10", "page, limit", "page=2&limit=10");
    expect_query("page=2", "page", "page=2");
    expect_query("?page&x&limit=", "limit page", "page&limit=");
    expect_query("?Page=2&pagex=3&pag=4&=5&&", "page", "");
    expect_query("?page=1234567890123456789012345678901234567890123456789012345678901234", "page",
                 "page=1234567890123456789012345678901234567890123456789012345678901234");
    expect_query("?page=12345678901234567890123456789012345678901234567890123456789012345", "page",
                 "page=*");
    expect_query("", "page", "");
    expect_query("?page=a=b", "page", "page=a=b");
}

Test(access, a_list_of_names_holds_names) {
    cr_expect_null(access_names_complaint(SPAN("")));
    cr_expect_null(access_names_complaint(SPAN("page, limit sort_by,X-y.z9")));
    cr_expect_not_null(access_names_complaint(SPAN("page=2")));
    cr_expect_not_null(access_names_complaint(SPAN("a&b")));
}
