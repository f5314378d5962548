#include "rules/wire/client_address.h"

/* Without brackets and port. An IPv6 address with a port stands in brackets. */
static struct span bare(struct span element) {
    const char *end;
    if (element.len > 0 && element.ptr[0] == '[') {
        end = memchr(element.ptr, ']', element.len);
        return end ? (struct span){element.ptr + 1, (size_t)(end - element.ptr) - 1} : SPAN_NONE;
    }
    end = element.len > 0 ? memchr(element.ptr, ':', element.len) : NULL;
    bool one_colon = end && !memchr(end + 1, ':', (size_t)(element.ptr + element.len - end) - 1);
    return one_colon ? (struct span){element.ptr, (size_t)(end - element.ptr)} : element;
}

/* Takes the last element off the list. False when nothing is left. */
static bool take_last(struct span *list, struct span *element) {
    if (list->len == 0)
        return false;
    const char *comma = memrchr(list->ptr, ',', list->len);
    size_t from = comma ? (size_t)(comma - list->ptr) + 1 : 0;
    *element = span_trim((struct span){list->ptr + from, list->len - from});
    list->len = comma ? from - 1 : 0;
    return true;
}

struct walk {
    const struct networks *trusted;
    struct address at; /* vouched for by all to its right */
};

/* Goes left while it is among the trusted. False: it has arrived. */
static bool walk_value(struct walk *w, struct span list) {
    struct span element;
    struct address next;
    while (networks_contain(w->trusted, &w->at)) {
        if (!take_last(&list, &element))
            return true; /* on in the line before */
        if (element.len == 0)
            continue; /* empty elements count for nothing (RFC 9110 section 5.6.1.2) */
        if (!address_parse(bare(element), &next))
            return false;
        w->at = next;
    }
    return false;
}

struct address client_address(const struct address *peer, const struct networks *trusted,
                              const struct http_fields *fields) {
    struct walk w = {trusted, *peer};
    if (trusted->count == 0)
        return w.at;
    for (size_t i = fields->count; i > 0; i--)
        if (span_equal_nocase(fields->at[i - 1].name, SPAN("x-forwarded-for")) &&
            !walk_value(&w, fields->at[i - 1].value))
            break;
    return w.at;
}

struct span client_protocol(const struct http_fields *fields) {
    struct span said = http_field(fields, SPAN("x-forwarded-proto"));
    bool known = span_equal(said, SPAN("http")) || span_equal(said, SPAN("https"));
    return known ? said : SPAN_NONE;
}
