#include "rules/wire/headers.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { OUT_MAX = 65536 };

static struct http_request request_of(const char *head) {
    struct http_request r;
    cr_assert_eq(http_request_parse(span_of(head), &r), ERR_OK, "%s", head);
    return r;
}

static struct headers_hop plain_hop(void) {
    return (struct headers_hop){.method = SPAN("POST"),
                                .path = SPAN("/agents/x"),
                                .query = SPAN("?a=b"),
                                .upstream_host = SPAN("controller:3003"),
                                .client = SPAN("10.1.2.3"),
                                .client_uses_tls = true,
                                .correlation_id = SPAN("our-id"),
                                .content_length = 5};
}

/* The head as it goes up; terminated, valid until the next call. */
static const char *up(const char *head, const struct headers_hop *hop) {
    static char text[OUT_MAX];
    struct http_request r = request_of(head);
    struct str out;
    str_init_fixed(&out, text, sizeof text - 1);
    headers_to_upstream(&out, &r, hop);
    cr_assert_not(out.overflow);
    text[out.len] = '\0';
    return text;
}

static const char *down(const char *head, bool upgrade, bool *has_date) {
    static char text[OUT_MAX];
    struct http_response r;
    struct str out;
    cr_assert_eq(http_response_parse(span_of(head), &r), ERR_OK, "%s", head);
    str_init_fixed(&out, text, sizeof text - 1);
    struct headers_back back = {.correlation_id = SPAN("our-id"), .upgrade = upgrade};
    headers_to_client(&out, &r, &back, has_date);
    text[out.len] = '\0';
    return text;
}

Test(headers, accept_a_correlation_id_that_is_harmless_everywhere) {
    char long_id[HEADERS_CORRELATION_MAX + 1];
    memset(long_id, 'a', sizeof long_id);
    cr_expect(headers_correlation_ok(SPAN("9b1de0a2-3.4_Z")));
    cr_expect(headers_correlation_ok((struct span){long_id, HEADERS_CORRELATION_MAX}));
    cr_expect_not(headers_correlation_ok((struct span){long_id, HEADERS_CORRELATION_MAX + 1}));
    cr_expect_not(headers_correlation_ok(SPAN_NONE));
    static const char bad[] = " \"\\\n\t/:;<>{}[]()@,=?*'%&#!~^`|$+\x7f\x80\xff";
    for (size_t i = 0; i < sizeof bad - 1; i++)
        cr_expect_not(headers_correlation_ok((struct span){bad + i, 1}), "byte %d", bad[i]);
}

Test(headers, go_up_as_one_complete_head) {
    struct headers_hop hop = plain_hop();
    cr_expect_str_eq(up("POST /agents/x?a=b HTTP/1.1\r\nHost: gateway.example\r\nX-One: 1\r\n"
                        "Authorization: Bearer t\r\nContent-Length: 5\r\n\r\n",
                        &hop),
                     "POST /agents/x?a=b HTTP/1.1\r\nHost: controller:3003\r\nX-One: 1\r\n"
                     "Authorization: Bearer t\r\nX-Forwarded-For: 10.1.2.3\r\n"
                     "X-Forwarded-Proto: https\r\nX-Forwarded-Host: gateway.example\r\n"
                     "x-correlation-id: our-id\r\nVia: 1.1 aiwm-gateway\r\n"
                     "Content-Length: 5\r\n\r\n");
}

#define UP_HEAD(fields) "GET /x HTTP/1.1\r\nHost: a\r\n" fields "\r\n"

Test(headers, for_the_next_hop_only_do_not_go_up) {
    static const char *const rows[] = {
        "Connection: close\r\n",
        "Keep-Alive: timeout=3\r\n",
        "Proxy-Connection: keep-alive\r\n",
        "Proxy-Authorization: Basic abc\r\n",
        "Proxy-Authenticate: Basic\r\n",
        "TE: trailers\r\n",
        "te: gzip\r\n",
        "Trailer: X-Sum\r\n",
        "Upgrade: h2c\r\n",
        "Connection: X-Private\r\nX-Private: 1\r\n",
        "X-Private: 1\r\nconnection: close, x-private\r\n",
        "Connection: a\r\nConnection: b, X-PRIVATE\r\nX-Private: 1\r\n",
        "X-Forwarded-For: 1.2.3.4\r\n",
        "x-forwarded-anything: 1\r\n",
        "Forwarded: for=1.2.3.4\r\n",
        "X-Real-IP: 1.2.3.4\r\n",
        "True-Client-IP: 1.2.3.4\r\n",
        "CF-Connecting-IP: 1.2.3.4\r\n",
        "X-Original-URL: /admin\r\n",
        "X-Rewrite-URL: /admin\r\n",
        "X_Forwarded_For: 1.2.3.4\r\n",
        "x-forwarded_for: 1.2.3.4\r\n",
        "X.Forwarded.Host: b\r\n",
        "X_REAL_IP: 1.2.3.4\r\n",
        "True_Client-IP: 1.2.3.4\r\n",
        "X_Original_URL: /admin\r\n",
        "X_Correlation_Id: theirs\r\n",
        "X_Organization_Id: other\r\n",
        "Content_Type: text/plain\r\n",
        "x-correlation-id: theirs\r\n",
    };
    struct headers_hop hop = plain_hop();
    char without[OUT_MAX], head[1024];
    snprintf(without, sizeof without, "%s", up(UP_HEAD(""), &hop));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(head, sizeof head, UP_HEAD("%s"), rows[i]);
        cr_expect_str_eq(up(head, &hop), without, "row %zu: %s", i, rows[i]);
    }
    cr_expect_str_eq(up("POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                        "Content-Length: 5\r\n\r\n",
                        &hop),
                     without);
    cr_expect_str_eq(up("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", &hop),
                     without, "a chunked body was taken whole: it has a length now");
}

Test(headers, of_their_own_go_up_in_the_order_they_came) {
    struct headers_hop hop = plain_hop();
    const char *got = up(UP_HEAD("b: 2\r\nA: 1\r\nb: 3\r\nCookie: k=v\r\ntraceparent: 00-1\r\n"
                                 "Via: 1.0 other\r\nX-Organization-Id: o\r\nEmpty:\r\n"
                                 "my_field: 4\r\ncontent_hash: 5\r\n"),
                         &hop);
    cr_expect(strstr(got, "\r\nb: 2\r\nA: 1\r\nb: 3\r\nCookie: k=v\r\ntraceparent: 00-1\r\n"
                          "Via: 1.0 other\r\nX-Organization-Id: o\r\nEmpty: \r\n"
                          "my_field: 4\r\ncontent_hash: 5\r\nX-Forwarded"),
              "%s", got);
}

Test(headers, say_how_the_client_reached_us) {
    struct headers_hop hop = plain_hop();
    hop.client_uses_tls = false;
    cr_expect(strstr(up(UP_HEAD(""), &hop), "X-Forwarded-Proto: http\r\n"));
    cr_expect(strstr(up("GET http://b:1/x HTTP/1.1\r\nHost: a\r\n\r\n", &hop),
                     "X-Forwarded-Host: b:1\r\n"));
    cr_expect_null(strstr(up("GET /x HTTP/1.0\r\n\r\n", &hop), "X-Forwarded-Host"));
}

Test(headers, frame_only_what_has_a_body) {
    struct headers_hop hop = plain_hop();
    hop.content_length = -1;
    cr_expect_null(strstr(up(UP_HEAD(""), &hop), "Content-Length"));
    hop.content_length = 0;
    cr_expect(strstr(up(UP_HEAD(""), &hop), "Content-Length: 0\r\n"));
}

Test(headers, ask_for_no_coding_where_we_read_the_answer) {
    struct headers_hop hop = plain_hop();
    cr_expect(strstr(up(UP_HEAD("Accept-Encoding: br\r\n"), &hop), "Accept-Encoding: br\r\n"));
    hop.uncoded = true;
    const char *got = up(UP_HEAD("accept-Encoding: gzip\r\naccept-encoding: br\r\n"), &hop);
    cr_expect(strstr(got, "\r\nAccept-Encoding: identity\r\n"));
    cr_expect_null(strstr(got, "gzip"));
    cr_expect_null(strstr(got, "br\r\n"));
}

Test(headers, carry_an_upgrade_both_ways_when_it_is_meant) {
    struct headers_hop hop = plain_hop();
    bool has_date;
    hop.upgrade = true;
    hop.content_length = -1;
    const char *got = up(UP_HEAD("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
                                 "Sec-WebSocket-Key: k\r\n"),
                         &hop);
    cr_expect(strstr(got, "Sec-WebSocket-Key: k\r\n"));
    cr_expect(strstr(got, "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"));
    got = down("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
               "Sec-WebSocket-Accept: a\r\n\r\n",
               true, &has_date);
    cr_expect_str_eq(got, "Sec-WebSocket-Accept: a\r\nx-correlation-id: our-id\r\n"
                          "Via: 1.1 aiwm-gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n");
}

Test(headers, come_back_without_framing_and_hop) {
    bool has_date;
    const char *got =
        down("HTTP/1.1 200 OK\r\nX-Powered-By: Express\r\nx-correlation-id: theirs\r\n"
             "Content-Type: text/plain\r\nContent-Length: 3\r\nETag: W/\"3\"\r\n"
             "Date: Mon, 23 Nov 2026 07:00:00 GMT\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
             "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\r\n",
             false, &has_date);
    cr_expect_str_eq(got, "X-Powered-By: Express\r\nx-correlation-id: theirs\r\n"
                          "Content-Type: text/plain\r\nETag: W/\"3\"\r\n"
                          "Date: Mon, 23 Nov 2026 07:00:00 GMT\r\nSet-Cookie: a=1\r\n"
                          "Set-Cookie: b=2\r\nVia: 1.1 aiwm-gateway\r\n");
    cr_expect(has_date);
}

Test(headers, come_back_though_the_controller_nominates_end_to_end_ones) {
    bool has_date;
    const char *got =
        down("HTTP/1.1 200 OK\r\nx-correlation-id: theirs\r\n"
             "Content-Type: text/plain\r\nSet-Cookie: a=1\r\nX-Hop: 1\r\n"
             "Connection: close, content-type, set-cookie, x-hop, x-correlation-id\r\n"
             "Date: Mon, 23 Nov 2026 07:00:00 GMT\r\nConnection: date\r\n\r\n",
             false, &has_date);
    cr_expect_str_eq(got, "x-correlation-id: theirs\r\nContent-Type: text/plain\r\n"
                          "Set-Cookie: a=1\r\nDate: Mon, 23 Nov 2026 07:00:00 GMT\r\n"
                          "Via: 1.1 aiwm-gateway\r\n");
    cr_expect(has_date);
}

Test(headers, come_back_with_our_correlation_id_when_there_is_no_other) {
    bool has_date = true;
    const char *got = down("HTTP/1.1 204 No Content\r\n\r\n", false, &has_date);
    cr_expect_str_eq(got, "x-correlation-id: our-id\r\nVia: 1.1 aiwm-gateway\r\n");
    cr_expect_not(has_date);
}
