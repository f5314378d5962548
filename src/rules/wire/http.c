/* Heads. http_scan has found where one ends; this walks it once, left to right:
 *
 *     request line | status line      take_request_line, take_status_line
 *     field, field, ... CRLF          http_fields: known names are noted in passing
 *     what the fields mean together   target, host, framing, connection, expect
 *
 * Nothing is repaired: a head either is what the grammar says, or is refused. */
#include "rules/wire/http.h"

#include "rules/wire/field_names.h"
#include "rules/wire/http_fields.h"

enum {
    LENGTH_DIGITS = 18, /* the most that cannot overflow an int64_t */
    TIMEOUT_DIGITS = 9, /* the same for an int */
    PORT_DIGITS = 5,
};

/* ---- pieces of a head ---- */

/* The same for a target, sixteen bytes a step. */
static bool take_target(struct cursor *in, struct span *target) {
    const char *stop = target_end(in->at, in->end);
    *target = (struct span){in->at, (size_t)(stop - in->at)};
    if (target->len == 0 || stop == in->end || *stop != ' ')
        return false;
    in->at = stop + 1;
    return true;
}

/* "HTTP/1.1" */
static bool take_version(struct cursor *in, int *major, int *minor) {
    if (!take(in, SPAN("HTTP/")) || in->end - in->at < 3)
        return false;
    if (!char_is(in->at[0], CHAR_DIGIT) || in->at[1] != '.' || !char_is(in->at[2], CHAR_DIGIT))
        return false;
    *major = in->at[0] - '0';
    *minor = in->at[2] - '0';
    in->at += 3;
    return true;
}

static bool version_is_supported(int major, int minor) {
    return major == 1 && minor <= 1;
}

/* ---- what the fields say about the message ---- */

/* Anything but a plain "chunked". When chunked is not the last, or stands there twice, nobody can
 * say where the body ends (RFC 9112 section 6.3); else it is just that we do not know the others.
 */
static enum err refuse_codings(struct span list) {
    struct span coding = SPAN_NONE;
    int chunked = 0;
    int others = 0;
    while (http_list_next(&list, &coding)) {
        if (span_equal_nocase(coding, SPAN("identity")))
            return ERR_BAD_FRAMING;
        bool is_chunked = span_equal_nocase(coding, SPAN("chunked"));
        chunked += is_chunked;
        others += !is_chunked;
    }
    bool chunked_is_last = span_equal_nocase(coding, SPAN("chunked"));
    return chunked == 1 && chunked_is_last && others > 0 ? ERR_BAD_CODING : ERR_BAD_FRAMING;
}

static enum err check_coding(const struct http_fields *fields, int minor) {
    struct span coding = fields->known[HTTP_TRANSFER_ENCODING];
    if (minor == 0 || fields->known_count[HTTP_TRANSFER_ENCODING] > 1 ||
        fields->known_count[HTTP_CONTENT_LENGTH] > 0)
        return ERR_BAD_FRAMING;
    return span_equal_nocase(coding, SPAN("chunked")) ? ERR_OK : refuse_codings(coding);
}

/* content_length: -1 when chunked or not given. */
static enum err find_framing(const struct http_fields *fields, int minor, bool *chunked,
                             int64_t *content_length) {
    *chunked = fields->known_count[HTTP_TRANSFER_ENCODING] > 0;
    *content_length = -1;
    if (*chunked)
        return check_coding(fields, minor);
    if (fields->known_count[HTTP_CONTENT_LENGTH] == 0)
        return ERR_OK;
    *content_length = span_decimal(fields->known[HTTP_CONTENT_LENGTH], LENGTH_DIGITS);
    bool plain = fields->known_count[HTTP_CONTENT_LENGTH] == 1 && *content_length >= 0;
    return plain ? ERR_OK : ERR_BAD_FRAMING;
}

struct connection_options {
    bool close;
    bool keep_alive;
    bool upgrade;
    bool end_to_end; /* a field that is not the next hop's alone */
};

static void note_option(struct connection_options *found, struct span option) {
    if (span_equal_nocase(option, SPAN("close")))
        found->close = true;
    else if (span_equal_nocase(option, SPAN("keep-alive")))
        found->keep_alive = true;
    else if (span_equal_nocase(option, SPAN("upgrade")))
        found->upgrade = true;
    else if (field_is_end_to_end(option))
        found->end_to_end = true;
}

/* Of all Connection fields together. */
static struct connection_options find_connection_options(const struct http_fields *fields) {
    struct connection_options found = {0};
    if (fields->known_count[HTTP_CONNECTION] == 0)
        return found;
    for (size_t i = 0; i < fields->count; i++) {
        if (fields->at[i].known != HTTP_CONNECTION)
            continue;
        struct span list = fields->at[i].value;
        struct span option;
        while (http_list_next(&list, &option))
            note_option(&found, option);
    }
    return found;
}

static bool keeps_alive(struct connection_options options, int minor) {
    return !options.close && (minor == 1 || options.keep_alive);
}

/* ---- requests ---- */

static enum http_method method_by_name(struct span name) {
    static const char *const names[HTTP_OTHER] = {
        [HTTP_GET] = "GET",     [HTTP_HEAD] = "HEAD",     [HTTP_POST] = "POST",
        [HTTP_PUT] = "PUT",     [HTTP_DELETE] = "DELETE", [HTTP_OPTIONS] = "OPTIONS",
        [HTTP_PATCH] = "PATCH",
    };
    enum http_method method = HTTP_GET;
    while (method < HTTP_OTHER && !span_equal(name, span_of(names[method])))
        method++;
    return method;
}

/* CONNECT would make us an open proxy, TRACE would echo credentials. */
static bool method_is_refused(struct span name) {
    return name.len > HTTP_METHOD_MAX || span_equal(name, SPAN("CONNECT")) ||
           span_equal(name, SPAN("TRACE"));
}

static enum err take_request_line(struct cursor *in, struct http_request *out) {
    int major;
    if (!take_word(in, CHAR_TOKEN, ' ', &out->method_text) || !take_target(in, &out->target) ||
        !take_version(in, &major, &out->minor) || !take(in, SPAN("\r\n")))
        return ERR_BAD_REQUEST;
    if (!version_is_supported(major, out->minor))
        return ERR_BAD_VERSION;
    if (method_is_refused(out->method_text))
        return ERR_BAD_METHOD;
    if (out->target.len > HTTP_TARGET_MAX)
        return ERR_TARGET_TOO_LONG;
    out->method = method_by_name(out->method_text);
    return ERR_OK;
}

/* "[::1]": the brackets and what an address is written with; whether it is one, nobody here
 * depends on. */
static const char *address_literal_end(const char *at, const char *end) {
    const char *start = at++;
    while (at < end && (char_is(*at, CHAR_HEX) || *at == ':' || *at == '.'))
        at++;
    return at < end && *at == ']' && at - start >= 3 ? at + 1 : start;
}

/* uri-host [":" port] without user info, percent-escapes and sub-delims: no real host has them. */
static bool host_is_valid(struct span host) {
    if (host.len == 0)
        return false;
    const char *end = host.ptr + host.len;
    const char *at =
        *host.ptr == '[' ? address_literal_end(host.ptr, end) : class_end(host.ptr, end, CHAR_HOST);
    if (at == host.ptr || at == end)
        return at == end;
    struct span port = {at + 1, (size_t)(end - (at + 1))};
    int64_t number = span_decimal(port, PORT_DIGITS);
    return *at == ':' && (port.len == 0 || (number >= 0 && number <= 65535));
}

/* Of "http://" or "https://", 0 without either. */
static size_t scheme_len(struct span target) {
    const char *slashes = memmem(target.ptr, target.len, "//", 2);
    size_t len = slashes ? (size_t)(slashes - target.ptr) + 2 : 0;
    struct span scheme = {target.ptr, len};
    bool known =
        span_equal_nocase(scheme, SPAN("http://")) || span_equal_nocase(scheme, SPAN("https://"));
    return known ? len : 0;
}

static void split_query(struct http_request *out, struct span path_and_query) {
    const char *mark = memchr(path_and_query.ptr, '?', path_and_query.len);
    size_t len = mark ? (size_t)(mark - path_and_query.ptr) : path_and_query.len;
    out->path = (struct span){path_and_query.ptr, len};
    out->query = span_from(path_and_query, len);
}

/* "http://host/path?query"; the authority outranks the Host field (RFC 9112 section 3.2.2). */
static enum err split_absolute(struct http_request *out) {
    size_t scheme = scheme_len(out->target);
    if (scheme == 0)
        return ERR_BAD_REQUEST;
    struct span rest = span_from(out->target, scheme);
    size_t len = 0;
    while (len < rest.len && rest.ptr[len] != '/' && rest.ptr[len] != '?')
        len++;
    out->host = (struct span){rest.ptr, len};
    if (!host_is_valid(out->host))
        return ERR_BAD_HOST;
    split_query(out, (struct span){rest.ptr + len, rest.len - len});
    if (out->path.len == 0) /* then it is "/": borrow the scheme's last slash */
        out->path = (struct span){rest.ptr - 1, 1};
    return ERR_OK;
}

/* Needs host to be the Host field's value. */
static enum err split_target(struct http_request *out) {
    if (out->target.ptr[0] != '/' && !span_equal(out->target, SPAN("*")))
        return split_absolute(out);
    if (out->target.ptr[0] == '*' && out->method != HTTP_OPTIONS)
        return ERR_BAD_REQUEST;
    split_query(out, out->target);
    return ERR_OK;
}

static enum err find_host(struct http_request *out) {
    unsigned count = out->fields.known_count[HTTP_HOST];
    out->host = out->fields.known[HTTP_HOST];
    if (out->minor == 0 && count <= 1 && out->host.len == 0)
        return ERR_OK;
    return count == 1 && host_is_valid(out->host) ? ERR_OK : ERR_BAD_HOST;
}

static bool expects_only_continue(const struct http_fields *fields) {
    for (size_t i = 0; i < fields->count; i++)
        if (fields->at[i].known == HTTP_EXPECT &&
            !span_equal_nocase(fields->at[i].value, SPAN("100-continue")))
            return false;
    return true;
}

/* Whether somebody waits for our 100: not HTTP/1.0, and not without a body (RFC 9110 section
 * 10.1.1). */
static enum err find_expectation(struct http_request *out) {
    out->expect_continue = false;
    if (out->fields.known_count[HTTP_EXPECT] == 0)
        return ERR_OK;
    if (!expects_only_continue(&out->fields))
        return ERR_BAD_EXPECT;
    out->expect_continue = out->minor == 1 && out->content_length != 0;
    return ERR_OK;
}

static enum err find_body(struct http_request *out) {
    enum err e = find_framing(&out->fields, out->minor, &out->chunked, &out->content_length);
    if (!out->chunked && out->content_length < 0)
        out->content_length = 0;
    return e;
}

static enum err find_connection(struct http_request *out) {
    struct connection_options options = find_connection_options(&out->fields);
    out->keep_alive = keeps_alive(options, out->minor);
    out->wants_upgrade = options.upgrade && out->minor == 1 && out->fields.known[HTTP_UPGRADE].len;
    return options.end_to_end ? ERR_BAD_CONNECTION : ERR_OK;
}

enum err http_request_parse(struct span head, struct http_request *out) {
    struct cursor in = {head.ptr, head.ptr + head.len};
    enum err e = take_request_line(&in, out);
    if (!e)
        e = http_take_fields(&in, &out->fields);
    if (!e)
        e = find_host(out);
    if (!e)
        e = split_target(out);
    if (!e)
        e = find_body(out);
    if (!e)
        e = find_expectation(out);
    if (!e && out->fields.known_count[HTTP_AUTHORIZATION] > 1)
        e = ERR_TWO_TOKENS;
    return e ? e : find_connection(out);
}

/* ---- responses ---- */

/* "HTTP/1.1 200 OK", "HTTP/1.1 200 " or "HTTP/1.1 200". */
static bool take_status_line(struct cursor *in, struct http_response *out) {
    int major;
    out->reason = SPAN_NONE;
    if (!take_version(in, &major, &out->minor) || !version_is_supported(major, out->minor) ||
        !take(in, SPAN(" ")) || in->end - in->at < 3)
        return false;
    out->status = (int)span_decimal((struct span){in->at, 3}, 3);
    in->at += 3;
    if (take(in, SPAN(" ")))
        out->reason = take_text(in);
    return out->status >= 100 && out->status <= 599 && take(in, SPAN("\r\n"));
}

/* "Keep-Alive: timeout=5, max=100" */
static int keep_alive_seconds(struct span list) {
    struct span name = SPAN("timeout=");
    struct span element;
    while (http_list_next(&list, &element))
        if (element.len > name.len && span_equal_nocase((struct span){element.ptr, name.len}, name))
            return (int)span_decimal(span_from(element, name.len), TIMEOUT_DIGITS);
    return -1;
}

enum err http_response_parse(struct span head, struct http_response *out) {
    struct cursor in = {head.ptr, head.ptr + head.len};
    if (!take_status_line(&in, out) || http_take_fields(&in, &out->fields) ||
        find_framing(&out->fields, out->minor, &out->chunked, &out->content_length))
        return ERR_UPSTREAM_PROTOCOL;
    out->keep_alive = keeps_alive(find_connection_options(&out->fields), out->minor);
    out->keep_alive_s = keep_alive_seconds(out->fields.known[HTTP_KEEP_ALIVE]);
    return ERR_OK;
}
