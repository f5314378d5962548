#include "rules/config/config_values.h"

#include "base/panic.h"
#include "rules/redis/redis_url.h"
#include "rules/wire/address.h"

#include <arpa/inet.h>
#include <stdlib.h>

enum {
    TEXT_MAX = 4096, /* PATH_MAX; no URL or prefix comes near */
    QUOTE_MAX = 40,  /* of a bad value, in a complaint */
    DIGITS_MAX = 18, /* so that a number fits int64_t */
};

/* ---- members ---- */

static void *member(struct config *config, const struct config_row *row) {
    return (char *)config + row->at;
}

static const void *const_member(const struct config *config, const struct config_row *row) {
    return (const char *)config + row->at;
}

static bool is_text(const struct config_row *row) {
    return row->type == CONFIG_TEXT || row->type == CONFIG_FILE;
}

struct config_secret *config_value_content(struct config *config, const struct config_row *row) {
    invariant(row->type == CONFIG_FILE);
    return (void *)((char *)config + row->content_at);
}

int64_t config_value_number(const struct config *config, const struct config_row *row) {
    invariant(!is_text(row));
    if (row->type == CONFIG_BOOL)
        return *(const bool *)const_member(config, row);
    return *(const int64_t *)const_member(config, row);
}

const char *config_value_text(const struct config *config, const struct config_row *row) {
    invariant(is_text(row));
    return *(char *const *)const_member(config, row);
}

void config_value_free(struct config *config, const struct config_row *row) {
    if (!is_text(row))
        return;
    char **text = member(config, row);
    free(*text);
    *text = NULL;
}

/* ---- numbers and their units ---- */

struct unit {
    const char *name;
    int64_t factor; /* rising within a list */
};

static const struct unit no_unit[] = {{"", 1}, {NULL, 0}};
static const struct unit durations[] = {
    {"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 60 * 60 * 1000}, {NULL, 0}};
static const struct unit sizes[] = {
    {"", 1}, {"KiB", 1024}, {"MiB", 1024 * 1024}, {"GiB", 1024 * 1024 * 1024}, {NULL, 0}};

static const struct unit *units_of(const struct config_row *row) {
    return row->type == CONFIG_DURATION ? durations : row->type == CONFIG_SIZE ? sizes : no_unit;
}

static size_t count_digits(struct span text) {
    size_t digits = 0;
    while (digits < text.len && text.ptr[digits] >= '0' && text.ptr[digits] <= '9')
        digits++;
    return digits;
}

/* Digits without sign or leading zero (YAML 1.1 would read 010 as eight), then exactly a unit. */
static bool parse_number(struct span text, const struct unit *units, int64_t *out) {
    size_t digits = count_digits(text);
    if (digits == 0 || digits > DIGITS_MAX || (digits > 1 && text.ptr[0] == '0'))
        return false;
    int64_t number = span_decimal((struct span){text.ptr, digits}, DIGITS_MAX);
    struct span unit = span_from(text, digits);
    for (; units->name; units++)
        if (span_equal(unit, span_of(units->name)))
            return !__builtin_mul_overflow(number, units->factor, out);
    return false;
}

/* In the largest unit that says it exactly. */
static void print_number(int64_t number, const struct unit *units, struct str *out) {
    const struct unit *best = units;
    for (const struct unit *u = units; u->name; u++)
        if (number % u->factor == 0 && (number > 0 || u->factor <= 1000)) /* none is 0s, not 0h */
            best = u;
    str_add_int(out, number / best->factor);
    str_add(out, span_of(best->name));
}

static int64_t bound(const struct config_row *row, const char *text) {
    int64_t number;
    bool fine = parse_number(span_of(text), units_of(row), &number);
    invariant(fine); /* the table is ours */
    return number;
}

static bool set_number(struct config *config, const struct config_row *row, struct span text) {
    int64_t number;
    if (!parse_number(text, units_of(row), &number))
        return false;
    if (number < bound(row, row->min) || number > bound(row, row->max))
        return false;
    *(int64_t *)member(config, row) = number;
    return true;
}

/* ---- words ---- */

static bool set_bool(struct config *config, const struct config_row *row, struct span text) {
    bool is_true = span_equal(text, SPAN("true"));
    if (!is_true && !span_equal(text, SPAN("false")))
        return false;
    *(bool *)member(config, row) = is_true;
    return true;
}

static bool set_choice(struct config *config, const struct config_row *row, struct span text) {
    for (int i = 0; row->choices[i]; i++) {
        if (span_equal(text, span_of(row->choices[i]))) {
            *(int64_t *)member(config, row) = i;
            return true;
        }
    }
    return false;
}

/* ---- texts ---- */

static const char *text_complaint(const struct config_row *row, struct span text) {
    if (text.len > TEXT_MAX)
        return "is longer than 4096 bytes; shorten it";
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] < ' ' || text.ptr[i] > '~')
            return "holds a control or non-ASCII character; use printable ASCII";
    return row->complaint ? row->complaint(text) : NULL;
}

static bool set_text(struct config *config, const struct config_row *row, struct span text,
                     struct str *why) {
    const char *complaint = text_complaint(row, text);
    if (complaint) {
        str_add(why, span_of(complaint));
        return false;
    }
    config_value_free(config, row);
    char *copy = must_alloc(text.len + 1);
    if (text.len > 0)
        memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    *(char **)member(config, row) = copy;
    return true;
}

const char *config_address_complaint(struct span text) {
    char address[INET6_ADDRSTRLEN + 1];
    unsigned char binary[16];
    if (text.len > 0 && text.len < sizeof address) {
        memcpy(address, text.ptr, text.len);
        address[text.len] = '\0';
        if (inet_pton(AF_INET, address, binary) == 1 || inet_pton(AF_INET6, address, binary) == 1)
            return NULL;
    }
    return "is not an IP address; write one such as 0.0.0.0, 127.0.0.1 or ::";
}

const char *config_address_or_none_complaint(struct span text) {
    return text.len == 0 ? NULL : config_address_complaint(text);
}

/* Moves `text` past the host: a name, an IPv4 address or a bracketed IPv6 one. */
static bool skip_host(struct span *text) {
    size_t len;
    if (text->len > 0 && text->ptr[0] == '[') {
        const char *end = memchr(text->ptr, ']', text->len);
        struct span inside = {text->ptr + 1, end ? (size_t)(end - text->ptr) - 1 : 0};
        if (!memchr(inside.ptr, ':', inside.len) || config_address_complaint(inside))
            return false;
        len = inside.len + 2;
    } else {
        for (len = 0; len < text->len; len++)
            if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_",
                        text->ptr[len]))
                break;
    }
    *text = span_from(*text, len);
    return len > 0 && len <= 255; /* RFC 1035 section 2.3.4 */
}

static bool is_port(struct span text) {
    int64_t port;
    return parse_number(text, no_unit, &port) && port >= 1 && port <= 65535;
}

const char *config_url_complaint(struct span text) {
    if (text.len == 0)
        return NULL;
    bool is_http = span_starts(text, SPAN("http://"));
    if (!is_http && !span_starts(text, SPAN("https://")))
        return "does not begin with http:// or https://; write http://host:port";
    if (memchr(text.ptr, '@', text.len))
        return "holds a user or password; write http://host:port";
    struct span rest = span_from(text, is_http ? strlen("http://") : strlen("https://"));
    if (!skip_host(&rest))
        return "names no valid host; write http://host:port, IPv6 as http://[::1]:port";
    if (rest.len == 0)
        return NULL;
    if (rest.ptr[0] == '/' || rest.ptr[0] == '?' || rest.ptr[0] == '#')
        return "has a path; end it after host and port (upstream.strip_prefix removes prefixes)";
    if (memchr(rest.ptr, '/', rest.len))
        return "has a path or a bad port; end it after host and port";
    if (rest.ptr[0] != ':' || !is_port(span_from(rest, 1)))
        return "has no valid port behind its host; write http://host:port, port from 1 to 65535";
    return NULL;
}

const char *config_prefix_complaint(struct span text) {
    if (text.len == 0)
        return NULL;
    if (text.ptr[0] != '/' || text.ptr[text.len - 1] == '/')
        return "must begin and not end with a slash; write it like /dev/aiwm";
    for (size_t i = 0; i < text.len; i++) {
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/",
                    text.ptr[i]))
            return "may hold letters, digits, - . _ ~ and slashes; write it like /dev/aiwm";
        /* Also rules out "." and ".." as segments. */
        if (text.ptr[i] == '/' && (text.ptr[i + 1] == '/' || text.ptr[i + 1] == '.'))
            return "has an empty segment or one that begins with a dot; write it like /dev/aiwm";
    }
    return NULL;
}

const char *config_redis_url_complaint(struct span text) {
    return text.len == 0 ? NULL : redis_url_parse(text, NULL);
}

/* Braces would mean something to Redis Cluster, and stars to an ACL. */
const char *config_redis_prefix_complaint(struct span text) {
    enum { PREFIX_MAX = 64 };
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] <= ' ' || text.ptr[i] > '~' || strchr("*?[]{}\\", text.ptr[i]))
            return "may hold printable ASCII without spaces and * ? [ ] { }; write it like "
                   "aiwm-gateway:";
    return text.len > 0 && text.len <= PREFIX_MAX ? NULL
                                                  : "must have 1 to 64 characters; write it like "
                                                    "aiwm-gateway:";
}

/* Jobs' keys are made of what stands before "events". */
const char *config_stream_complaint(struct span text) {
    static const struct span end = {":events", 7};
    enum { STREAM_MAX = 128 };
    bool fits = text.len > end.len && text.len <= STREAM_MAX &&
                span_equal(span_from(text, text.len - end.len), end);
    for (size_t i = 0; i < text.len && fits; i++)
        fits = text.ptr[i] > ' ' && text.ptr[i] <= '~';
    return fits ? NULL
                : "must be a queue's stream of events, printable ASCII without spaces; write it "
                  "like bull:agents.queue:events";
}

const char *config_networks_complaint(struct span text) {
    struct networks networks;
    return networks_parse(text, &networks)
               ? NULL
               : "is no list of up to 64 networks; write it like 10.0.0.0/8, 192.0.2.1, fd00::/8";
}

/* ---- any type ---- */

static void quote(struct span text, struct str *out) {
    bool is_cut = text.len > QUOTE_MAX;
    str_add_json(out, (struct span){text.ptr, is_cut ? QUOTE_MAX : text.len});
    if (is_cut)
        STR_ADD(out, "...");
}

static void explain(const struct config_row *row, struct span text, struct str *why) {
    STR_ADD(why, "is ");
    quote(text, why);
    if (row->type == CONFIG_DURATION && text.len > 0 && count_digits(text) == text.len)
        STR_ADD(why, ", a number without a unit");
    STR_ADD(why, "; write ");
    config_value_describe(row, why);
}

bool config_value_set(struct config *config, const struct config_row *row, struct span text,
                      struct str *why) {
    bool fine = false;
    switch (row->type) {
    case CONFIG_TEXT:
    case CONFIG_FILE:
        return set_text(config, row, text, why);
    case CONFIG_BOOL:
        fine = set_bool(config, row, text);
        break;
    case CONFIG_CHOICE:
        fine = set_choice(config, row, text);
        break;
    case CONFIG_INTEGER:
    case CONFIG_DURATION:
    case CONFIG_SIZE:
        fine = set_number(config, row, text);
        break;
    }
    if (!fine)
        explain(row, text, why);
    return fine;
}

void config_value_print(const struct config *config, const struct config_row *row,
                        struct str *out) {
    if (is_text(row))
        str_add_json(out, span_of(config_value_text(config, row)));
    else if (row->type == CONFIG_BOOL)
        str_add(out, config_value_number(config, row) ? SPAN("true") : SPAN("false"));
    else if (row->type == CONFIG_CHOICE)
        str_add(out, span_of(row->choices[config_value_number(config, row)]));
    else
        print_number(config_value_number(config, row), units_of(row), out);
}

bool config_value_equal(const struct config *a, const struct config *b,
                        const struct config_row *row) {
    if (is_text(row))
        return strcmp(config_value_text(a, row), config_value_text(b, row)) == 0;
    return config_value_number(a, row) == config_value_number(b, row);
}

static const struct config_secret *content_of(const struct config *config,
                                              const struct config_row *row) {
    return (const void *)((const char *)config + row->content_at);
}

bool config_content_equal(const struct config *a, const struct config *b,
                          const struct config_row *row) {
    if (row->type != CONFIG_FILE)
        return true;
    const struct config_secret *x = content_of(a, row), *y = content_of(b, row);
    return span_equal((struct span){x->bytes, x->len}, (struct span){y->bytes, y->len});
}

static void copy_content(const struct config *from, struct config *to,
                         const struct config_row *row) {
    const struct config_secret *source = content_of(from, row);
    struct config_secret *content = config_value_content(to, row);
    if (content->bytes)
        explicit_bzero(content->bytes, content->len);
    free(content->bytes);
    *content = (struct config_secret){NULL, source->len};
    if (source->bytes)
        content->bytes = must_copy(source->bytes, source->len);
}

void config_value_copy(const struct config *from, struct config *to, const struct config_row *row) {
    if (is_text(row)) {
        config_value_free(to, row);
        *(char **)member(to, row) = must_strdup(config_value_text(from, row));
    } else if (row->type == CONFIG_BOOL) {
        *(bool *)member(to, row) = *(const bool *)const_member(from, row);
    } else {
        *(int64_t *)member(to, row) = *(const int64_t *)const_member(from, row);
    }
    if (row->type == CONFIG_FILE)
        copy_content(from, to, row);
}

static void describe_choices(const struct config_row *row, struct str *out) {
    for (int i = 0; row->choices[i]; i++)
        str_addf(out, "%s%s", i == 0 ? "" : row->choices[i + 1] ? ", " : " or ", row->choices[i]);
}

void config_value_describe(const struct config_row *row, struct str *out) {
    switch (row->type) {
    case CONFIG_TEXT:
        STR_ADD(out, "text");
        break;
    case CONFIG_FILE:
        STR_ADD(out, "the path of a file");
        break;
    case CONFIG_BOOL:
        STR_ADD(out, "true or false");
        break;
    case CONFIG_CHOICE:
        describe_choices(row, out);
        break;
    case CONFIG_INTEGER:
        str_addf(out, "a whole number from %s to %s", row->min, row->max);
        break;
    case CONFIG_DURATION:
        str_addf(out, "a duration from %s to %s, such as 500ms, 60s, 5m or 24h", row->min,
                 row->max);
        break;
    case CONFIG_SIZE:
        str_addf(out, "a size from %s to %s, such as 65536 (bytes), 64KiB or 1MiB", row->min,
                 row->max);
        break;
    }
}
