#include "rules/wire/headers.h"

#include "rules/wire/cors.h"
#include "rules/wire/field_names.h"

#define VIA "1.1 aiwm-gateway"
/* SPAN for what is initialised before the program runs. */
#define NAME(literal)                                                                              \
    { (literal), sizeof(literal) - 1 }

static bool is_word(char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '.' ||
           c == '_' || c == '-';
}

bool headers_correlation_ok(struct span id) {
    if (id.len == 0 || id.len > HEADERS_CORRELATION_MAX)
        return false;
    for (size_t i = 0; i < id.len; i++) {
        if (!is_word(id.ptr[i]))
            return false;
    }
    return true;
}

bool headers_is_token68(struct span token) {
    size_t i = 0;
    while (i < token.len &&
           (is_word(token.ptr[i]) || (token.ptr[i] && strchr("~+/", token.ptr[i]))))
        i++;
    while (i > 0 && i < token.len && token.ptr[i] == '=')
        i++;
    return token.len > 0 && i == token.len;
}

/* Meant for the next hop only, both ways (RFC 9110 section 7.6.1, and what proxies add to it). */
static const struct span hop_by_hop[] = {
    NAME("connection"),
    NAME("keep-alive"),
    NAME("proxy-connection"),
    NAME("proxy-authenticate"),
    NAME("proxy-authorization"),
    NAME("te"),
    NAME("trailer"),
    NAME("transfer-encoding"),
    NAME("upgrade"),
    NAME("content-length"),
};

static bool listed(const struct span *names, size_t count, struct span name) {
    for (size_t i = 0; i < count; i++)
        if (span_equal_nocase(names[i], name))
            return true;
    return false;
}

static bool is_hop_by_hop(struct span name) {
    return listed(hop_by_hop, sizeof hop_by_hop / sizeof *hop_by_hop, name);
}

/* Does any Connection field name this one? */
static bool named_by_connection(const struct http_fields *fields, struct span name) {
    if (fields->known_count[HTTP_CONNECTION] == 0)
        return false;
    for (size_t i = 0; i < fields->count; i++)
        if (fields->at[i].known == HTTP_CONNECTION && fields->at[i].value.len >= name.len &&
            http_list_has(fields->at[i].value, name))
            return true;
    return false;
}

static void add_field(struct str *out, struct span name, struct span value) {
    str_add(out, name);
    STR_ADD(out, ": ");
    str_add(out, value);
    STR_ADD(out, "\r\n");
}

static bool crosses_up(const struct http_fields *fields, const struct http_field *f,
                       const struct headers_hop *hop) {
    if (hop->uncoded && span_equal_nocase(f->name, SPAN("accept-encoding")))
        return false;
    if (f->known == HTTP_HOST || f->known == HTTP_EXPECT || f->known == HTTP_CORRELATION_ID)
        return false;
    if (f->known == HTTP_UNKNOWN && (field_is_forwarding(f->name) || field_is_imitation(f->name)))
        return false;
    return !is_hop_by_hop(f->name) && !named_by_connection(fields, f->name);
}

static void add_upgrade(struct str *out, const struct http_fields *fields) {
    STR_ADD(out, "Connection: Upgrade\r\n");
    add_field(out, SPAN("Upgrade"), fields->known[HTTP_UPGRADE]);
}

void headers_to_upstream(struct str *out, const struct http_request *request,
                         const struct headers_hop *hop) {
    str_add(out, hop->method);
    str_add_char(out, ' ');
    str_add(out, hop->path);
    str_add(out, hop->query);
    STR_ADD(out, " HTTP/1.1\r\n");
    add_field(out, SPAN("Host"), hop->upstream_host);
    for (size_t i = 0; i < request->fields.count; i++) {
        const struct http_field *f = &request->fields.at[i];
        if (crosses_up(&request->fields, f, hop))
            add_field(out, f->name, f->value);
    }
    add_field(out, SPAN("X-Forwarded-For"), hop->client);
    add_field(out, SPAN("X-Forwarded-Proto"), hop->client_uses_tls ? SPAN("https") : SPAN("http"));
    if (request->host.len > 0)
        add_field(out, SPAN("X-Forwarded-Host"), request->host);
    add_field(out, SPAN("x-correlation-id"), hop->correlation_id);
    STR_ADD(out, "Via: " VIA "\r\n");
    if (hop->uncoded) /* without the field any coding would do (RFC 9110 section 12.5.3) */
        STR_ADD(out, "Accept-Encoding: identity\r\n");
    if (hop->content_length >= 0) {
        STR_ADD(out, "Content-Length: ");
        str_add_int(out, hop->content_length);
        STR_ADD(out, "\r\n");
    }
    if (hop->upgrade)
        add_upgrade(out, &request->fields);
    STR_ADD(out, "\r\n");
}

/* What the controller nominates of the end-to-end fields is not nominated: an answer without its
 * Content-Type would be read as another one. */
static bool crosses_down(const struct http_fields *fields, const struct http_field *f,
                         const struct headers_back *back) {
    if (back->cors_is_ours && cors_is_our_field(f->name))
        return false;
    return !is_hop_by_hop(f->name) &&
           (!named_by_connection(fields, f->name) || field_is_end_to_end(f->name));
}

void headers_to_client(struct str *out, const struct http_response *response,
                       const struct headers_back *back, bool *has_date) {
    const struct http_fields *fields = &response->fields;
    for (size_t i = 0; i < fields->count; i++) {
        const struct http_field *f = &fields->at[i];
        if (crosses_down(fields, f, back))
            add_field(out, f->name, f->value);
    }
    if (fields->known_count[HTTP_CORRELATION_ID] == 0)
        add_field(out, SPAN("x-correlation-id"), back->correlation_id);
    STR_ADD(out, "Via: " VIA "\r\n");
    if (back->upgrade)
        add_upgrade(out, fields);
    *has_date = fields->known_count[HTTP_DATE] > 0;
}
