#include "rules/wire/address.h"

#include <arpa/inet.h>

enum { V4_BITS = 32, V6_BITS = 128, MAPPED_BITS = V6_BITS - V4_BITS, SITE_BYTES = 8 };

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

void address_of_v4(const uint8_t bytes[4], struct address *out) {
    memcpy(out->bytes, mapped, sizeof mapped);
    memcpy(out->bytes + sizeof mapped, bytes, 4);
}

void address_of_v6(const uint8_t bytes[16], struct address *out) {
    memcpy(out->bytes, bytes, ADDRESS_BYTES);
}

bool address_is_v4(const struct address *a) {
    return memcmp(a->bytes, mapped, sizeof mapped) == 0;
}

bool address_parse(struct span text, struct address *out) {
    char terminated[ADDRESS_TEXT];
    uint8_t bytes[ADDRESS_BYTES];
    if (text.len == 0 || text.len >= sizeof terminated || memchr(text.ptr, '\0', text.len))
        return false;
    memcpy(terminated, text.ptr, text.len);
    terminated[text.len] = '\0';
    if (inet_pton(AF_INET, terminated, bytes) == 1)
        address_of_v4(bytes, out);
    else if (inet_pton(AF_INET6, terminated, bytes) == 1)
        address_of_v6(bytes, out);
    else
        return false;
    return true;
}

/* By hand: inet_ntop prints, and each forwarded request has an address. */
static void spell_v4(const uint8_t bytes[4], char *out) {
    for (int i = 0; i < 4; i++) {
        unsigned value = bytes[i];
        if (value >= 100)
            *out++ = (char)('0' + value / 100);
        if (value >= 10)
            *out++ = (char)('0' + value / 10 % 10);
        *out++ = (char)('0' + value % 10);
        *out++ = i < 3 ? '.' : '\0';
    }
}

void address_text(const struct address *a, char out[ADDRESS_TEXT]) {
    if (address_is_v4(a))
        spell_v4(a->bytes + sizeof mapped, out);
    else if (!inet_ntop(AF_INET6, a->bytes, out, ADDRESS_TEXT))
        out[0] = '\0';
}

struct span address_site(const struct address *a) {
    return (struct span){(const char *)a->bytes, address_is_v4(a) ? ADDRESS_BYTES : SITE_BYTES};
}

/* ---- networks ---- */

/* Do the first `bits` agree? */
static bool same_prefix(const struct address *a, const struct address *b, int bits) {
    int whole = bits / 8, rest = bits % 8;
    if (memcmp(a->bytes, b->bytes, (size_t)whole) != 0)
        return false;
    return rest == 0 || ((a->bytes[whole] ^ b->bytes[whole]) >> (8 - rest)) == 0;
}

static bool nothing_behind(const struct address *a, int bits) {
    for (int i = bits; i < V6_BITS; i++)
        if (a->bytes[i / 8] & (0x80 >> i % 8))
            return false;
    return true;
}

/* One to three digits, without a leading zero, up to `max`. */
static bool parse_bits(struct span text, int max, int *out) {
    *out = (int)span_decimal(text, 3);
    return *out >= 0 && *out <= max && !(text.len > 1 && text.ptr[0] == '0');
}

static bool parse_network(struct span text, struct network *out) {
    const char *slash = memchr(text.ptr, '/', text.len);
    size_t len = slash ? (size_t)(slash - text.ptr) : text.len;
    if (!address_parse((struct span){text.ptr, len}, &out->base))
        return false;
    bool dotted = !memchr(text.ptr, ':', len);
    out->bits = V6_BITS;
    if (slash && !parse_bits(span_from(text, len + 1), dotted ? V4_BITS : V6_BITS, &out->bits))
        return false;
    if (slash && dotted)
        out->bits += MAPPED_BITS;
    return nothing_behind(&out->base, out->bits);
}

static bool separates(char c) {
    return c == ',' || c == ' ';
}

/* The next word; moves `text` past it. False at the end. */
static bool next_word(struct span *text, struct span *word) {
    size_t from = 0;
    if (text->len == 0)
        return false;
    while (from < text->len && separates(text->ptr[from]))
        from++;
    size_t to = from;
    while (to < text->len && !separates(text->ptr[to]))
        to++;
    *word = (struct span){text->ptr + from, to - from};
    *text = span_from(*text, to);
    return to > from;
}

bool networks_parse(struct span text, struct networks *out) {
    struct span word;
    out->count = 0;
    while (next_word(&text, &word))
        if (out->count == NETWORKS_MAX || !parse_network(word, &out->at[out->count++]))
            return false;
    return true;
}

bool networks_contain(const struct networks *n, const struct address *a) {
    for (size_t i = 0; i < n->count; i++)
        if (same_prefix(&n->at[i].base, a, n->at[i].bits))
            return true;
    return false;
}
