/* Every failure that can reach a client or a counter: one row each.
 *
 * Rows with a code are the gateway's own refusals; rows without one mirror what the controller
 * itself would answer, word for word, so that an agent cannot tell who refused.
 *   symbol, HTTP status, public code, message, may the client try the same again */
#pragma once

#include <stdbool.h>

#define ERR_ROWS(X)                                                                                \
    X(OK, 200, NULL, "", false)                                                                    \
    /* the wire: rules/wire/http */                                                                \
    X(BAD_REQUEST, 400, "GATEWAY_BAD_REQUEST", "Malformed HTTP request", false)                    \
    X(BAD_FRAMING, 400, "GATEWAY_BAD_FRAMING", "Ambiguous or invalid message framing", false)      \
    X(BAD_HOST, 400, "GATEWAY_BAD_HOST", "Exactly one valid Host is required", false)              \
    X(BAD_CONNECTION, 400, "GATEWAY_BAD_CONNECTION", "Connection may not name end-to-end fields",  \
      false)                                                                                       \
    X(BAD_CHUNK, 400, "GATEWAY_BAD_CHUNK", "Invalid chunked body", false)                          \
    X(TARGET_TOO_LONG, 414, "GATEWAY_URI_TOO_LONG", "Request target over 8192 bytes", false)       \
    X(HEAD_TOO_LARGE, 431, "GATEWAY_HEAD_TOO_LARGE",                                               \
      "Request head over 16384 bytes or 100 fields", false)                                        \
    X(BODY_TOO_LARGE, 413, "GATEWAY_BODY_TOO_LARGE", "Request body too large", false)              \
    X(BAD_EXPECT, 417, "GATEWAY_BAD_EXPECT", "Only 100-continue can be expected", false)           \
    X(BAD_METHOD, 501, "GATEWAY_METHOD_NOT_IMPLEMENTED", "Method not implemented", false)          \
    X(BAD_CODING, 501, "GATEWAY_CODING_NOT_IMPLEMENTED", "Transfer coding not implemented", false) \
    X(BAD_VERSION, 505, "GATEWAY_VERSION_NOT_SUPPORTED", "HTTP version not supported", false)      \
    X(REQUEST_TIMEOUT, 408, "GATEWAY_REQUEST_TIMEOUT", "Request not received in time", true)       \
    /* identity */                                                                                 \
    X(UNAUTHORIZED, 401, NULL, "Unauthorized", false)                                              \
    X(TOKEN_PAYLOAD, 401, NULL, "Invalid token payload", false)                                    \
    X(TWO_TOKENS, 400, "GATEWAY_TWO_AUTHORIZATIONS", "More than one Authorization header", false)  \
    X(AGENT_SUSPENDED, 401, NULL, "Agent is suspended", false)                                     \
    X(AGENT_DELETED, 404, NULL, "Agent not found", false)                                          \
    X(AGENT_MISMATCH, 403, "GATEWAY_AGENT_MISMATCH", "This token is not for this agent", false)    \
    X(AGENT_TOKEN_DENIED, 403, "GATEWAY_AGENT_TOKEN_DENIED",                                       \
      "Agents' tokens may not regenerate credentials", false)                                      \
    X(BAD_AGENT_ID, 400, "GATEWAY_BAD_AGENT_ID", "Agent id must be 24 hex digits", false)          \
    X(BAD_PATH, 400, "GATEWAY_BAD_PATH", "Malformed path", false)                                  \
    /* the controller and we */                                                                    \
    X(RATE_LIMITED, 429, "GATEWAY_RATE_LIMITED", "Too many requests", true)                        \
    X(TOO_MANY_FAILURES, 429, "GATEWAY_TOO_MANY_FAILURES",                                         \
      "Too many failed connects from this address", true)                                          \
    X(AGENT_LOCKED, 429, "GATEWAY_AGENT_LOCKED", "Too many failed connects of this agent", true)   \
    X(OVERLOADED, 503, "GATEWAY_OVERLOADED", "The gateway is at its limit", true)                  \
    X(CONTROLLER_BUSY, 503, "GATEWAY_CONTROLLER_BUSY", "The controller is busy", true)             \
    X(CONTROLLER_DOWN, 503, "GATEWAY_CONTROLLER_DOWN", "The controller does not answer", true)     \
    X(UPSTREAM_CONNECT, 502, "GATEWAY_UPSTREAM_UNREACHABLE", "The controller cannot be reached",   \
      true)                                                                                        \
    X(UPSTREAM_TLS, 502, "GATEWAY_UPSTREAM_TLS", "The controller's certificate was not accepted",  \
      true)                                                                                        \
    X(UPSTREAM_CLOSED, 502, "GATEWAY_UPSTREAM_CLOSED",                                             \
      "The controller closed the connection without an answer", true)                              \
    X(UPSTREAM_PROTOCOL, 502, "GATEWAY_UPSTREAM_PROTOCOL",                                         \
      "The controller's answer is not valid HTTP", true)                                           \
    X(UPSTREAM_TIMEOUT, 504, "GATEWAY_UPSTREAM_TIMEOUT", "The controller did not answer in time",  \
      true)                                                                                        \
    /* ends of a connection or call that nobody is left to hear about */                           \
    X(CLIENT_GONE, 499, "GATEWAY_CLIENT_GONE", "The client left", false)                           \
    X(CANCELLED, 499, "GATEWAY_CANCELLED", "Cancelled", false)

enum err {
#define X(symbol, status, code, message, retryable) ERR_##symbol,
    ERR_ROWS(X)
#undef X
        ERR_COUNT
};

struct err_row {
    const char *symbol; /* "BAD_REQUEST" */
    int status;
    const char *code; /* NULL: mirrors the controller */
    const char *message;
    bool retryable;
};

const struct err_row *err_row(enum err e);
