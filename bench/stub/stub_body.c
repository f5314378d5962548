/* Express' body parsers: what they take, what they refuse, and V8's words for it.
 *
 * Gzip is read in stored blocks only (level 0): enough to show that a compressed body arrives as
 * it was sent, without a decompressor here. */
#include "stub/parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A media type without its parameters. */
static struct span media_type(const char *value) {
    struct span s = span_of(value);
    s.len = s.ptr ? strcspn(value, ";") : 0;
    return span_trim(s);
}

static bool charset_is_utf8(const char *value) {
    const char *charset = strcasestr(value, "charset=");
    if (!charset)
        return true;
    charset += strlen("charset=");
    return strncasecmp(charset, "utf-", 4) == 0 || strncasecmp(charset, "\"utf-", 5) == 0;
}

/* ---- gzip, RFC 1952 with stored blocks of RFC 1951 ---- */

enum { GZIP_HEAD = 10, STORED_HEAD = 5 };

static bool gunzip_stored(struct span in, struct str *out) {
    const unsigned char *at = (const unsigned char *)in.ptr;
    size_t left = in.len;
    bool last = false;
    if (left < GZIP_HEAD || at[0] != 0x1f || at[1] != 0x8b || at[3] != 0)
        return false;
    at += GZIP_HEAD;
    left -= GZIP_HEAD;
    while (!last) {
        size_t len = left >= STORED_HEAD ? (size_t)(at[1] | at[2] << 8) : 0;
        if (left < STORED_HEAD || at[0] > 1 || left - STORED_HEAD < len)
            return false;
        last = at[0] == 1;
        str_add(out, (struct span){(const char *)at + STORED_HEAD, len});
        at += STORED_HEAD + len;
        left -= STORED_HEAD + len;
    }
    return !out->overflow;
}

/* ---- JSON ---- */

static const char *first_non_space(struct span body) {
    for (size_t i = 0; i < body.len; i++)
        if (!strchr(" \t\r\n", body.ptr[i]) || !body.ptr[i])
            return body.ptr + i;
    return NULL;
}

/* The two complaints that transcripts show, word for word; others in the same manner. */
static void complain(struct call *c, struct span body, const json_error_t *error) {
    char message[256];
    const char *first = first_non_space(body);
    if (first && *first != '{' && *first != '[')
        snprintf(message, sizeof message, "Unexpected token '%c', \"%.*s\" is not valid JSON",
                 *first, body.len > 40 ? 40 : (int)body.len, body.ptr);
    else if (first && first + 1 == body.ptr + body.len)
        snprintf(message, sizeof message, "Expected property name or '}' in JSON at position %zu",
                 body.len);
    else
        snprintf(message, sizeof message,
                 "Expected ',' or '}' after property value in JSON at position %d",
                 error->position);
    stub_answer_error(c, 400, message, NULL);
}

static bool parse_json(struct call *c, struct span body) {
    json_error_t error;
    if (!first_non_space(body))
        return true;
    json_t *json = json_loadb(body.ptr, body.len, 0, &error);
    if (!json) {
        complain(c, body, &error);
        return false;
    }
    json_decref(c->json);
    c->json = json;
    return true;
}

/* ---- forms ---- */

static void parse_pair(struct call *c, struct span pair) {
    char name[256], value[4096];
    const char *equals = memchr(pair.ptr, '=', pair.len);
    if (!equals)
        return;
    size_t at = (size_t)(equals - pair.ptr);
    if (stub_decode((struct span){pair.ptr, at}, name, sizeof name) &&
        stub_decode(span_from(pair, at + 1), value, sizeof value))
        json_object_set_new(c->json, name, json_string(value));
}

static void parse_form(struct call *c, struct span body) {
    while (body.len > 0) {
        const char *end = memchr(body.ptr, '&', body.len);
        size_t len = end ? (size_t)(end - body.ptr) : body.len;
        parse_pair(c, (struct span){body.ptr, len});
        body = span_from(body, len + 1);
    }
}

static bool parse_plain(struct call *c, const char *type, struct span body) {
    bool is_json = span_equal_nocase(media_type(type), SPAN("application/json"));
    bool is_form = span_equal_nocase(media_type(type), SPAN("application/x-www-form-urlencoded"));
    if (!is_json && !is_form)
        return true;
    bool bulk = stub_bulk_is_asked(c);
    bool fits = body.len <= (bulk ? STUB_BULK_MAX : STUB_JSON_MAX);
    if (bulk && !fits) {
        stub_answer_error(c, 413, "Payload Too Large", NULL);
        return false;
    }
    if (!charset_is_utf8(type) || !fits) {
        stub_answer_error(c, 500, "Internal server error", NULL);
        return false;
    }
    if (is_json)
        return parse_json(c, body);
    parse_form(c, body);
    return true;
}

bool stub_body_parse(struct call *c) {
    const char *type = stub_call_header(c, "Content-Type");
    const char *coding = stub_call_header(c, "Content-Encoding");
    struct str plain;
    c->json = json_object();
    if (!type || c->body.len == 0)
        return true;
    if (!coding || strcasecmp(coding, "identity") == 0)
        return parse_plain(c, type, c->body);
    str_init(&plain, STUB_BODY_MAX);
    bool fine = strcasecmp(coding, "gzip") == 0 && gunzip_stored(c->body, &plain);
    if (!fine)
        stub_answer_error(c, 400, "incorrect header check", NULL);
    else
        fine = parse_plain(c, type, str_span(&plain));
    str_release(&plain);
    return fine;
}
