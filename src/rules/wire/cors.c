#include "rules/wire/cors.h"

#include "rules/wire/http_chars.h"

/* ---- lists ---- */

static bool is_separator(char c) {
    return c == ',' || c == ' ';
}

/* The next item, taken from the list; empty at its end. */
static struct span next_item(struct span *list) {
    while (list->len > 0 && is_separator(list->ptr[0]))
        *list = span_from(*list, 1);
    struct span item = {list->ptr, 0};
    while (item.len < list->len && !is_separator(list->ptr[item.len]))
        item.len++;
    *list = span_from(*list, item.len);
    return item;
}

static bool has_item(struct span list, struct span wanted) {
    for (struct span item = next_item(&list); item.len > 0; item = next_item(&list))
        if (span_equal(item, wanted))
            return true;
    return false;
}

bool cors_has_star(const char *list) {
    return has_item(span_of(list), SPAN("*"));
}

static void add_list(struct str *out, const char *name, const char *items) {
    struct span list = span_of(items);
    struct span item = next_item(&list);
    if (item.len == 0)
        return;
    str_addf(out, "%s: ", name);
    str_add(out, item);
    for (item = next_item(&list); item.len > 0; item = next_item(&list)) {
        STR_ADD(out, ", ");
        str_add(out, item);
    }
    STR_ADD(out, "\r\n");
}

/* ---- the request ---- */

bool cors_is_on(const struct cors *c) {
    return c->origins[0] != '\0';
}

static struct span field_named(const struct http_request *request, struct span name,
                               size_t *count) {
    struct span value = SPAN_NONE;
    *count = 0;
    for (size_t i = 0; i < request->fields.count; i++) {
        if (!span_equal_nocase(request->fields.at[i].name, name))
            continue;
        value = request->fields.at[i].value;
        (*count)++;
    }
    return value;
}

struct span cors_origin(const struct http_request *request) {
    size_t count;
    struct span origin = field_named(request, SPAN("origin"), &count);
    return count == 1 ? origin : SPAN_NONE;
}

bool cors_allows(const struct cors *c, struct span origin) {
    return origin.len > 0 && (cors_has_star(c->origins) || has_item(span_of(c->origins), origin));
}

bool cors_is_preflight(const struct http_request *request) {
    size_t methods, origins;
    if (request->method != HTTP_OPTIONS)
        return false;
    (void)field_named(request, SPAN("access-control-request-method"), &methods);
    (void)field_named(request, SPAN("origin"), &origins);
    return methods > 0 && origins > 0;
}

/* ---- the answer ---- */

/* True if there is more to say. With a list of origins an answer is another one for another
 * origin, and for none: caches must know. */
static bool spell_origin(struct str *out, const struct cors *c, struct span origin) {
    bool all = cors_has_star(c->origins);
    if (!all)
        STR_ADD(out, "Vary: Origin\r\n");
    if (!cors_allows(c, origin))
        return false;
    STR_ADD(out, "Access-Control-Allow-Origin: ");
    str_add(out, all ? SPAN("*") : origin);
    STR_ADD(out, "\r\n");
    if (c->credentials)
        STR_ADD(out, "Access-Control-Allow-Credentials: true\r\n");
    return true;
}

void cors_spell_answer(struct str *out, const struct cors *c, struct span origin) {
    if (spell_origin(out, c, origin))
        add_list(out, "Access-Control-Expose-Headers", c->expose);
}

void cors_spell_preflight(struct str *out, const struct cors *c, struct span origin) {
    if (!spell_origin(out, c, origin))
        return;
    add_list(out, "Access-Control-Allow-Methods", c->methods);
    add_list(out, "Access-Control-Allow-Headers", c->headers);
    str_addf(out, "Access-Control-Max-Age: %lld\r\n", (long long)c->max_age_s);
}

bool cors_is_our_field(struct span name) {
    struct span prefix = SPAN("access-control-");
    return name.len > prefix.len && span_equal_nocase((struct span){name.ptr, prefix.len}, prefix);
}

/* ---- what may be configured ---- */

static bool is_host_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' ||
           c == '[' || c == ']' || c == ':';
}

/* Port 80 of http and 443 of https are never in an Origin. */
static const char *port_complaint(struct span authority, bool https) {
    const char *colon = memrchr(authority.ptr, ':', authority.len);
    const char *bracket = memchr(authority.ptr, ']', authority.len);
    if (!colon || (bracket && colon < bracket))
        return NULL;
    struct span port = span_from(authority, (size_t)(colon - authority.ptr) + 1);
    for (size_t i = 0; i < port.len; i++)
        if (port.ptr[i] < '0' || port.ptr[i] > '9')
            return "has an origin whose port is no number";
    if (port.len == 0 || port.len > 5 || port.ptr[0] == '0')
        return "has an origin whose port is no number";
    return span_equal(port, https ? SPAN("443") : SPAN("80"))
               ? "has an origin with its scheme's own port, which browsers leave out; so do you"
               : NULL;
}

static const char *origin_complaint(struct span origin) {
    bool https = span_starts(origin, SPAN("https://"));
    if (!https && !span_starts(origin, SPAN("http://")))
        return "has an item that is no origin; write https://name or https://name:port, or * alone";
    struct span authority = span_from(origin, https ? 8 : 7);
    if (authority.len == 0)
        return "has an origin without a name";
    for (size_t i = 0; i < authority.len; i++)
        if (!is_host_char(authority.ptr[i]))
            return "has an origin with more than scheme, name in lower case, and port; no path, no "
                   "slash at the end, no stars";
    return port_complaint(authority, https);
}

const char *cors_origins_complaint(struct span list) {
    size_t count = 0;
    bool star = has_item(list, SPAN("*")), empty = list.len == 0;
    for (struct span item = next_item(&list); item.len > 0; item = next_item(&list), count++) {
        const char *complaint = span_equal(item, SPAN("*")) ? NULL : origin_complaint(item);
        if (complaint)
            return complaint;
    }
    if (!empty && count == 0)
        return "has separators and no origin";
    return star && count > 1 ? "has * and others; * is all of them" : NULL;
}

const char *cors_names_complaint(struct span list) {
    for (struct span item = next_item(&list); item.len > 0; item = next_item(&list))
        for (size_t i = 0; i < item.len; i++)
            if (!char_is(item.ptr[i], CHAR_TOKEN))
                return "is no list of names; write them with commas between";
    return NULL;
}
