#include "rules/wire/cors.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct cors some(void) {
    return (struct cors){.origins = "https://ui.example.com, http://localhost:3000",
                         .methods = "GET,POST",
                         .headers = "Authorization Content-Type",
                         .expose = "X-Correlation-Id",
                         .max_age_s = 600};
}

Test(cors, is_off_without_origins) {
    struct cors c = some();
    cr_expect(cors_is_on(&c));
    c.origins = "";
    cr_expect_not(cors_is_on(&c));
    cr_expect_not(cors_allows(&c, SPAN("https://ui.example.com")));
}

Test(cors, an_origin_is_allowed_byte_for_byte) {
    static const struct {
        const char *origin;
        bool allowed;
    } rows[] = {
        {"https://ui.example.com", true},
        {"http://localhost:3000", true},
        {"http://ui.example.com", false},
        {"https://ui.example.com:443", false},
        {"https://ui.example.com:8443", false},
        {"https://ui.example.com.evil.example", false},
        {"https://evil-ui.example.com", false},
        {"https://evil.example/https://ui.example.com", false},
        {"https://ui.example.com/", false},
        {"https://ui.example.co", false},
        {"https://UI.example.com", false},
        {"https://ui.example.com, http://localhost:3000", false},
        {"http://localhost:30000", false},
        {"http://localhost", false},
        {"ui.example.com", false},
        {"null", false},
        {"*", false},
        {",", false},
        {"", false},
    };
    struct cors c = some();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_expect_eq(cors_allows(&c, span_of(rows[i].origin)), rows[i].allowed, "%s",
                     rows[i].origin);
}

static void expect(struct str *out, const char *wanted) {
    cr_expect(span_equal(str_span(out), span_of(wanted)), "%.*s", SPAN_ARG(str_span(out)));
    str_clear(out);
}

Test(cors, says_who_may_read_an_answer) {
    char memory[1024];
    struct str out;
    struct cors c = some();
    str_init_fixed(&out, memory, sizeof memory);
    cors_spell_answer(&out, &c, SPAN("http://localhost:3000"));
    expect(&out, "Vary: Origin\r\nAccess-Control-Allow-Origin: http://localhost:3000\r\n"
                 "Access-Control-Expose-Headers: X-Correlation-Id\r\n");
    cors_spell_answer(&out, &c, SPAN("https://evil.example"));
    expect(&out, "Vary: Origin\r\n");
    cors_spell_answer(&out, &c, SPAN_NONE);
    expect(&out, "Vary: Origin\r\n");
    c.credentials = true;
    c.expose = "";
    cors_spell_answer(&out, &c, SPAN("http://localhost:3000"));
    expect(&out, "Vary: Origin\r\nAccess-Control-Allow-Origin: http://localhost:3000\r\n"
                 "Access-Control-Allow-Credentials: true\r\n");
    c = some();
    c.origins = "*";
    cors_spell_answer(&out, &c, SPAN("https://any.example"));
    expect(&out, "Access-Control-Allow-Origin: *\r\n"
                 "Access-Control-Expose-Headers: X-Correlation-Id\r\n");
    cors_spell_answer(&out, &c, SPAN_NONE);
    expect(&out, "");
}

Test(cors, a_preflight_hears_what_is_allowed) {
    char memory[1024];
    struct str out;
    struct cors c = some();
    str_init_fixed(&out, memory, sizeof memory);
    cors_spell_preflight(&out, &c, SPAN("https://ui.example.com"));
    expect(&out, "Vary: Origin\r\nAccess-Control-Allow-Origin: https://ui.example.com\r\n"
                 "Access-Control-Allow-Methods: GET, POST\r\n"
                 "Access-Control-Allow-Headers: Authorization, Content-Type\r\n"
                 "Access-Control-Max-Age: 600\r\n");
    cors_spell_preflight(&out, &c, SPAN("https://evil.example"));
    expect(&out, "Vary: Origin\r\n");
}

static struct http_request read(const char *method, const char *fields) {
    static char memory[512];
    static struct http_request request;
    int len = snprintf(memory, sizeof memory, "%s / HTTP/1.1\r\nHost: x\r\n%s\r\n", method, fields);
    cr_assert_eq(http_request_parse((struct span){memory, (size_t)len}, &request), ERR_OK);
    return request;
}

Test(cors, a_preflight_is_told_from_other_questions) {
    static const struct {
        const char *method, *fields;
        bool is;
    } rows[] = {
        {"OPTIONS", "Origin: http://a\r\nAccess-Control-Request-Method: PUT\r\n", true},
        {"OPTIONS", "origin: http://a\r\naccess-control-request-method: PUT\r\n", true},
        {"OPTIONS", "Origin: http://a\r\n", false},
        {"OPTIONS", "Access-Control-Request-Method: PUT\r\n", false},
        {"GET", "Origin: http://a\r\nAccess-Control-Request-Method: PUT\r\n", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct http_request request = read(rows[i].method, rows[i].fields);
        cr_expect_eq(cors_is_preflight(&request), rows[i].is, "row %zu", i);
    }
}

Test(cors, two_origins_are_nobodys) {
    struct http_request one = read("GET", "Origin: http://a\r\n");
    cr_expect(span_equal(cors_origin(&one), SPAN("http://a")));
    struct http_request two = read("GET", "Origin: http://a\r\nOrigin: http://a\r\n");
    cr_expect_eq(cors_origin(&two).len, 0);
    struct http_request none = read("GET", "");
    cr_expect_eq(cors_origin(&none).len, 0);
}

Test(cors, knows_the_fields_that_are_ours_to_say) {
    cr_expect(cors_is_our_field(SPAN("Access-Control-Allow-Origin")));
    cr_expect(cors_is_our_field(SPAN("access-control-max-age")));
    cr_expect_not(cors_is_our_field(SPAN("Vary")));
    cr_expect_not(cors_is_our_field(SPAN("Access-Control")));
}

Test(cors, origins_are_written_as_browsers_spell_them) {
    static const char *const fine[] = {"",
                                       "*",
                                       "https://ui.example.com",
                                       "http://localhost:3000,https://a",
                                       "https://[::1]:8443 http://[::1]",
                                       "https://xn--bcher-kva.example"};
    static const char *const wrong[] = {
        "ui.example.com", "https://",
        "https://ui/",    "https://ui/path",
        "https://UI",     "https://*.ui",
        "https://ui:443", "http://ui:80",
        "https://ui:",    "https://ui:port",
        "https://ui:0",   "https://ui:123456",
        "ftp://ui",       "null",
        "*, https://ui",  ",",
        "https://u@ui",   "https://ui?x",
        "https://ui;x",
    };
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++)
        cr_expect_null(cors_origins_complaint(span_of(fine[i])), "%s", fine[i]);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        cr_expect_not_null(cors_origins_complaint(span_of(wrong[i])), "%s", wrong[i]);
}

Test(cors, methods_and_fields_are_tokens) {
    cr_expect_null(cors_names_complaint(SPAN("GET, X-A *")));
    cr_expect_null(cors_names_complaint(SPAN("")));
    cr_expect_not_null(cors_names_complaint(SPAN("X-A: b")));
    cr_expect_not_null(cors_names_complaint(SPAN("a;b")));
}
