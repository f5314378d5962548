/* The HTTP grammar against arbitrary bytes. Every input is taken for a request, for a response
 * and for a chunked body; what must hold then:
 *
 *     however the bytes are cut, the verdict is the same
 *     what was parsed lies inside the head, and no control byte lies in it
 *     an accepted message, written again from its parts, is accepted as the same message */
#include "rules/wire/http.h"

#include "base/panic.h"
#include "base/str.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    EVERY_CUT_BELOW = 96, /* cutting at every position costs the square of the length */
    WRITTEN_MAX = 1 << 20,
};

/* ---- where a head ends ---- */

struct verdict {
    enum http_step step;
    enum err error;
    size_t head_len;
    uint32_t start;
};

static void scan_on(struct http_scan *scan, struct span bytes, struct verdict *v) {
    if (v->step == HTTP_MORE)
        v->step = http_scan(scan, bytes, &v->head_len, &v->error);
    v->start = scan->start;
}

static struct verdict scan_whole(struct span bytes) {
    struct http_scan scan = {0};
    struct verdict v = {HTTP_MORE, ERR_OK, 0, 0};
    scan_on(&scan, bytes, &v);
    return v;
}

static struct verdict scan_cut_at(struct span bytes, size_t cut) {
    struct http_scan scan = {0};
    struct verdict v = {HTTP_MORE, ERR_OK, 0, 0};
    scan_on(&scan, (struct span){bytes.ptr, cut}, &v);
    scan_on(&scan, bytes, &v);
    return v;
}

static struct verdict scan_bytewise(struct span bytes) {
    struct http_scan scan = {0};
    struct verdict v = {HTTP_MORE, ERR_OK, 0, 0};
    for (size_t len = 1; len <= bytes.len; len++)
        scan_on(&scan, (struct span){bytes.ptr, len}, &v);
    return v;
}

static void same_verdict(struct verdict a, struct verdict b) {
    invariant(a.step == b.step && a.error == b.error);
    invariant(a.head_len == b.head_len && a.start == b.start);
}

/* A position that differs from input to input. */
static size_t some_cut(struct span bytes) {
    return (size_t)(unsigned char)bytes.ptr[bytes.len / 2] * 257 % (bytes.len + 1);
}

static struct verdict scan_every_way(struct span bytes) {
    struct verdict whole = scan_whole(bytes);
    same_verdict(whole, scan_bytewise(bytes));
    same_verdict(whole, scan_cut_at(bytes, some_cut(bytes)));
    for (size_t cut = 0; bytes.len < EVERY_CUT_BELOW && cut < bytes.len; cut++)
        same_verdict(whole, scan_cut_at(bytes, cut));
    invariant(whole.step != HTTP_DONE || (whole.head_len <= bytes.len && whole.start <= 2));
    invariant(whole.step != HTTP_BAD || err_row(whole.error)->status >= 400);
    return whole;
}

/* ---- what both kinds of head share ---- */

static void lies_inside(struct span part, struct span head) {
    if (part.ptr)
        invariant(part.ptr >= head.ptr && part.ptr + part.len <= head.ptr + head.len);
    for (size_t i = 0; i < part.len; i++) {
        unsigned char c = (unsigned char)part.ptr[i];
        invariant((c >= ' ' && c != 0x7f) || c == '\t');
    }
}

static void check_fields(const struct http_fields *fields, struct span head) {
    size_t known[HTTP_KNOWN_COUNT + 1] = {0};
    invariant(fields->count <= HTTP_FIELDS_MAX);
    for (size_t i = 0; i < fields->count; i++) {
        const struct http_field *field = &fields->at[i];
        lies_inside(field->name, head);
        lies_inside(field->value, head);
        invariant(field->name.len > 0);
        if (field->known != HTTP_UNKNOWN && known[field->known] == 0)
            invariant(fields->known[field->known].ptr == field->value.ptr);
        known[field->known]++;
    }
    for (int k = 0; k < HTTP_KNOWN_COUNT; k++) {
        invariant(fields->known_count[k] == known[k]);
        invariant((fields->known[k].ptr != NULL) == (known[k] > 0));
    }
}

static void same_fields(const struct http_fields *a, const struct http_fields *b) {
    invariant(a->count == b->count);
    for (size_t i = 0; i < a->count; i++) {
        invariant(span_equal(a->at[i].name, b->at[i].name));
        invariant(span_equal(a->at[i].value, b->at[i].value));
        invariant(a->at[i].known == b->at[i].known);
    }
}

static void write_fields(struct str *s, const struct http_fields *fields, bool with_host) {
    for (size_t i = 0; i < fields->count; i++) {
        if (fields->at[i].known == HTTP_HOST && !with_host)
            continue;
        str_add(s, fields->at[i].name);
        STR_ADD(s, ": ");
        str_add(s, fields->at[i].value);
        STR_ADD(s, "\r\n");
    }
    STR_ADD(s, "\r\n");
}

/* ---- requests ---- */

static void same_request(const struct http_request *a, const struct http_request *b) {
    invariant(a->method == b->method && span_equal(a->method_text, b->method_text));
    invariant(span_equal(a->path, b->path) && span_equal(a->query, b->query));
    invariant(span_equal(a->host, b->host));
    invariant(a->minor == b->minor && a->keep_alive == b->keep_alive);
    invariant(a->chunked == b->chunked && a->content_length == b->content_length);
    invariant(a->expect_continue == b->expect_continue && a->wants_upgrade == b->wants_upgrade);
}

static void check_request_parts(const struct http_request *r, struct span head) {
    lies_inside(r->method_text, head);
    lies_inside(r->target, head);
    lies_inside(r->path, head);
    lies_inside(r->query, head);
    lies_inside(r->host, head);
    check_fields(&r->fields, head);
    invariant(r->path.ptr[0] == '/' || (r->path.ptr[0] == '*' && r->method == HTTP_OPTIONS));
    invariant(r->query.len == 0 || r->query.ptr[0] == '?');
    invariant(r->host.len > 0 || r->minor == 0);
    invariant(r->chunked ? r->content_length == -1 : r->content_length >= 0);
}

static void request_again_as_it_was(const struct http_request *r) {
    struct str s;
    struct http_request again;
    str_init(&s, WRITTEN_MAX);
    str_add(&s, r->method_text);
    STR_ADD(&s, " ");
    str_add(&s, r->target);
    str_addf(&s, " HTTP/1.%d\r\n", r->minor);
    write_fields(&s, &r->fields, true);
    invariant(http_request_parse(str_span(&s), &again) == ERR_OK);
    same_request(r, &again);
    same_fields(&r->fields, &again.fields);
    str_release(&s);
}

/* As it is forwarded: origin-form, and the host that counts. */
static void request_again_in_origin_form(const struct http_request *r) {
    struct str s;
    struct http_request again;
    if (r->fields.count == HTTP_FIELDS_MAX)
        return; /* no room for a Host that was not there */
    str_init(&s, WRITTEN_MAX);
    str_add(&s, r->method_text);
    STR_ADD(&s, " ");
    str_add(&s, r->path);
    str_add(&s, r->query);
    str_addf(&s, " HTTP/1.%d\r\nHost: ", r->minor);
    str_add(&s, r->host);
    STR_ADD(&s, "\r\n");
    write_fields(&s, &r->fields, false);
    invariant(http_request_parse(str_span(&s), &again) == ERR_OK);
    same_request(r, &again);
    str_release(&s);
}

static void check_request(struct span head) {
    struct http_request request;
    enum err e = http_request_parse(head, &request);
    invariant(e == ERR_OK || (err_row(e)->status >= 400 && err_row(e)->status <= 505));
    if (e)
        return;
    check_request_parts(&request, head);
    request_again_as_it_was(&request);
    request_again_in_origin_form(&request);
}

/* ---- responses ---- */

static void response_again(const struct http_response *r) {
    struct str s;
    struct http_response again;
    str_init(&s, WRITTEN_MAX);
    str_addf(&s, "HTTP/1.%d %d ", r->minor, r->status);
    str_add(&s, r->reason);
    STR_ADD(&s, "\r\n");
    write_fields(&s, &r->fields, true);
    invariant(http_response_parse(str_span(&s), &again) == ERR_OK);
    invariant(r->status == again.status && span_equal(r->reason, again.reason));
    invariant(r->minor == again.minor && r->keep_alive == again.keep_alive);
    invariant(r->chunked == again.chunked && r->content_length == again.content_length);
    invariant(r->keep_alive_s == again.keep_alive_s);
    same_fields(&r->fields, &again.fields);
    str_release(&s);
}

static void check_response(struct span head) {
    struct http_response response;
    enum err e = http_response_parse(head, &response);
    invariant(e == ERR_OK || e == ERR_UPSTREAM_PROTOCOL);
    if (e)
        return;
    lies_inside(response.reason, head);
    check_fields(&response.fields, head);
    invariant(response.status >= 100 && response.status <= 599);
    invariant(response.content_length >= -1 && response.keep_alive_s >= -1);
    invariant(!response.chunked || response.content_length == -1);
    response_again(&response);
}

/* ---- chunked bodies ---- */

struct body {
    struct http_chunks chunks;
    enum http_step step;
    size_t used;
    struct str text;
};

static void body_init(struct body *b) {
    *b = (struct body){{0}, HTTP_MORE, 0, {0}};
    str_init(&b->text, WRITTEN_MAX);
}

/* Decodes up to `end`, as if no more had arrived yet. */
static void body_read(struct body *b, struct span bytes, size_t end) {
    while (b->step == HTTP_MORE && b->used < end) {
        struct span part = {bytes.ptr + b->used, end - b->used};
        struct span data;
        size_t used;
        b->step = http_chunks_next(&b->chunks, part, &used, &data);
        invariant(used > 0 && used <= part.len);
        invariant(data.len == 0 ||
                  (data.ptr >= part.ptr && data.ptr + data.len <= part.ptr + used));
        invariant(b->step != HTTP_MORE || data.len > 0 || used == part.len);
        str_add(&b->text, data);
        b->used += used;
    }
}

static void same_body(const struct body *a, struct body *b) {
    invariant(a->step == b->step && a->used == b->used);
    invariant(span_equal(str_span(&a->text), str_span(&b->text)));
    str_release(&b->text);
}

static void body_bytewise(struct span bytes, const struct body *whole) {
    struct body b;
    body_init(&b);
    for (size_t end = 1; end <= bytes.len; end++)
        body_read(&b, bytes, end);
    same_body(whole, &b);
}

static void body_cut_at(struct span bytes, size_t cut, const struct body *whole) {
    struct body b;
    body_init(&b);
    body_read(&b, bytes, cut);
    body_read(&b, bytes, bytes.len);
    same_body(whole, &b);
}

static void body_again_as_one_chunk(const struct body *whole) {
    struct body b;
    struct str s;
    body_init(&b);
    str_init(&s, WRITTEN_MAX);
    if (whole->text.len > 0) {
        str_addf(&s, "%zX\r\n", whole->text.len);
        str_add(&s, str_span(&whole->text));
        STR_ADD(&s, "\r\n");
    }
    STR_ADD(&s, "0\r\n\r\n");
    body_read(&b, str_span(&s), s.len);
    b.used = whole->used; /* of another spelling */
    same_body(whole, &b);
    str_release(&s);
}

static void check_chunks(struct span bytes) {
    struct body whole;
    body_init(&whole);
    body_read(&whole, bytes, bytes.len);
    body_bytewise(bytes, &whole);
    body_cut_at(bytes, some_cut(bytes), &whole);
    for (size_t cut = 0; bytes.len < EVERY_CUT_BELOW && cut < bytes.len; cut++)
        body_cut_at(bytes, cut, &whole);
    if (whole.step == HTTP_DONE)
        body_again_as_one_chunk(&whole);
    str_release(&whole.text);
}

/* ---- all of it ---- */

/* The parsers get a copy of exactly the head, so that the sanitizer sees a step past its end. They
 * also get what no scanner let through: they promise to refuse that by themselves. */
static void check_heads(struct span bytes) {
    struct verdict v = scan_every_way(bytes);
    struct span head = bytes;
    if (v.step == HTTP_DONE)
        head = (struct span){bytes.ptr + v.start, v.head_len - v.start};
    char *copy = must_copy(head.ptr, head.len);
    check_request((struct span){copy, head.len});
    check_response((struct span){copy, head.len});
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct span bytes = {(const char *)data, size};
    if (size == 0)
        return 0;
    check_heads(bytes);
    check_chunks(bytes);
    return 0;
}
