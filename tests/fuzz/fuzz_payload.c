/* Bodies of agents and of the controller; the first byte says which. Held against jansson: the
 * scanner refuses nothing that jansson takes, except for depth, and NUL bytes, which end the text
 * for jansson whatever stands behind them. */
#include "rules/wire/json_scan.h"
#include "rules/wire/payload.h"

#include <jansson.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void must(bool condition) {
    if (!condition)
        abort();
}

static bool is_inside(struct span part, struct span whole) {
    return part.ptr >= whole.ptr && part.ptr + part.len <= whole.ptr + whole.len;
}

static void compare_with_jansson(struct span body) {
    struct json_fault fault = {0};
    json_error_t error;
    bool taken = json_scan_text(body, &fault);
    must(taken || (fault.what && fault.at <= body.len));
    if (taken || strncmp(fault.what, "Too many", 8) == 0 || memchr(body.ptr, 0, body.len))
        return;
    json_t *root = json_loadb(body.ptr, body.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    must(!root);
}

/* What is called plain, jansson and the strict walk read in the same way. */
static void compare_plain(struct span body) {
    struct json_members plain, strict;
    if (!json_scan_plain(body, &plain))
        return;
    json_t *root = json_loadb(body.ptr, body.len, JSON_REJECT_DUPLICATES, NULL);
    must(json_is_object(root) && json_object_size(root) == plain.count);
    json_decref(root);
    must(json_scan_object(body, &strict) && strict.count == plain.count);
    for (size_t i = 0; i < plain.count; i++)
        must(plain.at[i].kind == strict.at[i].kind &&
             span_equal(plain.at[i].name, strict.at[i].name) &&
             span_equal(plain.at[i].value, strict.at[i].value));
}

static void walk(struct span body) {
    struct json_members members;
    int64_t number;
    struct span text;
    if (!json_scan_object(body, &members))
        return;
    for (size_t i = 0; i < members.count; i++) {
        must(is_inside(members.at[i].name, body) && is_inside(members.at[i].value, body));
        must(json_member_find(&members, members.at[i].name) == &members.at[i]);
        (void)json_member_integer(&members.at[i], &number);
        must(!json_member_string(&members.at[i], &text) || is_inside(text, body));
    }
}

static void read_agents(struct span body, bool is_connect) {
    struct payload_verdict verdict;
    enum beat_status status;
    char *secret = malloc(PAYLOAD_SECRET_MAX);
    size_t len = 0;
    struct span type = SPAN("application/json");
    if (is_connect)
        payload_read_connect(type, SPAN_NONE, body, &verdict, secret, &len);
    else
        payload_read_beat(type, SPAN_NONE, body, &verdict, &status);
    must((verdict.kind == PAYLOAD_INVALID) == (verdict.errors[0] != NULL));
    must((verdict.kind == PAYLOAD_SYNTAX) == (verdict.message[0] != '\0'));
    must(!is_connect || verdict.kind != PAYLOAD_FINE || (len > 0 && len <= PAYLOAD_SECRET_MAX));
    free(secret);
}

static void read_answer(struct span body) {
    struct connect_answer answer;
    if (!payload_read_connect_answer(body, &answer))
        return;
    must(answer.expires_in_at + answer.expires_in_len <= body.len);
    for (size_t i = 0; i < answer.expires_in_len; i++)
        must(strchr("-0123456789", body.ptr[answer.expires_in_at + i]) != NULL);
}

static void read_type(struct span text) {
    const char *newline = text.len ? memchr(text.ptr, '\n', text.len) : NULL;
    size_t len = newline ? (size_t)(newline - text.ptr) : text.len;
    (void)payload_is_plain_json((struct span){text.ptr, len}, span_from(text, len + 1));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct span body = size ? (struct span){(const char *)bytes + 1, size - 1} : SPAN("");
    char message[256];
    switch (size ? bytes[0] : 0) {
    case 'a':
        read_answer(body);
        break;
    case 'v':
        must(!payload_is_verdict(401, body, message) || strlen(message) < sizeof message);
        break;
    case 't':
        read_type(body);
        break;
    default:
        compare_with_jansson(body);
        compare_plain(body);
        walk(body);
        read_agents(body, size && bytes[0] == 'c');
    }
    return 0;
}
