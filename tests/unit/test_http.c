#include "rules/wire/http.h"

#include "base/str.h"

#include <criterion/criterion.h>

#include <inttypes.h>
#include <stdio.h>

#define ROWS(table)  (sizeof(table) / sizeof *(table))
#define GET          "GET / HTTP/1.1\r\n"
#define HOST         "Host: a\r\n"
#define POST(fields) "POST /x HTTP/1.1\r\n" HOST fields "\r\n"
#define OK(fields)   "HTTP/1.1 200 OK\r\n" fields "\r\n"

/* ---- the walk of a request: scan, then parse ---- */

static enum err parse_request(struct span bytes, struct http_request *out) {
    struct http_scan scan = {0};
    size_t head_len = 0;
    enum err error = ERR_OK;
    enum http_step step = http_scan(&scan, bytes, &head_len, &error);
    if (step == HTTP_BAD)
        return error;
    cr_assert_eq(step, HTTP_DONE, "incomplete: %.*s", SPAN_ARG(bytes));
    return http_request_parse((struct span){bytes.ptr + scan.start, head_len - scan.start}, out);
}

static struct http_request accepted(const char *head) {
    struct http_request request;
    enum err e = parse_request(span_of(head), &request);
    cr_assert_eq(e, ERR_OK, "%s for: %s", err_row(e)->symbol, head);
    return request;
}

static struct http_response accepted_response(const char *head) {
    struct http_response response;
    enum err e = http_response_parse(span_of(head), &response);
    cr_assert_eq(e, ERR_OK, "%s for: %s", err_row(e)->symbol, head);
    return response;
}

static void expect_text(struct span got, const char *wanted, const char *what, const char *row) {
    cr_expect(span_equal(got, span_of(wanted)), "%s is '%.*s', not '%s', in: %s", what,
              SPAN_ARG(got), wanted, row);
}

struct refusal {
    struct span head;
    enum err error;
};

static void expect_refused(const struct refusal *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct http_request request;
        enum err e = parse_request(rows[i].head, &request);
        cr_expect_eq(e, rows[i].error, "row %zu: %s instead of %s for: %.*s", i, err_row(e)->symbol,
                     err_row(rows[i].error)->symbol, SPAN_ARG(rows[i].head));
    }
}

/* A head of a heartbeat as Node's fetch sends it. */
static const char heartbeat[] =
    "POST /agents/65f1a2b3c4d5e6f708192a3b/heartbeat HTTP/1.1\r\n"
    "host: gateway.example.com:8443\r\n"
    "connection: keep-alive\r\n"
    "Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI2NWYxIn0.c2lnbmF0dXJl\r\n"
    "content-type: application/json\r\n"
    "content-length: 61\r\n"
    "x-correlation-id: 7d8f6b1e\r\n"
    "\r\n";

/* ---- requests ---- */

Test(http, reads_a_heartbeat) {
    struct http_request r = accepted(heartbeat);
    cr_assert_eq(r.method, HTTP_POST);
    expect_text(r.method_text, "POST", "method", heartbeat);
    expect_text(r.path, "/agents/65f1a2b3c4d5e6f708192a3b/heartbeat", "path", heartbeat);
    cr_assert_eq(r.query.len, 0);
    expect_text(r.host, "gateway.example.com:8443", "host", heartbeat);
    expect_text(r.fields.known[HTTP_CONTENT_TYPE], "application/json", "type", heartbeat);
    expect_text(r.fields.known[HTTP_CORRELATION_ID], "7d8f6b1e", "correlation id", heartbeat);
    cr_assert_eq(r.content_length, 61);
    cr_assert_eq(r.minor, 1);
    cr_assert(r.keep_alive);
    cr_assert_not(r.chunked);
    cr_assert_not(r.expect_continue);
    cr_assert_not(r.wants_upgrade);
    cr_assert_eq(r.fields.count, 6);
    cr_assert_eq(r.fields.known_count[HTTP_AUTHORIZATION], 1);
    cr_assert_eq(r.fields.known_count[HTTP_EXPECT], 0);
    cr_assert_null(r.fields.known[HTTP_EXPECT].ptr);
}

Test(http, keeps_fields_as_spelled_and_values_trimmed) {
    struct http_request r = accepted(GET HOST "X-Odd: \t a  b \t \r\nx-odd: second\r\nEmpty:\r\n"
                                              "Latin: caf\xe9\r\n\r\n");
    cr_assert_eq(r.fields.count, 5);
    expect_text(r.fields.at[1].name, "X-Odd", "name", "");
    expect_text(r.fields.at[1].value, "a  b", "value", "");
    cr_assert_eq(r.fields.at[1].known, HTTP_UNKNOWN);
    expect_text(http_field(&r.fields, SPAN("x-ODD")), "a  b", "first value", "");
    expect_text(http_field(&r.fields, SPAN("latin")), "caf\xe9", "obs-text", "");
    cr_assert_eq(http_field(&r.fields, SPAN("empty")).len, 0);
    cr_assert_not_null(http_field(&r.fields, SPAN("empty")).ptr);
    cr_assert_null(http_field(&r.fields, SPAN("absent")).ptr);
}

Test(http, knows_its_fields_in_any_case_and_no_others) {
    static const struct {
        const char *name;
        enum http_known known;
    } rows[] = {
        {"HOST", HTTP_HOST},
        {"Content-Length", HTTP_CONTENT_LENGTH},
        {"TRANSFER-encoding", HTTP_TRANSFER_ENCODING},
        {"connection", HTTP_CONNECTION},
        {"eXPECT", HTTP_EXPECT},
        {"Upgrade", HTTP_UPGRADE},
        {"AUTHORIZATION", HTTP_AUTHORIZATION},
        {"Content-Type", HTTP_CONTENT_TYPE},
        {"Content-Encoding", HTTP_CONTENT_ENCODING},
        {"X-Correlation-ID", HTTP_CORRELATION_ID},
        {"Cache-Control", HTTP_CACHE_CONTROL},
        {"Keep-Alive", HTTP_KEEP_ALIVE},
        {"Date", HTTP_DATE},
        {"Retry-After", HTTP_RETRY_AFTER},
        {"Hos", HTTP_UNKNOWN},
        {"Hosts", HTTP_UNKNOWN},
        {"Hose", HTTP_UNKNOWN},
        {"Content-Lengt", HTTP_UNKNOWN},
        {"Content-Lengths", HTTP_UNKNOWN},
        {"Content.Length", HTTP_UNKNOWN},
        {"Dat_", HTTP_UNKNOWN},
        {"X", HTTP_UNKNOWN},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        char head[128];
        snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\n%s: %s\r\n\r\n", rows[i].name,
                 rows[i].known == HTTP_TRANSFER_ENCODING ? "chunked" : "5");
        struct http_response r = accepted_response(head);
        cr_expect_eq(r.fields.at[0].known, rows[i].known, "%s", rows[i].name);
        for (int known = 0; known < HTTP_KNOWN_COUNT; known++)
            cr_expect_eq(r.fields.known_count[known], known == (int)rows[i].known, "%s",
                         rows[i].name);
    }
}

Test(http, names_the_methods) {
    static const struct {
        const char *name;
        enum http_method method;
    } rows[] = {
        {"GET", HTTP_GET},
        {"HEAD", HTTP_HEAD},
        {"POST", HTTP_POST},
        {"PUT", HTTP_PUT},
        {"DELETE", HTTP_DELETE},
        {"OPTIONS", HTTP_OPTIONS},
        {"PATCH", HTTP_PATCH},
        {"get", HTTP_OTHER},
        {"PROPFIND", HTTP_OTHER},
        {"UPDATEREDIRECTREF", HTTP_OTHER},
        {"!#$%&'*+-.^_`|~", HTTP_OTHER},
        {"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF", HTTP_OTHER},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        char head[128];
        snprintf(head, sizeof head, "%s / HTTP/1.1\r\nHost: a\r\n\r\n", rows[i].name);
        struct http_request r = accepted(head);
        cr_expect_eq(r.method, rows[i].method, "%s", rows[i].name);
        expect_text(r.method_text, rows[i].name, "method", head);
    }
}

Test(http, splits_every_form_of_target) {
    static const struct {
        const char *line;
        const char *path, *query, *host;
    } rows[] = {
        {"GET / HTTP/1.1", "/", "", "a"},
        {"GET /a/b%20c;d?e=f?g HTTP/1.1", "/a/b%20c;d", "?e=f?g", "a"},
        {"GET /? HTTP/1.1", "/", "?", "a"},
        {"GET //agents HTTP/1.1", "//agents", "", "a"},
        {"GET /{a}|\"<>\\^` HTTP/1.1", "/{a}|\"<>\\^`", "", "a"},
        {"GET http://b/c?d HTTP/1.1", "/c", "?d", "b"},
        {"GET HTTPS://b.example:8443/c HTTP/1.1", "/c", "", "b.example:8443"},
        {"GET http://[::1]:80/c HTTP/1.1", "/c", "", "[::1]:80"},
        {"GET http://b HTTP/1.1", "/", "", "b"},
        {"GET http://b?d HTTP/1.1", "/", "?d", "b"},
        {"OPTIONS * HTTP/1.1", "*", "", "a"},
        {"OPTIONS /c HTTP/1.1", "/c", "", "a"},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        char head[256];
        snprintf(head, sizeof head, "%s\r\nHost: a\r\n\r\n", rows[i].line);
        struct http_request r = accepted(head);
        expect_text(r.path, rows[i].path, "path", rows[i].line);
        expect_text(r.query, rows[i].query, "query", rows[i].line);
        expect_text(r.host, rows[i].host, "host", rows[i].line);
    }
}

Test(http, refuses_malformed_request_lines) {
    const struct refusal cases[] = {
        {SPAN("GET /\r\n\r\n"), ERR_BAD_REQUEST}, /* HTTP/0.9 */
        {SPAN("GET\r\n\r\n"), ERR_BAD_REQUEST},
        {SPAN("GET / \r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("GET  / HTTP/1.1\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("GET /  HTTP/1.1\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("GET / HTTP/1.1 \r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN(" GET / HTTP/1.1\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("GET\t/\tHTTP/1.1\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("GET / x HTTP/1.1\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("G(T / HTTP/1.1\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("G\xc3\x89T / HTTP/1.1\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("GET agents HTTP/1.1\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("GET /a#b HTTP/1.1\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("GET /a\xff HTTP/1.1\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("GET /a\x7f HTTP/1.1\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("GET /a\x01 HTTP/1.1\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("GET /a\0 HTTP/1.1\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("GET /a\tb HTTP/1.1\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("GET * HTTP/1.1\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("OPTIONS *a HTTP/1.1\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("GET ? HTTP/1.1\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("GET ftp://a/b HTTP/1.1\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("GET http:/a HTTP/1.1\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("GET a:80 HTTP/1.1\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("GET / http/1.1\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("GET / HTTP/-1.1\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("GET / HTTP/1.10\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("GET / HTTP/11.1\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("GET / HTTP/1\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("GET / HTTP/1.\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("GET / HTTPS/1.1\r\n" HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("GET / HTTP/1.2\r\n" HOST "\r\n"), ERR_BAD_VERSION},
        {SPAN("GET / HTTP/0.9\r\n" HOST "\r\n"), ERR_BAD_VERSION},
        {SPAN("GET / HTTP/2.0\r\n" HOST "\r\n"), ERR_BAD_VERSION},
        {SPAN("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), ERR_BAD_VERSION},
        {SPAN("TRACE / HTTP/1.1\r\n" HOST "\r\n"), ERR_BAD_METHOD},
        {SPAN("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"), ERR_BAD_METHOD},
        {SPAN("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\n" HOST "\r\n"), ERR_BAD_METHOD},
    };
    expect_refused(cases, ROWS(cases));
}

Test(http, refuses_malformed_fields) {
    const struct refusal cases[] = {
        {SPAN(GET HOST "Content-Length : 5\r\n\r\n"), ERR_BAD_REQUEST},
        {SPAN(GET HOST "Content-Length\t: 5\r\n\r\n"), ERR_BAD_REQUEST},
        {SPAN(GET HOST " X: y\r\n\r\n"), ERR_BAD_REQUEST}, /* obs-fold */
        {SPAN(GET HOST "X: y\r\n\tz\r\n\r\n"), ERR_BAD_REQUEST},
        {SPAN(GET " Host: a\r\n\r\n"), ERR_BAD_REQUEST},
        {SPAN(GET HOST ": y\r\n\r\n"), ERR_BAD_REQUEST},
        {SPAN(GET HOST "X\r\n\r\n"), ERR_BAD_REQUEST},
        {SPAN(GET HOST "X Y: z\r\n\r\n"), ERR_BAD_REQUEST},
        {SPAN(GET HOST "X(Y): z\r\n\r\n"), ERR_BAD_REQUEST},
        {SPAN(GET HOST "X\xe9: z\r\n\r\n"), ERR_BAD_REQUEST},
        {SPAN(GET HOST "X\0Y: z\r\n\r\n"), ERR_BAD_REQUEST},
        {SPAN(GET HOST "X: y\0z\r\n\r\n"), ERR_BAD_REQUEST},
        {SPAN(GET HOST "\0\r\n\r\n"), ERR_BAD_REQUEST},
        {SPAN(GET HOST "X: y\x01\r\n\r\n"), ERR_BAD_REQUEST},
        {SPAN(GET HOST "X: y\x7f\r\n\r\n"), ERR_BAD_REQUEST},
        {SPAN(GET HOST "X: y\rz\r\n\r\n"), ERR_BAD_REQUEST}, /* bare CR */
        {SPAN(GET HOST "X: y\r\r\n\r\n"), ERR_BAD_REQUEST},
        {SPAN(GET HOST "X: y\n\r\n"), ERR_BAD_REQUEST}, /* bare LF */
        {SPAN("GET / HTTP/1.1\nHost: a\n\n"), ERR_BAD_REQUEST},
        {SPAN(GET HOST "\n"), ERR_BAD_REQUEST},
        {SPAN("\r\n\r\n" GET HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("\n" GET HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("\r" GET HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN("\0" GET HOST "\r\n"), ERR_BAD_REQUEST},
        {SPAN(GET HOST "Authorization: Bearer a\r\nauthorization: Bearer a\r\n\r\n"),
         ERR_TWO_TOKENS},
        {SPAN(POST("Expect: 200-ok\r\nContent-Length: 1\r\n")), ERR_BAD_EXPECT},
        {SPAN(POST("Expect:\r\nContent-Length: 1\r\n")), ERR_BAD_EXPECT},
        {SPAN(POST("Expect: 100-continue, x\r\nContent-Length: 1\r\n")), ERR_BAD_EXPECT},
        {SPAN(POST("Expect: 100-continue\r\nExpect: x\r\nContent-Length: 1\r\n")), ERR_BAD_EXPECT},
    };
    expect_refused(cases, ROWS(cases));
}

Test(http, requires_exactly_one_plain_host) {
    const struct refusal cases[] = {
        {SPAN(GET "\r\n"), ERR_BAD_HOST},
        {SPAN(GET HOST HOST "\r\n"), ERR_BAD_HOST},
        {SPAN(GET "Host:\r\n\r\n"), ERR_BAD_HOST},
        {SPAN(GET "Host: a b\r\n\r\n"), ERR_BAD_HOST},
        {SPAN(GET "Host: a, b\r\n\r\n"), ERR_BAD_HOST},
        {SPAN(GET "Host: a/b\r\n\r\n"), ERR_BAD_HOST},
        {SPAN(GET "Host: a?b\r\n\r\n"), ERR_BAD_HOST},
        {SPAN(GET "Host: http://a\r\n\r\n"), ERR_BAD_HOST},
        {SPAN(GET "Host: user@a\r\n\r\n"), ERR_BAD_HOST},
        {SPAN(GET "Host: a%00\r\n\r\n"), ERR_BAD_HOST},
        {SPAN(GET "Host: caf\xc3\xa9\r\n\r\n"), ERR_BAD_HOST},
        {SPAN(GET "Host: :80\r\n\r\n"), ERR_BAD_HOST},
        {SPAN(GET "Host: a:b\r\n\r\n"), ERR_BAD_HOST},
        {SPAN(GET "Host: a:+1\r\n\r\n"), ERR_BAD_HOST},
        {SPAN(GET "Host: a:65536\r\n\r\n"), ERR_BAD_HOST},
        {SPAN(GET "Host: a:000080\r\n\r\n"), ERR_BAD_HOST},
        {SPAN(GET "Host: a:1:2\r\n\r\n"), ERR_BAD_HOST},
        {SPAN(GET "Host: ::1\r\n\r\n"), ERR_BAD_HOST},
        {SPAN(GET "Host: [::1\r\n\r\n"), ERR_BAD_HOST},
        {SPAN(GET "Host: []\r\n\r\n"), ERR_BAD_HOST},
        {SPAN(GET "Host: [x]\r\n\r\n"), ERR_BAD_HOST},
        {SPAN(GET "Host: [::1]x\r\n\r\n"), ERR_BAD_HOST},
        {SPAN(GET "Host: [::1]:x\r\n\r\n"), ERR_BAD_HOST},
        {SPAN("GET / HTTP/1.0\r\n" HOST HOST "\r\n"), ERR_BAD_HOST},
        {SPAN("GET / HTTP/1.0\r\nHost:\r\nHost:\r\n\r\n"), ERR_BAD_HOST},
        {SPAN("GET / HTTP/1.0\r\nHost: a b\r\n\r\n"), ERR_BAD_HOST},
        {SPAN("GET http://b/ HTTP/1.1\r\n\r\n"), ERR_BAD_HOST},
        {SPAN("GET http://b/ HTTP/1.1\r\nHost: a b\r\n\r\n"), ERR_BAD_HOST},
        {SPAN("GET http:///c HTTP/1.1\r\n" HOST "\r\n"), ERR_BAD_HOST},
        {SPAN("GET http:// HTTP/1.1\r\n" HOST "\r\n"), ERR_BAD_HOST},
        {SPAN("GET http://user:pass@b/ HTTP/1.1\r\n" HOST "\r\n"), ERR_BAD_HOST},
        {SPAN("GET http://b:x/ HTTP/1.1\r\n" HOST "\r\n"), ERR_BAD_HOST},
    };
    expect_refused(cases, ROWS(cases));
}

Test(http, accepts_hosts_with_ports_and_addresses) {
    static const char *const hosts[] = {"a",           "A.example.com",
                                        "10.0.0.1:80", "a_b.c-d~e",
                                        "a:",          "a:0",
                                        "a:65535",     "[::1]",
                                        "[::1]:8",     "[::ffff:10.0.0.1]:8443"};
    for (size_t i = 0; i < ROWS(hosts); i++) {
        char head[128];
        snprintf(head, sizeof head, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", hosts[i]);
        expect_text(accepted(head).host, hosts[i], "host", head);
    }
    cr_expect_eq(accepted("GET / HTTP/1.0\r\n\r\n").host.len, 0);
    cr_expect_eq(accepted("GET / HTTP/1.0\r\nHost:\r\n\r\n").host.len, 0);
    cr_expect_eq(accepted("GET http://b/ HTTP/1.0\r\n\r\n").host.len, 1);
}

Test(http, refuses_every_framing_that_two_parsers_could_read_differently) {
    const struct refusal cases[] = {
        {SPAN(POST("Content-Length: 5\r\nContent-Length: 6\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Content-Length: 5\r\nContent-Length: 5\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Content-Length: 5, 5\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Content-Length: 5,\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Content-Length:\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Content-Length: +5\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Content-Length: -0\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Content-Length: -1\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Content-Length: 0x5\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Content-Length: 5 5\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Content-Length: 5.0\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Content-Length: 5\xc2\xa0\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Content-Length: five\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Content-Length: \"5\"\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Content-Length: 1234567890123456789\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Content-Length: 18446744073709551621\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Transfer-Encoding: gzip, chunked\r\nContent-Length: 5\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")),
         ERR_BAD_FRAMING},
        {SPAN(POST("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n")),
         ERR_BAD_FRAMING},
        {SPAN(POST("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Transfer-Encoding: chunked, chunked\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Transfer-Encoding: gzip, chunked, chunked\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Transfer-Encoding: chunked, identity\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Transfer-Encoding: identity, chunked\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Transfer-Encoding: identity\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Transfer-Encoding: gzip\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Transfer-Encoding: chunked, gzip\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Transfer-Encoding: xchunked\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Transfer-Encoding: chunked;q=1\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Transfer-Encoding: \"chunked\"\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Transfer-Encoding: chunked\xa0\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Transfer-Encoding: chunked,\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Transfer-Encoding: , chunked\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Transfer-Encoding:\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Transfer-Encoding: ,\r\n")), ERR_BAD_FRAMING},
        {SPAN("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), ERR_BAD_FRAMING},
        {SPAN("POST / HTTP/1.0\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"), ERR_BAD_FRAMING},
        {SPAN(POST("Content_Length: 5\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("CONTENT_LENGTH: 5\r\nContent-Length: 5\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("transfer_encoding: chunked\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Transfer_Encoding: x\r\n")), ERR_BAD_FRAMING},
        {SPAN(POST("Transfer-Encoding: gzip, chunked\r\n")), ERR_BAD_CODING},
        {SPAN(POST("Transfer-Encoding: deflate, gzip, Chunked\r\n")), ERR_BAD_CODING},
    };
    expect_refused(cases, ROWS(cases));
}

Test(http, finds_the_body_of_any_method) {
    static const struct {
        const char *head;
        bool chunked;
        int64_t content_length;
    } rows[] = {
        {POST(""), false, 0},
        {GET HOST "Content-Length: 5\r\n\r\n", false, 5},
        {"HEAD / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\n", false, 5},
        {"OPTIONS * HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\n", false, 5},
        {"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\n", false, 5},
        {POST("Content-Length: 0\r\n"), false, 0},
        {POST("Content-Length:\t007 \r\n"), false, 7},
        {POST("Content-Length: 999999999999999999\r\n"), false, 999999999999999999},
        {POST("Transfer-Encoding: chunked\r\n"), true, -1},
        {POST("TRANSFER-ENCODING:  Chunked \t\r\n"), true, -1},
        {GET HOST "Transfer-Encoding: chunked\r\n\r\n", true, -1},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct http_request r = accepted(rows[i].head);
        cr_expect_eq(r.chunked, rows[i].chunked, "%s", rows[i].head);
        cr_expect_eq(r.content_length, rows[i].content_length, "%" PRId64 ": %s", r.content_length,
                     rows[i].head);
    }
}

Test(http, keeps_a_connection_unless_somebody_closes_it) {
    static const struct {
        const char *head;
        bool keep_alive;
    } rows[] = {
        {GET HOST "\r\n", true},
        {GET HOST "Connection: close\r\n\r\n", false},
        {GET HOST "Connection: Close\r\n\r\n", false},
        {GET HOST "Connection: keep-alive, close\r\n\r\n", false},
        {GET HOST "Connection: close, keep-alive\r\n\r\n", false},
        {GET HOST "Connection: keep-alive\r\nX: y\r\nConnection: close\r\n\r\n", false},
        {GET HOST "Connection: ,, close ,\r\n\r\n", false},
        {GET HOST "Connection: closed, x-close\r\n\r\n", true},
        {GET HOST "Connection:\r\n\r\n", true},
        {"GET / HTTP/1.0\r\n\r\n", false},
        {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true},
        {"GET / HTTP/1.0\r\nConnection: Keep-Alive, close\r\n\r\n", false},
    };
    for (size_t i = 0; i < ROWS(rows); i++)
        cr_expect_eq(accepted(rows[i].head).keep_alive, rows[i].keep_alive, "%s", rows[i].head);
}

Test(http, refuses_a_connection_that_nominates_what_is_meant_for_the_controller) {
    static const char *const nominated[] = {
        "host",           "Authorization",   "COOKIE",           "content-type",
        "Content-Hash",   "cache-control",   "x-correlation-id", "x-organization-id",
        "forwarded",      "X-Forwarded-For", "x-real-ip",        "transfer-encoding",
        "content-length", "accept",          "expect",           "content_type",
    };
    static const char *const lists[] = {
        "Connection: %s\r\n",
        "Connection: keep-alive, %s\r\n",
        "connection:\t%s\t,close\r\n",
        "Connection: close\r\nX: y\r\nCONNECTION: a, ,%s\r\n",
        "Connection: Upgrade,%s\r\nUpgrade: websocket\r\n",
    };
    char fields[256], head[512];
    struct http_request request;
    for (size_t i = 0; i < ROWS(nominated) * ROWS(lists); i++) {
        const char *format = lists[i % ROWS(lists)], *mark = strstr(format, "%s");
        snprintf(fields, sizeof fields, "%.*s%s%s", (int)(mark - format), format,
                 nominated[i / ROWS(lists)], mark + 2);
        snprintf(head, sizeof head, GET HOST "%s\r\n", fields);
        cr_expect_eq(parse_request(span_of(head), &request), ERR_BAD_CONNECTION, "%s", head);
    }
}

Test(http, lets_a_connection_nominate_what_is_the_next_hops_or_nobodys) {
    struct http_request r =
        accepted(GET HOST "Connection: Keep-Alive, TE, Trailer, Upgrade, HTTP2-Settings, X-Mine, "
                          "traceparent, content, hosts\r\nProxy-Connection: keep-alive\r\n\r\n");
    cr_expect(r.keep_alive);
}

Test(http, sees_who_waits_for_100_and_who_wants_to_upgrade) {
    static const struct {
        const char *head;
        bool expects, upgrades;
    } rows[] = {
        {POST("Expect: 100-continue\r\nContent-Length: 1\r\n"), true, false},
        {POST("Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n"), true, false},
        {POST("Expect: 100-continue\r\n"), false, false}, /* nothing to wait for */
        {"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", false, false},
        {GET HOST "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", false, true},
        {GET HOST "Connection: keep-alive, upgrade\r\nUpgrade: websocket\r\n\r\n", false, true},
        {GET HOST "Connection: keep-alive\r\nUpgrade: websocket\r\n\r\n", false, false},
        {GET HOST "Connection: upgrade\r\n\r\n", false, false},
        {GET HOST "Connection: upgrade\r\nUpgrade:\r\n\r\n", false, false},
        {"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", false, false},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct http_request r = accepted(rows[i].head);
        cr_expect_eq(r.expect_continue, rows[i].expects, "%s", rows[i].head);
        cr_expect_eq(r.wants_upgrade, rows[i].upgrades, "%s", rows[i].head);
    }
}

Test(http, parser_alone_refuses_what_is_not_one_whole_head) {
    const struct span rows[] = {
        SPAN(""),
        SPAN("\r\n"),
        SPAN("GET"),
        SPAN("GET "),
        SPAN("GET /"),
        SPAN("GET / HTTP/1.1"),
        SPAN("GET / HTTP/1.1\r"),
        SPAN(GET),
        SPAN(GET "Host"),
        SPAN(GET "Host: a"),
        SPAN(GET HOST),
        SPAN(GET HOST "\r"),
        SPAN(GET HOST "\r\nx"),
    };
    struct http_request request;
    for (size_t i = 0; i < ROWS(rows); i++)
        cr_expect_eq(http_request_parse(rows[i], &request), ERR_BAD_REQUEST, "row %zu", i);
}

/* ---- limits and cuts ---- */

static void add_repeated(struct str *s, char c, size_t count) {
    for (size_t i = 0; i < count; i++)
        str_add_char(s, c);
}

static enum err parse_with_target(size_t target_len) {
    struct str s;
    struct http_request request;
    str_init(&s, 1 << 16);
    STR_ADD(&s, "GET /");
    add_repeated(&s, 'a', target_len - 1);
    STR_ADD(&s, " HTTP/1.1\r\n" HOST "\r\n");
    enum err e = parse_request(str_span(&s), &request);
    str_release(&s);
    return e;
}

Test(http, limits_the_target) {
    cr_expect_eq(parse_with_target(HTTP_TARGET_MAX), ERR_OK);
    cr_expect_eq(parse_with_target(HTTP_TARGET_MAX + 1), ERR_TARGET_TOO_LONG);
    cr_expect_eq(parse_with_target(HTTP_TARGET_MAX + 100), ERR_TARGET_TOO_LONG);
    cr_expect_eq(parse_with_target(HTTP_HEAD_MAX + 100), ERR_TARGET_TOO_LONG);
}

static enum err parse_with_size(size_t head_len) {
    struct str s;
    struct http_request request;
    str_init(&s, 1 << 16);
    STR_ADD(&s, GET HOST "X: ");
    add_repeated(&s, 'x', head_len - s.len - 4);
    STR_ADD(&s, "\r\n\r\n");
    enum err e = parse_request(str_span(&s), &request);
    str_release(&s);
    return e;
}

Test(http, limits_the_head) {
    cr_expect_eq(parse_with_size(HTTP_HEAD_MAX), ERR_OK);
    cr_expect_eq(parse_with_size(HTTP_HEAD_MAX + 1), ERR_HEAD_TOO_LARGE);
    cr_expect_eq(parse_with_size(3 * HTTP_HEAD_MAX), ERR_HEAD_TOO_LARGE);
}

static enum err parse_with_fields(size_t count) {
    struct str s;
    struct http_request request;
    str_init(&s, 1 << 16);
    STR_ADD(&s, GET HOST);
    for (size_t i = 1; i < count; i++)
        STR_ADD(&s, "X: y\r\n");
    STR_ADD(&s, "\r\n");
    enum err e = parse_request(str_span(&s), &request);
    str_release(&s);
    return e;
}

Test(http, limits_the_fields) {
    cr_expect_eq(parse_with_fields(HTTP_FIELDS_MAX), ERR_OK);
    cr_expect_eq(parse_with_fields(HTTP_FIELDS_MAX + 1), ERR_HEAD_TOO_LARGE);
}

Test(http, refuses_an_endless_first_line_before_it_ends) {
    struct str s;
    str_init(&s, 1 << 16);
    add_repeated(&s, 'a', HTTP_TARGET_MAX + 64);
    struct http_scan scan = {0};
    size_t head_len;
    enum err error = ERR_OK;
    cr_expect_eq(http_scan(&scan, str_span(&s), &head_len, &error), HTTP_BAD);
    cr_expect_eq(error, ERR_TARGET_TOO_LONG);
    str_release(&s);
}

Test(http, scanner_refuses_bad_line_ends_before_the_head_is_complete) {
    const struct span rows[] = {
        SPAN("GET / HTTP/1.1\n"),
        SPAN(GET "Host: a\n"),
        SPAN(GET "Host: a\r\r"),
        SPAN(GET "Host: a\ra"),
        SPAN(GET HOST "\r\r"),
        SPAN(GET HOST "\ra"),
        SPAN("GET / HTTP/1.1\r\r"),
        SPAN("\n"),
        SPAN("\r\r"),
        SPAN("\r\n\r"),
        SPAN("\r\n\n"),
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct http_scan scan = {0};
        size_t head_len;
        enum err error = ERR_OK;
        cr_expect_eq(http_scan(&scan, rows[i], &head_len, &error), HTTP_BAD, "row %zu", i);
        cr_expect_eq(error, ERR_BAD_REQUEST, "row %zu", i);
    }
}

/* The fast loops look at eight bytes at once: every byte at every place among them. */
Test(http, takes_only_visible_ascii_without_a_fragment_wherever_it_stands_in_a_target) {
    for (size_t at = 1; at < 40; at++)
        for (int byte = 1; byte < 256; byte++) {
            char head[128], target[41] = "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
            struct http_request request;
            if (byte == '\r' || byte == '\n' || byte == '?') /* they end or divide it */
                continue;
            target[at] = (char)byte;
            int len = snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", target);
            bool taken = parse_request((struct span){head, (size_t)len}, &request) == ERR_OK;
            cr_assert_eq(taken, byte > ' ' && byte < 0x7f && byte != '#', "%d at %zu", byte, at);
            cr_assert(!taken || span_equal(request.target, span_of(target)));
        }
}

Test(http, refuses_every_control_byte_wherever_it_stands_in_a_value) {
    for (int c = 0; c < 256; c++) {
        bool legal = c == '\t' || (c >= ' ' && c != 0x7f);
        for (size_t place = 1; place <= 16; place++) {
            char head[] = GET HOST "X: 0123456789abcdef0123456789\r\n\r\n";
            struct http_request request;
            head[sizeof GET HOST "X: " - 1 + place] = (char)c;
            struct span bytes = {head, sizeof head - 1};
            enum err wanted = legal ? ERR_OK : ERR_BAD_REQUEST;
            cr_expect_eq(http_request_parse(bytes, &request), wanted, "%02x at %zu", c, place);
            cr_expect_eq(parse_request(bytes, &request), wanted, "%02x at %zu", c, place);
        }
    }
}

Test(http, skips_one_leading_line_and_leaves_the_next_request_alone) {
    struct span bytes = SPAN("\r\n" GET HOST "\r\nPOST /next");
    struct http_scan scan = {0};
    size_t head_len;
    enum err error;
    cr_assert_eq(http_scan(&scan, bytes, &head_len, &error), HTTP_DONE);
    cr_expect_eq(scan.start, 2);
    cr_expect(span_equal(span_from(bytes, head_len), SPAN("POST /next")));
}

struct scan_end {
    enum http_step step;
    enum err error;
    size_t head_len;
    uint32_t start;
};

static struct scan_end scan_in_steps(struct span bytes, size_t step_len) {
    struct http_scan scan = {0};
    struct scan_end end = {HTTP_MORE, ERR_OK, 0, 0};
    for (size_t len = 0; len < bytes.len && end.step == HTTP_MORE;) {
        len = len + step_len < bytes.len ? len + step_len : bytes.len;
        end.step = http_scan(&scan, (struct span){bytes.ptr, len}, &end.head_len, &end.error);
    }
    end.start = scan.start;
    return end;
}

Test(http, one_byte_at_a_time_equals_all_at_once) {
    const struct span rows[] = {
        {heartbeat, sizeof heartbeat - 1},
        SPAN("\r\n" GET HOST "\r\nGET /next"),
        SPAN("\r\n\r\n" GET HOST "\r\n"),
        SPAN(GET HOST "Tabbed:\ta\tb\tc\td\t\r\n\r\n"),
        SPAN(GET "Host: a\n\r\n"),
        SPAN(GET "Host: a\rb\r\n\r\n"),
        SPAN(GET "Host: a\0b\r\n\r\n"),
        SPAN(GET "Host: a\x7f\r\n\r\n"),
        SPAN(GET "Host: a\r\n\rb"),
        SPAN(GET "Host: incomplete\r\n"),
        SPAN("\rGET"),
        SPAN("\n"),
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct scan_end whole = scan_in_steps(rows[i], rows[i].len);
        for (size_t step = 1; step < 20; step++) {
            struct scan_end cut = scan_in_steps(rows[i], step);
            cr_expect_eq(cut.step, whole.step, "row %zu, %zu at a time", i, step);
            cr_expect_eq(cut.error, whole.error, "row %zu, %zu at a time", i, step);
            cr_expect_eq(cut.head_len, whole.head_len, "row %zu, %zu at a time", i, step);
            cr_expect_eq(cut.start, whole.start, "row %zu, %zu at a time", i, step);
        }
    }
}

/* ---- responses ---- */

Test(http, reads_the_controllers_answer) {
    struct http_response r =
        accepted_response("HTTP/1.1 201 Created\r\nX-Powered-By: Express\r\n"
                          "Content-Type: application/json; charset=utf-8\r\nContent-Length: 16\r\n"
                          "Date: Mon, 23 Nov 2026 04:23:08 GMT\r\nConnection: keep-alive\r\n"
                          "Keep-Alive: timeout=5\r\n\r\n");
    cr_expect_eq(r.status, 201);
    expect_text(r.reason, "Created", "reason", "");
    cr_expect_eq(r.minor, 1);
    cr_expect(r.keep_alive);
    cr_expect_not(r.chunked);
    cr_expect_eq(r.content_length, 16);
    cr_expect_eq(r.keep_alive_s, 5);
    cr_expect_eq(r.fields.count, 6);
    expect_text(r.fields.known[HTTP_DATE], "Mon, 23 Nov 2026 04:23:08 GMT", "date", "");
}

Test(http, reads_every_legal_status_line) {
    static const struct {
        const char *head;
        int status;
        const char *reason;
    } rows[] = {
        {"HTTP/1.1 200 OK\r\n\r\n", 200, "OK"},
        {"HTTP/1.1 200 \r\n\r\n", 200, ""},
        {"HTTP/1.1 200\r\n\r\n", 200, ""},
        {"HTTP/1.0 404 Not Found\r\n\r\n", 404, "Not Found"},
        {"HTTP/1.1 100 Continue\r\n\r\n", 100, "Continue"},
        {"HTTP/1.1 101 Switching Protocols\r\n\r\n", 101, "Switching Protocols"},
        {"HTTP/1.1 103 Early Hints\r\n\r\n", 103, "Early Hints"},
        {"HTTP/1.1 599 caf\xe9\tx\r\n\r\n", 599, "caf\xe9\tx"},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct http_response r = accepted_response(rows[i].head);
        cr_expect_eq(r.status, rows[i].status, "%s", rows[i].head);
        expect_text(r.reason, rows[i].reason, "reason", rows[i].head);
    }
}

Test(http, reads_how_an_answer_ends) {
    static const struct {
        const char *head;
        bool chunked, keep_alive;
        int64_t content_length;
        int keep_alive_s;
    } rows[] = {
        {OK(""), false, true, -1, -1},
        {OK("Content-Length: 0\r\n"), false, true, 0, -1},
        {OK("Transfer-Encoding: chunked\r\n"), true, true, -1, -1},
        {OK("Connection: content-type, date\r\n"), false, true, -1, -1},
        {OK("Connection: close\r\n"), false, false, -1, -1},
        {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", false, false, 1, -1},
        {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", false, true, -1, -1},
        {OK("Keep-Alive: timeout=75\r\n"), false, true, -1, 75},
        {OK("Keep-Alive: max=100, Timeout=20\r\n"), false, true, -1, 20},
        {OK("Keep-Alive: timeout=0\r\n"), false, true, -1, 0},
        {OK("Keep-Alive: timeout=\r\n"), false, true, -1, -1},
        {OK("Keep-Alive: timeout=-5\r\n"), false, true, -1, -1},
        {OK("Keep-Alive: timeout=99999999999\r\n"), false, true, -1, -1},
        {OK("Keep-Alive: timeouts=5\r\n"), false, true, -1, -1},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct http_response r = accepted_response(rows[i].head);
        cr_expect_eq(r.chunked, rows[i].chunked, "%s", rows[i].head);
        cr_expect_eq(r.keep_alive, rows[i].keep_alive, "%s", rows[i].head);
        cr_expect_eq(r.content_length, rows[i].content_length, "%s", rows[i].head);
        cr_expect_eq(r.keep_alive_s, rows[i].keep_alive_s, "%s", rows[i].head);
    }
}

Test(http, refuses_malformed_answers) {
    const struct span rows[] = {
        SPAN(""),
        SPAN("HTTP/1.1\r\n\r\n"),
        SPAN("HTTP/1.1 20\r\n\r\n"),
        SPAN("HTTP/1.1 2000 OK\r\n\r\n"),
        SPAN("HTTP/1.1 200OK\r\n\r\n"),
        SPAN("HTTP/1.1  200 OK\r\n\r\n"),
        SPAN("HTTP/1.1 099 Low\r\n\r\n"),
        SPAN("HTTP/1.1 600 High\r\n\r\n"),
        SPAN("HTTP/1.1 +20 OK\r\n\r\n"),
        SPAN("HTTP/1.1 2x0 OK\r\n\r\n"),
        SPAN("HTTP/2.0 200 OK\r\n\r\n"),
        SPAN("HTTP/1.2 200 OK\r\n\r\n"),
        SPAN("ICY 200 OK\r\n\r\n"),
        SPAN("http/1.1 200 OK\r\n\r\n"),
        SPAN("HTTP/1.1 200 O\x01K\r\n\r\n"),
        SPAN("HTTP/1.1 200 OK\n\n"),
        SPAN(" HTTP/1.1 200 OK\r\n\r\n"),
        SPAN(OK("X : y\r\n")),
        SPAN(OK("X: y\r\n z\r\n")),
        SPAN(OK("X: y\0z\r\n")),
        SPAN(OK("Content-Length: 5\r\nContent-Length: 5\r\n")),
        SPAN(OK("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")),
        SPAN(OK("Content-Length: 5, 5\r\n")),
        SPAN(OK("Content-Length: x\r\n")),
        SPAN(OK("Content_Length: 5\r\n")),
        SPAN(OK("Transfer-Encoding: gzip, chunked\r\n")),
        SPAN(OK("Transfer-Encoding: identity\r\n")),
        SPAN("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        SPAN("HTTP/1.1 200 OK\r\n"),
        SPAN(OK("") "x"),
    };
    struct http_response response;
    for (size_t i = 0; i < ROWS(rows); i++)
        cr_expect_eq(http_response_parse(rows[i], &response), ERR_UPSTREAM_PROTOCOL,
                     "row %zu: %.*s", i, SPAN_ARG(rows[i]));
}

/* ---- lists and reasons ---- */

Test(http, walks_lists) {
    struct span list = SPAN(" a ,, b\t,c=d , ");
    static const char *const there[] = {"a", "b", "c=d"}, *const absent[] = {"", "c", "a ", "b\t"};
    for (size_t i = 0; i < ROWS(there); i++)
        cr_expect(http_list_has(list, span_of(there[i])), "%s", there[i]);
    for (size_t i = 0; i < ROWS(absent); i++)
        cr_expect_not(http_list_has(list, span_of(absent[i])), "'%s'", absent[i]);
    cr_expect(http_list_has(SPAN("no-store, No-Cache"), SPAN("no-cache")));
    cr_expect_not(http_list_has(SPAN("no-cached, xno-cache"), SPAN("no-cache")));
    cr_expect_not(http_list_has(SPAN_NONE, SPAN("no-cache")));
}

Test(http, has_a_reason_for_every_status_it_answers) {
    for (int e = 0; e < ERR_COUNT; e++)
        cr_expect_str_not_empty(http_reason(err_row((enum err)e)->status), "%s",
                                err_row((enum err)e)->symbol);
    cr_expect_str_eq(http_reason(201), "Created");
    cr_expect_str_eq(http_reason(299), "");
}

/* ---- chunks ---- */

struct decoded {
    enum http_step step;
    size_t used;
    size_t len;
    char text[256];
};

/* Feeds `bytes` in pieces of `piece` bytes, as the network might. */
static struct decoded decode(struct span bytes, size_t piece) {
    struct http_chunks chunks = {0};
    struct decoded out = {HTTP_MORE, 0, 0, {0}};
    while (out.step == HTTP_MORE && out.used < bytes.len) {
        size_t left = bytes.len - out.used;
        struct span part = {bytes.ptr + out.used, left < piece ? left : piece};
        struct span data;
        size_t used;
        out.step = http_chunks_next(&chunks, part, &used, &data);
        cr_assert(used > 0 && used <= part.len && data.len <= used);
        cr_assert_leq(out.len + data.len, sizeof out.text);
        if (data.len > 0)
            memcpy(out.text + out.len, data.ptr, data.len);
        out.len += data.len;
        out.used += used;
    }
    return out;
}

#define NEXT "GET /next"

Test(http, decodes_chunks_however_they_are_cut) {
    static const struct {
        const char *bytes;
        const char *body;
    } rows[] = {
        {"0\r\n\r\n" NEXT, ""},
        {"000\r\n\r\n" NEXT, ""},
        {"5\r\nhello\r\n0\r\n\r\n" NEXT, "hello"},
        {"000000000000005\r\nhello\r\n0\r\n\r\n" NEXT, "hello"},
        {"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n" NEXT, "abc"},
        {"a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n" NEXT, "01234567890123456789a"},
        {"4\r\n\r\n\r\n\r\n0\r\n\r\n" NEXT, "\r\n\r\n"},
        {"5;name=value\r\nhello\r\n0;last\r\n\r\n" NEXT, "hello"},
        {"5 ; name=\"quoted; \\\" value\"\r\nhello\r\n0\r\n\r\n" NEXT, "hello"},
        {"5\r\nhello\r\n0\r\nX-Sum: 1\r\nEmpty:\r\n\r\n" NEXT, "hello"},
        {"0\r\nContent-Length: 5\r\n\r\n" NEXT, ""},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct span bytes = span_of(rows[i].bytes);
        for (size_t piece = 1; piece <= bytes.len; piece++) {
            struct decoded got = decode(bytes, piece);
            cr_expect_eq(got.step, HTTP_DONE, "row %zu in pieces of %zu", i, piece);
            expect_text((struct span){got.text, got.len}, rows[i].body, "body", rows[i].bytes);
            cr_expect_eq(got.used, bytes.len - strlen(NEXT), "row %zu in pieces of %zu", i, piece);
        }
    }
}

Test(http, refuses_malformed_chunks_however_they_are_cut) {
    const struct span rows[] = {
        SPAN("\r\n"),
        SPAN(";x\r\n"),
        SPAN("0x5\r\n"),
        SPAN("+5\r\n"),
        SPAN("-5\r\n"),
        SPAN(" 5\r\n"),
        SPAN("5 \r\n"),
        SPAN("5\t5\r\n"),
        SPAN("5,\r\n"),
        SPAN("g\r\n"),
        SPAN("5\n"),
        SPAN("5\r5"),
        SPAN("5;a\nhello"),
        SPAN("5;a\rb\r\n"),
        SPAN("5;a\0\r\n"),
        SPAN("0000000000000005\r\n"), /* 16 digits */
        SPAN("ffffffffffffffff\r\n"),
        SPAN("10000000000000005\r\n"),
        SPAN("5\r\nhello0\r\n\r\n"), /* no CRLF behind the data */
        SPAN("5\r\nhello!\r\n0\r\n\r\n"),
        SPAN("5\r\nhello\n0\r\n\r\n"),
        SPAN("5\r\nhello\r\r"),
        SPAN("5\r\nhello!\n0\r\n\r\n"),
        SPAN("5\r\nhello\r\n\r\n0\r\n\r\n"),
        SPAN("0\n\n"),
        SPAN("0\r\n\n"),
        SPAN("0\r\n\rx"),
        SPAN("0\r\n X: y\r\n\r\n"),
        SPAN("0\r\n: y\r\n\r\n"),
        SPAN("0\r\nX\r\n\r\n"),
        SPAN("0\r\nX : y\r\n\r\n"),
        SPAN("0\r\nX: y\n\r\n"),
        SPAN("0\r\nX: y\0\r\n\r\n"),
        SPAN("0\r\nX: y\r\n folded\r\n\r\n"),
        SPAN("0\r\nGET / HTTP/1.1\r\n\r\n"),
    };
    for (size_t i = 0; i < ROWS(rows); i++)
        for (size_t piece = 1; piece <= rows[i].len; piece++)
            cr_expect_eq(decode(rows[i], piece).step, HTTP_BAD, "row %zu in pieces of %zu", i,
                         piece);
}

Test(http, a_broken_or_finished_chunked_body_stays_so) {
    struct http_chunks chunks = {0};
    struct span data;
    size_t used;
    cr_expect_eq(http_chunks_next(&chunks, SPAN("x"), &used, &data), HTTP_BAD);
    cr_expect_eq(http_chunks_next(&chunks, SPAN("0\r\n\r\n"), &used, &data), HTTP_BAD);
    chunks = (struct http_chunks){0};
    cr_expect_eq(http_chunks_next(&chunks, SPAN("0\r\n\r\n"), &used, &data), HTTP_DONE);
    cr_expect_eq(http_chunks_next(&chunks, SPAN("5\r\n"), &used, &data), HTTP_DONE);
    cr_expect_eq(used, 0);
}

/* A body whose first chunk line, or whose trailers, have that many bytes. */
static enum http_step decode_long(const char *before, size_t len, const char *after) {
    struct str s;
    str_init(&s, 1 << 14);
    str_add(&s, span_of(before));
    add_repeated(&s, 'x', len - strlen(before));
    str_add(&s, span_of(after));
    enum http_step step = decode(str_span(&s), s.len).step;
    str_release(&s);
    return step;
}

Test(http, limits_chunk_lines_and_trailers) {
    cr_expect_eq(decode_long("0;", HTTP_CHUNK_LINE_MAX, "\r\n\r\n"), HTTP_DONE);
    cr_expect_eq(decode_long("0;", HTTP_CHUNK_LINE_MAX + 1, "\r\n\r\n"), HTTP_BAD);
    size_t line = strlen("0\r\n");
    cr_expect_eq(decode_long("0\r\nX:", line + HTTP_TRAILERS_MAX - 8, "\r\n\r\n"), HTTP_DONE);
    cr_expect_eq(decode_long("0\r\nX:", line + HTTP_TRAILERS_MAX + 1, "\r\n\r\n"), HTTP_BAD);
}

Test(http, limits_every_chunk_line_but_not_their_sum) {
    struct str s;
    str_init(&s, 1 << 14);
    for (int i = 0; i < 20; i++) {
        STR_ADD(&s, "1;");
        add_repeated(&s, 'x', 200);
        STR_ADD(&s, "\r\na\r\n");
    }
    STR_ADD(&s, "0\r\n\r\n");
    cr_expect_eq(decode(str_span(&s), s.len).step, HTTP_DONE);
    str_release(&s);
}
