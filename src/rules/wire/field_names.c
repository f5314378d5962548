#include "rules/wire/field_names.h"

/* SPAN for what is initialised before the program runs. */
#define NAME(literal)                                                                              \
    { (literal), sizeof(literal) - 1 }
#define COUNT(names) (sizeof(names) / sizeof *(names))

static const struct span forwarding[] = {
    NAME("forwarded"),
    NAME("x-real-ip"),
    NAME("x-client-ip"),
    NAME("x-cluster-client-ip"),
    NAME("true-client-ip"),
    NAME("cf-connecting-ip"),
    NAME("x-original-url"),
    NAME("x-rewrite-url"),
    NAME("forwarded-for"),
    NAME("x-forwarded"),
    NAME("x-original-forwarded-for"),
    NAME("client-ip"),
    NAME("x-original-host"),
    NAME("x-envoy-external-address"),
    NAME("fastly-client-ip"),
};

static const struct span end_to_end[] = {
    /* Which service is asked. */
    NAME("host"),
    /* Who asks, and for which organization. */
    NAME("authorization"),
    NAME("cookie"),
    NAME("origin"),
    NAME("x-organization-id"),
    NAME("x-api-key"),
    /* Which session or call it is part of, and what is to be done. */
    NAME("mcp-session-id"),
    NAME("mcp-protocol-version"),
    NAME("last-event-id"),
    NAME("idempotency-key"),
    NAME("x-http-method-override"),
    /* Where the body ends, whether it comes, what it is. */
    NAME("transfer-encoding"),
    NAME("expect"),
    NAME("content-length"),
    NAME("content-type"),
    NAME("content-encoding"),
    /* What is asked for, and on which condition: a PUT without its If-Match is another call. */
    NAME("accept"),
    NAME("accept-charset"),
    NAME("accept-encoding"),
    NAME("accept-language"),
    NAME("cache-control"),
    NAME("pragma"),
    NAME("range"),
    NAME("if-match"),
    NAME("if-none-match"),
    NAME("if-modified-since"),
    NAME("if-unmodified-since"),
    NAME("if-range"),
    /* Which call it is, and which way it came. */
    NAME("x-correlation-id"),
    NAME("via"),
    /* Of answers: how long they hold, what they are of, where to go, who may read them. */
    NAME("age"),
    NAME("allow"),
    NAME("date"),
    NAME("etag"),
    NAME("expires"),
    NAME("last-modified"),
    NAME("location"),
    NAME("retry-after"),
    NAME("set-cookie"),
    NAME("vary"),
    NAME("www-authenticate"),
};

static const struct span forwarding_prefixes[] = {NAME("x-forwarded-")};
/* content-: language, range, disposition, ...; access-control-: CORS. */
static const struct span end_to_end_prefixes[] = {NAME("content-"), NAME("access-control-")};

static bool is_letter_or_digit(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* `known` is made of small letters and hyphens. */
static bool begins_as(struct span name, struct span known) {
    if (name.len < known.len)
        return false;
    for (size_t i = 0; i < known.len; i++)
        if (known.ptr[i] == '-' ? is_letter_or_digit(name.ptr[i])
                                : (name.ptr[i] | 0x20) != known.ptr[i])
            return false;
    return true;
}

static bool is_listed(const struct span *names, size_t count, struct span name) {
    for (size_t i = 0; i < count; i++)
        if (names[i].len == name.len && begins_as(name, names[i]))
            return true;
    return false;
}

static bool has_prefix(const struct span *prefixes, size_t count, struct span name) {
    for (size_t i = 0; i < count; i++)
        if (begins_as(name, prefixes[i]))
            return true;
    return false;
}

bool field_is_forwarding(struct span name) {
    return has_prefix(forwarding_prefixes, COUNT(forwarding_prefixes), name) ||
           is_listed(forwarding, COUNT(forwarding), name);
}

bool field_is_end_to_end(struct span name) {
    return is_listed(end_to_end, COUNT(end_to_end), name) ||
           has_prefix(end_to_end_prefixes, COUNT(end_to_end_prefixes), name) ||
           field_is_forwarding(name);
}

bool field_is_imitation(struct span name) {
    size_t plain = 0;
    while (plain < name.len && (is_letter_or_digit(name.ptr[plain]) || name.ptr[plain] == '-'))
        plain++;
    return plain < name.len &&
           (is_listed(end_to_end, COUNT(end_to_end), name) || field_is_forwarding(name));
}
