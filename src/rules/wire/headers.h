/* What crosses the gateway: which fields go to the controller, which come back. */
#pragma once

#include "base/str.h"
#include "rules/wire/http.h"

enum { HEADERS_CORRELATION_MAX = 128 };

/* A correlation id we accept from outside: [A-Za-z0-9._-]{1,128}. */
bool headers_correlation_ok(struct span id);

/* What a bearer token is made of (RFC 7235 section 2.1, token68). */
bool headers_is_token68(struct span token);

struct headers_hop {
    struct span method;
    struct span path;          /* as it goes to the controller */
    struct span query;         /* with its '?' or empty */
    struct span upstream_host; /* "host:port" for the Host field */
    struct span client;        /* its address */
    bool client_uses_tls;
    struct span correlation_id;
    int64_t content_length; /* -1: neither the field nor a body */
    bool uncoded;           /* we read the answer ourselves: no gzip is asked for */
    bool upgrade;           /* Connection: Upgrade and Upgrade cross, too */
};

/* Appends the whole request head, the empty line included. Hop-by-hop fields and those that
 * Connection names are dropped (RFC 9110 section 7.6.1); X-Forwarded-*, Forwarded and other claims
 * about who the client is are replaced by ours. Dropped, too, is what only a CGI-like controller
 * would take for one of those, or for another end-to-end field: `X_Real_IP`, `Content_Type`
 * (rules/wire/field_names.h). */
void headers_to_upstream(struct str *out, const struct http_request *request,
                         const struct headers_hop *hop);

struct headers_back {
    struct span correlation_id; /* added when the controller gave none */
    bool upgrade;               /* Connection and Upgrade cross, too */
    bool cors_is_ours;          /* the controller's Access-Control-* do not cross */
};

/* Appends the answer's fields without framing and without the empty line. Sets *has_date. Fields
 * that the controller's Connection names are dropped, but never end-to-end ones. */
void headers_to_client(struct str *out, const struct http_response *response,
                       const struct headers_back *back, bool *has_date);
