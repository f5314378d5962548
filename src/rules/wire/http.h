/* The grammar of the wire: strict HTTP/1.x heads and framing over raw bytes (RFC 9110, RFC 9112).
 *
 * Pure: no sockets, no clock, no allocation. Everything a stranger sends passes through here
 * before anything else sees a byte. Where a recipient MAY be lenient, this is not: each leniency
 * is a way for two parsers to disagree, and a disagreement is a smuggled request.
 *
 * All spans borrow the bytes that were parsed. */
#pragma once

#include "base/err.h"
#include "base/span.h"

#include <stdint.h>

enum {
    HTTP_HEAD_MAX = 16384, /* Node's limit, and so the controller's */
    HTTP_FIELDS_MAX = 100,
    HTTP_METHOD_MAX = 32,   /* the longest registered one, UPDATEREDIRECTREF, has 17 */
    HTTP_TARGET_MAX = 8192, /* RFC 9112 section 3 asks for at least 8000 */
};

enum http_method {
    HTTP_GET,
    HTTP_HEAD,
    HTTP_POST,
    HTTP_PUT,
    HTTP_DELETE,
    HTTP_OPTIONS,
    HTTP_PATCH,
    HTTP_OTHER, /* a valid token we have no name for; forwarded as it came */
};

/* ---- where a head ends ---- */

/* Remembers how far a head was looked at: one byte at a time costs O(n). Zero it to start. */
struct http_scan {
    uint32_t seen;  /* bytes already looked at */
    uint32_t start; /* leading CRLFs skipped (RFC 9112 section 2.2; at most one is allowed) */
    uint8_t state;  /* the scanner's own */
};

enum http_step {
    HTTP_MORE, /* nothing wrong so far, not complete */
    HTTP_DONE,
    HTTP_BAD, /* *error says why; the connection must be closed after the answer */
};

/* Looks for the end of a head in `bytes` (the whole of it so far, from its first byte, which must
 * not change between calls; they may move). DONE: the head is bytes[scan->start, *head_len)
 * including its final CRLFCRLF. Refuses bare CR, bare LF, NUL and other control characters as soon
 * as it sees them, and anything longer than HTTP_HEAD_MAX (414 while still in the request line and
 * that cannot hold a target within HTTP_TARGET_MAX, else 431). The result does not depend on how
 * the bytes were cut into calls. */
enum http_step http_scan(struct http_scan *scan, struct span bytes, size_t *head_len,
                         enum err *error);

/* ---- heads ---- */

/* Fields the gateway looks at itself, found while parsing. */
enum http_known {
    HTTP_HOST,
    HTTP_CONTENT_LENGTH,
    HTTP_TRANSFER_ENCODING,
    HTTP_CONNECTION,
    HTTP_EXPECT,
    HTTP_UPGRADE,
    HTTP_AUTHORIZATION,
    HTTP_CONTENT_TYPE,
    HTTP_CONTENT_ENCODING,
    HTTP_CORRELATION_ID, /* x-correlation-id */
    HTTP_CACHE_CONTROL,
    HTTP_KEEP_ALIVE,
    HTTP_DATE,
    HTTP_RETRY_AFTER,
    HTTP_KNOWN_COUNT,
    HTTP_UNKNOWN = HTTP_KNOWN_COUNT,
};

struct http_field {
    struct span name;  /* as spelled */
    struct span value; /* trimmed */
    enum http_known known;
};

struct http_fields {
    size_t count;
    struct http_field at[HTTP_FIELDS_MAX];
    struct span known[HTTP_KNOWN_COUNT];   /* the first value; ptr NULL if absent */
    uint8_t known_count[HTTP_KNOWN_COUNT]; /* how often it stood there */
};

struct http_request {
    enum http_method method;
    struct span method_text;
    struct span target; /* as sent */
    struct span path;  /* begins with '/', or is "*" for OPTIONS; absolute-form reduced, with "/" if
                        * it has none */
    struct span query; /* with its '?', empty if there is none */
    struct span host;  /* absolute-form's authority, else the Host field; empty only in HTTP/1.0 */
    int minor;         /* HTTP/1.minor: 0 or 1 */
    bool keep_alive;   /* after version and Connection */
    bool chunked;
    bool expect_continue;   /* the client holds back its body until it sees a 100 */
    bool wants_upgrade;     /* Connection names upgrade and an Upgrade field stands there */
    int64_t content_length; /* 0 without a body; -1 when chunked */
    struct http_fields fields;
};

struct http_response {
    int status; /* 100 to 599 */
    struct span reason;
    int minor;
    bool keep_alive;
    bool chunked;
    int64_t content_length; /* -1: not given (chunked, or up to the close) */
    int keep_alive_s;       /* Keep-Alive: timeout=N; -1 when not given */
    struct http_fields fields;
};

/* Parses a complete head, as found by http_scan, without its leading CRLF.
 * ERR_OK or the refusal; nothing promised about *out on refusal. Refused with what the RFC says:
 * two or differing Content-Length, anything but digits in it, Content-Length with
 * Transfer-Encoding, any coding but a single "chunked", Transfer-Encoding in HTTP/1.0, whitespace
 * around a field name, obs-fold, empty or non-token names, `_` twins of framing names
 * (content_length, transfer_encoding), no Host, two, an empty one or one that is more than
 * name[:port] in HTTP/1.1, control bytes anywhere, non-ASCII bytes, spaces or `#` in the target,
 * versions other than 1.0 and 1.1, TRACE and CONNECT, a second Authorization, Expect other than
 * 100-continue, Connection that nominates an end-to-end field (rules/wire/field_names.h). Values of
 * fields we do not interpret may hold obs-text (bytes over 127): it is legal, browsers send it, and
 * it cannot change where a message ends. */
enum err http_request_parse(struct span head, struct http_request *out);

/* The controller's head: ERR_OK or ERR_UPSTREAM_PROTOCOL, with the same strictness for framing.
 * Lenient only where Node and proxies are known to be: reason phrases may hold obs-text or be
 * missing. For a HEAD request or 1xx/204/304 the caller knows there is no
 * body. */
enum err http_response_parse(struct span head, struct http_response *out);

/* The first field of that name (any case), or SPAN_NONE with ptr NULL. */
struct span http_field(const struct http_fields *fields, struct span name);

/* Does this comma-separated list hold the token (any case)? "Connection: keep-alive, close". Knows
 * no quoted strings: none of the lists we read has them. */
bool http_list_has(struct span list, struct span token);

/* Standard reason phrase, "" when unknown. */
const char *http_reason(int status);

/* ---- chunked bodies ---- */

enum {
    HTTP_CHUNK_LINE_MAX = 256, /* size and extensions */
    HTTP_TRAILERS_MAX = 4096,  /* all trailer fields; they are checked and dropped */
};

/* Zero it to start a body. */
struct http_chunks {
    uint64_t left; /* data bytes left in the current chunk */
    uint32_t line; /* bytes of the current line or of the trailers so far */
    uint8_t state;
    uint8_t digits;
};

/* Consumes from `bytes`: *used of them, of which `data` (possibly empty) is body content.
 * MORE: call again with what is left, or with new bytes; DONE: the last chunk and the trailers
 * were consumed (*used is where the next message begins). BAD stays BAD: ERR_BAD_CHUNK from a
 * client, ERR_UPSTREAM_PROTOCOL from the controller. Strict: sizes are hex digits only (at most 15
 * of them), CRLF only, extensions are skipped, trailers must be valid fields. */
enum http_step http_chunks_next(struct http_chunks *chunks, struct span bytes, size_t *used,
                                struct span *data);
