#include "rules/wire/field_names.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <stdio.h>

#define ROWS(rows) (sizeof(rows) / sizeof *(rows))

static const char *const end_to_end[] = {
    "Host",
    "Authorization",
    "Cookie",
    "Origin",
    "X-Organization-Id",
    "Transfer-Encoding",
    "Expect",
    "Accept",
    "Accept-Encoding",
    "Cache-Control",
    "Range",
    "If-Match",
    "If-None-Match",
    "x-correlation-id",
    "Via",
    "Content-Type",
    "Content-Length",
    "Content-Encoding",
    "Content-Language",
    "Content-Anything",
    "Access-Control-Request-Method",
    "Set-Cookie",
    "ETag",
    "Location",
    "Date",
    "Retry-After",
    "Vary",
    "WWW-Authenticate",
};

static const char *const forwarding[] = {
    "Forwarded",        "X-Forwarded-For", "X-Forwarded-Proto",   "X-Forwarded-Anything",
    "X-Real-IP",        "X-Client-IP",     "X-Cluster-Client-IP", "True-Client-IP",
    "CF-Connecting-IP", "X-Original-URL",  "X-Rewrite-URL",
};

static const char *const others[] = {
    "",
    "close",
    "keep-alive",
    "upgrade",
    "te",
    "trailer",
    "proxy-connection",
    "http2-settings",
    "x-private",
    "traceparent",
    "user-agent",
    "sec-websocket-key",
    "content",
    "access-control",
    "x-forwards",
    "hosts",
    "ho-st",
    "cookie2",
    "a.b",
    "my_field",
    "content_hash",
    "x_private",
};

/* In capitals, and with another sign for each hyphen. */
static struct span spelled(const char *name, char hyphen, char out[64]) {
    size_t len = strlen(name);
    for (size_t i = 0; i < len; i++)
        out[i] = (char)(name[i] == '-' ? hyphen : toupper((unsigned char)name[i]));
    return (struct span){out, len};
}

Test(field_names, end_to_end_ones_are_known_in_any_case) {
    char text[64];
    for (size_t i = 0; i < ROWS(end_to_end); i++) {
        cr_expect(field_is_end_to_end(span_of(end_to_end[i])), "%s", end_to_end[i]);
        cr_expect(field_is_end_to_end(spelled(end_to_end[i], '-', text)), "%s", end_to_end[i]);
        cr_expect_not(field_is_forwarding(span_of(end_to_end[i])), "%s", end_to_end[i]);
    }
    for (size_t i = 0; i < ROWS(forwarding); i++) {
        cr_expect(field_is_end_to_end(span_of(forwarding[i])), "%s", forwarding[i]);
        cr_expect(field_is_forwarding(spelled(forwarding[i], '-', text)), "%s", forwarding[i]);
        cr_expect(field_is_forwarding(spelled(forwarding[i], '_', text)), "%s", forwarding[i]);
    }
}

Test(field_names, of_the_next_hop_and_of_clients_own_are_none_of_them) {
    for (size_t i = 0; i < ROWS(others); i++) {
        bool is_content = strncmp(others[i], "content_", 8) == 0;
        cr_expect_eq(field_is_end_to_end(span_of(others[i])), is_content, "%s", others[i]);
        cr_expect_not(field_is_forwarding(span_of(others[i])), "%s", others[i]);
        cr_expect_not(field_is_imitation(span_of(others[i])), "%s", others[i]);
    }
}

Test(field_names, imitated_with_any_sign_are_seen_through) {
    static const char *const imitations[] = {
        "X_Forwarded_For",   "x-forwarded_for",   "X.Forwarded.For", "x~real-ip",
        "X_Correlation_Id",  "X_Organization_Id", "Content_Type",    "content_length",
        "transfer.encoding", "If_Match",          "CACHE_CONTROL",   "true'client'ip",
    };
    for (size_t i = 0; i < ROWS(imitations); i++)
        cr_expect(field_is_imitation(span_of(imitations[i])), "%s", imitations[i]);
    for (size_t i = 0; i < ROWS(end_to_end); i++)
        cr_expect_not(field_is_imitation(span_of(end_to_end[i])), "%s is none", end_to_end[i]);
    cr_expect_not(field_is_imitation(SPAN("X0Forwarded0For")), "a digit is no hyphen");
}
