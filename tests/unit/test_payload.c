#include "rules/wire/payload.h"

#include "../support/mint.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#define JSON SPAN("application/json")

static const char STATUS[] = "status must be one of the following values: ";
static const char METRICS[] = "metrics must be an object";
static const char NO_STRING[] = "secret must be a string";
static const char EMPTY[] = "secret should not be empty";

static const char *kind_name(enum payload_kind kind) {
    static const char *const names[] = {"fine", "syntax", "invalid", "foreign"};
    return names[kind];
}

static bool same_text(const char *a, const char *b) {
    return a == b || (a && b && strcmp(a, b) == 0);
}

static struct payload_verdict beat(struct span body, enum beat_status *status) {
    struct payload_verdict verdict;
    payload_read_beat(JSON, SPAN_NONE, body, &verdict, status);
    return verdict;
}

static enum payload_kind beat_kind(struct span body) {
    enum beat_status status;
    return beat(body, &status).kind;
}

/* ---- what counts as JSON ---- */

Test(payload, reads_plain_json_and_nothing_else) {
    static const struct {
        const char *type, *encoding;
        bool plain;
    } rows[] = {
        {"application/json", NULL, true},
        {"application/json", "", true},
        {"application/json", "identity", true},
        {"application/json", "IDENTITY", true},
        {"Application/JSON", NULL, true},
        {" application/json ", NULL, true},
        {"application/json; charset=utf-8", NULL, true},
        {"application/json;charset=UTF-8", NULL, true},
        {"application/json ; charset=\"utf-8\"", NULL, true},
        {"application/json; Charset=utf-8 ", NULL, true},
        {"application/json; charset=utf8", NULL, false},
        {"application/json; charset=iso-8859-1", NULL, false},
        {"application/json; charset=utf-16", NULL, false},
        {"application/json; charset=", NULL, false},
        {"application/json; charset", NULL, false},
        {"application/json; charset=\"utf-8", NULL, false},
        {"application/json; charset=utf-8; charset=utf-16", NULL, false},
        {"application/json; charset=utf-8;", NULL, false},
        {"application/json; charset=utf-8 x", NULL, false},
        {"application/json; v=1", NULL, false},
        {"application/json;", NULL, false},
        {"application/json, text/plain", NULL, false},
        {"application/jsonp", NULL, false},
        {"application/vnd.api+json", NULL, false},
        {"text/json", NULL, false},
        {"text/plain", NULL, false},
        {"application/x-www-form-urlencoded", NULL, false},
        {"", NULL, false},
        {NULL, NULL, false},
        {";", NULL, false},
        {"application/json", "gzip", false},
        {"application/json", "br", false},
        {"application/json", "identity, gzip", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_expect_eq(payload_is_plain_json(span_of(rows[i].type), span_of(rows[i].encoding)),
                     rows[i].plain, "'%s' '%s'", rows[i].type ? rows[i].type : "-",
                     rows[i].encoding ? rows[i].encoding : "-");
}

Test(payload, leaves_other_bodies_to_the_controller) {
    static const struct {
        const char *type, *encoding, *body;
        enum payload_kind kind;
    } rows[] = {
        {"text/plain", NULL, "{\"status\":\"online\"}", PAYLOAD_FOREIGN},
        {NULL, NULL, "{\"status\":\"online\"}", PAYLOAD_FOREIGN},
        {"application/json", "gzip", "\x1f\x8b", PAYLOAD_FOREIGN},
        {"application/json", "gzip", "", PAYLOAD_FOREIGN},
        {"application/x-www-form-urlencoded", NULL, "", PAYLOAD_FOREIGN},
        {"application/json; charset=iso-8859-1", NULL, "{", PAYLOAD_FOREIGN},
        {"application/json", NULL, "", PAYLOAD_INVALID},
        {NULL, NULL, "", PAYLOAD_INVALID},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct payload_verdict verdict;
        enum beat_status status;
        char secret[PAYLOAD_SECRET_MAX];
        size_t len;
        struct span type = span_of(rows[i].type), encoding = span_of(rows[i].encoding);
        payload_read_beat(type, encoding, span_of(rows[i].body), &verdict, &status);
        cr_expect_eq(verdict.kind, rows[i].kind, "beat %zu", i);
        payload_read_connect(type, encoding, span_of(rows[i].body), &verdict, secret, &len);
        cr_expect_eq(verdict.kind, rows[i].kind, "connect %zu", i);
    }
}

/* ---- heartbeat ---- */

Test(payload, judges_beats_as_the_controller_does) {
    static const struct {
        const char *body;
        enum payload_kind kind;
        enum beat_status status;
        const char *errors[2];
    } rows[] = {
        {"{\"status\":\"online\",\"metrics\":{\"cpu\":45,\"memory\":60,\"activeConnections\":3}}",
         PAYLOAD_FINE,
         BEAT_ONLINE,
         {0}},
        {"{\"status\":\"busy\"}", PAYLOAD_FINE, BEAT_BUSY, {0}},
        {"{\"status\":\"idle\",\"metrics\":null}", PAYLOAD_FINE, BEAT_IDLE, {0}},
        {"{\"status\":\"idle\",\"other\":1}", PAYLOAD_FINE, BEAT_IDLE, {0}},
        {"{\"metrics\":{},\"status\":\"idle\"}", PAYLOAD_FINE, BEAT_IDLE, {0}},
        {" {\n\"status\" : \"\\u006fnline\" } ", PAYLOAD_FINE, BEAT_ONLINE, {0}},
        {"{\"status\":\"offline\"}", PAYLOAD_INVALID, 0, {STATUS}},
        {"{\"status\":\"Online\"}", PAYLOAD_INVALID, 0, {STATUS}},
        {"{\"status\":\"online \"}", PAYLOAD_INVALID, 0, {STATUS}},
        {"{\"status\":\"online\\u0000\"}", PAYLOAD_INVALID, 0, {STATUS}},
        {"{\"status\":\"\"}", PAYLOAD_INVALID, 0, {STATUS}},
        {"{\"status\":null}", PAYLOAD_INVALID, 0, {STATUS}},
        {"{\"status\":1}", PAYLOAD_INVALID, 0, {STATUS}},
        {"{\"status\":[\"online\"]}", PAYLOAD_INVALID, 0, {STATUS}},
        {"{}", PAYLOAD_INVALID, 0, {STATUS}},
        {"", PAYLOAD_INVALID, 0, {STATUS}},
        {"[]", PAYLOAD_INVALID, 0, {STATUS}},
        {"[{\"status\":\"online\"}]", PAYLOAD_INVALID, 0, {STATUS}},
        {"{\"status\":\"online\",\"metrics\":5}", PAYLOAD_INVALID, 0, {METRICS}},
        {"{\"status\":\"online\",\"metrics\":[1]}", PAYLOAD_INVALID, 0, {METRICS}},
        {"{\"status\":\"online\",\"metrics\":\"x\"}", PAYLOAD_INVALID, 0, {METRICS}},
        {"{\"status\":\"online\",\"metrics\":false}", PAYLOAD_INVALID, 0, {METRICS}},
        {"{\"metrics\":5,\"status\":\"x\"}", PAYLOAD_INVALID, 0, {STATUS, METRICS}},
        {"{\"metrics\":[]}", PAYLOAD_INVALID, 0, {STATUS, METRICS}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum beat_status status = 77;
        struct payload_verdict verdict = beat(span_of(rows[i].body), &status);
        cr_expect_eq(verdict.kind, rows[i].kind, "%s: %s", rows[i].body, kind_name(verdict.kind));
        cr_expect_eq((int)status, rows[i].kind == PAYLOAD_FINE ? (int)rows[i].status : 77, "%s",
                     rows[i].body);
        for (int k = 0; k < 2; k++)
            cr_expect(same_text(verdict.errors[k], rows[i].errors[k]), "%s: error %d", rows[i].body,
                      k);
    }
}

Test(payload, says_what_is_wrong_with_the_json_without_quoting_it) {
    static const struct {
        const char *body, *message;
    } rows[] = {
        {"{", "Expected property name or '}' in JSON at position 1"},
        {"{\"secret\": \"x\"", "Expected ',' or '}' after property value in JSON at position 14"},
        {"\"x\"", "Unexpected token in JSON at position 0"},
        {"true", "Unexpected token in JSON at position 0"},
        {"1", "Unexpected token in JSON at position 0"},
        {"NaN", "Unexpected token in JSON at position 0"},
        {"\xef\xbb\xbf{}", "Unexpected token in JSON at position 0"},
        {"  ", "Unexpected end of JSON input"},
        {"[", "Unexpected end of JSON input"},
        {"{\"status\":NaN}", "Unexpected token in JSON at position 10"},
        {"{\"status\":\"online\",}", "Expected double-quoted property name in JSON at position 19"},
        {"{} {}", "Unexpected non-whitespace character after JSON at position 3"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum beat_status status;
        struct payload_verdict verdict = beat(span_of(rows[i].body), &status);
        cr_expect_eq(verdict.kind, PAYLOAD_SYNTAX, "%s: %s", rows[i].body, kind_name(verdict.kind));
        cr_expect_str_eq(verdict.message, rows[i].message, "%s: %s", rows[i].body, verdict.message);
    }
}

Test(payload, refuses_repeated_names_and_invalid_utf8_at_any_level) {
    static const struct {
        const char *body, *begins;
    } rows[] = {
        {"{\"status\":\"online\",\"status\":\"busy\"}",
         "Repeated property name in JSON at position "},
        {"{\"status\":\"online\",\"st\\u0061tus\":\"busy\"}",
         "Repeated property name in JSON at position "},
        {"{\"status\":\"online\",\"metrics\":{\"a\":[{\"b\":1,\"b\":2}]}}",
         "Repeated property name in JSON at position "},
        {"{\"status\":\"online\",\"x\":\"\xff\"}", "Invalid UTF-8 in JSON at position "},
        {"{\"status\":\"online\",\"x\":\"\xc0\xaf\"}", "Invalid UTF-8 in JSON at position "},
        {"{\"status\":\"online\",\"x\":\"\xed\xa0\x80\"}", "Invalid UTF-8 in JSON at position "},
        {"{\"status\":\"online\",\"x\":\"\xf4\x90\x80\x80\"}",
         "Invalid UTF-8 in JSON at position "},
        {"{\"status\":\"online\",\"\xe2\x82\":1}", "Invalid UTF-8 in JSON at position "},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum beat_status status;
        struct payload_verdict verdict = beat(span_of(rows[i].body), &status);
        cr_expect_eq(verdict.kind, PAYLOAD_SYNTAX, "row %zu: %s", i, kind_name(verdict.kind));
        cr_expect(span_starts(span_of(verdict.message), span_of(rows[i].begins)), "row %zu: %s", i,
                  verdict.message);
    }
}

Test(payload, takes_numbers_and_escapes_that_node_takes) {
    static const struct {
        const char *body;
        enum payload_kind kind;
    } rows[] = {
        {"{\"status\":\"idle\",\"n\":123456789012345678901234567890}", PAYLOAD_FINE},
        {"{\"status\":\"idle\",\"n\":-9223372036854775809}", PAYLOAD_FINE},
        {"{\"status\":\"idle\",\"n\":1e-999}", PAYLOAD_FINE},
        {"{\"status\":\"idle\",\"n\":\"a\\u0000b\"}", PAYLOAD_FINE},
        {"{\"status\":\"idle\",\"\":\"\\ud83d\\ude00\"}", PAYLOAD_FINE},
        /* Legal to Node, more than jansson can hold: the controller's to judge. */
        {"{\"status\":\"idle\",\"n\":1e999}", PAYLOAD_FOREIGN},
        {"{\"status\":\"idle\",\"n\":\"\\ud83d\"}", PAYLOAD_FOREIGN},
        {"{\"status\":\"idle\",\"a\\u0000b\":1}", PAYLOAD_FOREIGN},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum payload_kind kind = beat_kind(span_of(rows[i].body));
        cr_expect_eq(kind, rows[i].kind, "%s: %s", rows[i].body, kind_name(kind));
    }
}

Test(payload, refuses_a_nul_byte_and_every_prefix_of_a_beat) {
    struct span whole = SPAN("{\"status\":\"online\",\"metrics\":{\"cpu\":4.5e1,\"x\":[true]}}");
    cr_expect_eq(beat_kind(whole), PAYLOAD_FINE);
    cr_expect_eq(beat_kind((struct span){"{\"status\":\"idle\"}\0", 18}), PAYLOAD_SYNTAX);
    cr_expect_eq(beat_kind((struct span){"{\"status\":\"idle\0\"}", 18}), PAYLOAD_SYNTAX);
    for (size_t len = 1; len < whole.len; len++) {
        char *copy = malloc(len);
        memcpy(copy, whole.ptr, len);
        cr_expect_eq(beat_kind((struct span){copy, len}), PAYLOAD_SYNTAX, "%zu bytes", len);
        free(copy);
    }
}

Test(payload, refuses_nesting_beyond_64_levels) {
    enum { COUNT = 100000 };
    static char text[COUNT + 100];
    for (int depth = 62; depth <= 64; depth++) {
        char *at = text + sprintf(text, "{\"status\":\"idle\",\"x\":");
        memset(at, '[', (size_t)depth);
        memset(at + depth, ']', (size_t)depth);
        strcpy(at + 2 * depth, "}");
        cr_expect_eq(beat_kind(span_of(text)), depth < 64 ? PAYLOAD_FINE : PAYLOAD_SYNTAX,
                     "%d arrays", depth);
    }
    memset(text, '[', COUNT);
    cr_expect_eq(beat_kind((struct span){text, COUNT}), PAYLOAD_SYNTAX);
    memset(text, '{', COUNT);
    cr_expect_eq(beat_kind((struct span){text, COUNT}), PAYLOAD_SYNTAX);
    for (int i = 0; i + 5 <= COUNT; i += 5)
        memcpy(text + i, "{\"a\":", 5);
    cr_expect_eq(beat_kind((struct span){text, COUNT}), PAYLOAD_SYNTAX);
}

/* ---- connect ---- */

Test(payload, judges_connects_as_the_controller_does) {
    static const struct {
        const char *body;
        const char *secret; /* NULL: not fine */
        const char *errors[2];
    } rows[] = {
        {"{\"secret\":\"agent-secret-for-tests-0\"}", "agent-secret-for-tests-0", {0}},
        {"{\"secret\":\"x\",\"nonsense\":1,\"__proto__x\":2}", "x", {0}},
        {"{\"secret\":\" \"}", " ", {0}},
        {"{\"secret\":\"\\u00e9\\n\\\"\"}", "\xc3\xa9\n\"", {0}},
        {"{}", NULL, {NO_STRING, EMPTY}},
        {"", NULL, {NO_STRING, EMPTY}},
        {"[]", NULL, {NO_STRING, EMPTY}},
        {"[{\"secret\":\"x\"}]", NULL, {NO_STRING, EMPTY}},
        {"{\"secret\":null}", NULL, {NO_STRING, EMPTY}},
        {"{\"Secret\":\"x\"}", NULL, {NO_STRING, EMPTY}},
        {"{\"secret\":\"\"}", NULL, {EMPTY}},
        {"{\"secret\":12345}", NULL, {NO_STRING}},
        {"{\"secret\":0}", NULL, {NO_STRING}},
        {"{\"secret\":false}", NULL, {NO_STRING}},
        {"{\"secret\":{\"$ne\":null}}", NULL, {NO_STRING}},
        {"{\"secret\":{}}", NULL, {NO_STRING}},
        {"{\"secret\":[\"x\"]}", NULL, {NO_STRING}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct payload_verdict verdict;
        char secret[PAYLOAD_SECRET_MAX];
        size_t len = 0;
        payload_read_connect(JSON, SPAN_NONE, span_of(rows[i].body), &verdict, secret, &len);
        cr_expect_eq(verdict.kind, rows[i].secret ? PAYLOAD_FINE : PAYLOAD_INVALID, "%s: %s",
                     rows[i].body, kind_name(verdict.kind));
        cr_expect(span_equal((struct span){secret, len}, span_of(rows[i].secret)), "%s",
                  rows[i].body);
        for (int k = 0; k < 2; k++)
            cr_expect(same_text(verdict.errors[k], rows[i].errors[k]), "%s: error %d", rows[i].body,
                      k);
    }
}

Test(payload, keeps_a_nul_inside_a_secret) {
    struct payload_verdict verdict;
    char secret[PAYLOAD_SECRET_MAX];
    size_t len = 0;
    payload_read_connect(JSON, SPAN_NONE, SPAN("{\"secret\":\"a\\u0000b\"}"), &verdict, secret,
                         &len);
    cr_expect_eq(verdict.kind, PAYLOAD_FINE);
    cr_expect(span_equal((struct span){secret, len}, (struct span){"a\0b", 3}));
}

Test(payload, hands_secrets_that_are_too_long_to_the_controller) {
    for (size_t size = PAYLOAD_SECRET_MAX - 1; size <= PAYLOAD_SECRET_MAX + 1; size++) {
        char *secret = malloc(PAYLOAD_SECRET_MAX), body[PAYLOAD_SECRET_MAX + 100];
        struct payload_verdict verdict;
        size_t len = 0;
        sprintf(body, "{\"secret\":\"%0*d\"}", (int)size, 0);
        payload_read_connect(JSON, SPAN_NONE, span_of(body), &verdict, secret, &len);
        bool fits = size <= PAYLOAD_SECRET_MAX;
        cr_expect_eq(verdict.kind, fits ? PAYLOAD_FINE : PAYLOAD_FOREIGN, "%zu", size);
        cr_expect_eq(len, fits ? size : 0, "%zu", size);
        free(secret);
    }
}

/* ---- the controller's answers ---- */

static bool read_answer(struct connect_answer *out, const char *before, const char *claims,
                        const char *behind) {
    char body[4096], token[1024];
    struct span minted = mint(token, claims);
    snprintf(body, sizeof body, "%s%.*s%s", before, SPAN_ARG(minted), behind);
    return payload_read_connect_answer(span_of(body), out);
}

Test(payload, finds_expiry_and_place_of_expires_in) {
    static const struct {
        const char *before, *behind;
        const char *digits; /* "": none */
    } rows[] = {
        {"{\"accessToken\":\"", "\",\"expiresIn\":86400,\"tokenType\":\"bearer\"}", "86400"},
        {"{\"token\":\"", "\",\"expiresIn\":7}", "7"},
        {"{\"expiresIn\" : 86400 ,\"token\":\"", "\"}", "86400"},
        {"{\"accessToken\":\"", "\"}", ""},
        {"{\"accessToken\":\"", "\",\"expiresIn\":\"86400\"}", ""},
        {"{\"accessToken\":\"", "\",\"expiresIn\":86400.5}", ""},
        {"{\"accessToken\":\"", "\",\"expiresIn\":1e5}", ""},
        {"{\"accessToken\":\"", "\",\"expiresIn\":null}", ""},
        {"{\"accessToken\":\"", "\",\"x\":{\"expiresIn\":5}}", ""},
        {"{\"x\":\"{\\\"expiresIn\\\":5\",\"accessToken\":\"", "\",\"expiresIn\":42}", "42"},
        {"{\"settings\":{\"expiresIn\":1,\"a\":[{\"expiresIn\":2}]},\"accessToken\":\"",
         "\",\"refreshExpiresIn\":0,\"expiresIn\":43}", "43"},
        {"{\"accessToken\":null,\"token\":\"", "\",\"expiresIn\":44}", "44"},
        {"{\"accessToken\":\"opaque\",\"token\":\"", "\",\"expiresIn\":45}", "45"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char body[4096], token[1024];
        struct connect_answer answer;
        struct span minted = mint(token, "{\"exp\":1795494188}");
        snprintf(body, sizeof body, "%s%.*s%s", rows[i].before, SPAN_ARG(minted), rows[i].behind);
        cr_assert(payload_read_connect_answer(span_of(body), &answer), "%s", body);
        cr_expect_eq(answer.expires_s, 1795494188, "%s", body);
        struct span digits = {body + answer.expires_in_at, answer.expires_in_len};
        cr_expect(span_equal(digits, span_of(rows[i].digits)), "%s: %.*s", body, SPAN_ARG(digits));
    }
}

Test(payload, does_not_take_for_an_answer_what_holds_no_token_with_an_expiry) {
    static const struct {
        const char *before, *claims, *behind;
    } rows[] = {
        {"{\"accessToken\":\"", "{}", "\"}"},
        {"{\"accessToken\":\"", "{\"exp\":\"1795494188\"}", "\"}"},
        {"{\"accessToken\":\"", "{\"exp\":1.5}", "\"}"},
        {"{\"accessToken\":\"", "{\"exp\":1,\"exp\":2}", "\"}"},
        {"{\"accessToken\":\"", "[]", "\"}"},
        {"{\"accessToken\":\" ", "{\"exp\":1795494188}", "\"}"},
        {"{\"accessToken\":[\"", "{\"exp\":1795494188}", "\"]}"},
        {"{\"data\":{\"accessToken\":\"", "{\"exp\":1795494188}", "\"}}"},
        {"[{\"accessToken\":\"", "{\"exp\":1795494188}", "\"}]"},
        {"{\"accessToken\":\"a\",\"accessToken\":\"", "{\"exp\":1795494188}", "\"}"},
        {"{\"accessToken\":\"", "{\"exp\":1795494188}", "\",\"expiresIn\":1,\"expiresIn\":2}"},
        {"{\"accessToken\":\"", "{\"exp\":1795494188}", "\"} {}"},
        {"{\"accessToken\":\"", "{\"exp\":1795494188}", "\""},
        {"{\"jwt\":\"", "{\"exp\":1795494188}", "\"}"},
        {"", "{\"exp\":1795494188}", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct connect_answer answer;
        cr_expect_not(read_answer(&answer, rows[i].before, rows[i].claims, rows[i].behind),
                      "row %zu", i);
    }
    struct connect_answer answer;
    cr_expect_not(payload_read_connect_answer(SPAN("<html>502</html>"), &answer));
    cr_expect_not(payload_read_connect_answer(SPAN_NONE, &answer));
}

Test(payload, reads_answers_of_256_kib_and_no_larger) {
    enum { MAX = 262144 };
    for (size_t size = MAX - 1; size <= MAX + 1; size++) {
        char *body = malloc(size + 1), token[512];
        struct connect_answer answer;
        struct span minted = mint(token, "{\"exp\":9}");
        size_t len = (size_t)sprintf(body, "{\"token\":\"%.*s\",\"p\":\"", SPAN_ARG(minted));
        memset(body + len, 'p', size - len - 2);
        memcpy(body + size - 2, "\"}", 2);
        cr_expect_eq(payload_read_connect_answer((struct span){body, size}, &answer), size <= MAX,
                     "%zu", size);
        free(body);
    }
}

Test(payload, knows_an_error_of_the_controllers_own_making) {
    static const struct {
        int status;
        const char *body;
        const char *message; /* NULL: not a verdict */
    } rows[] = {
        {404, "{\"statusCode\":404,\"message\":\"Agent with ID 6a not found\",\"path\":\"/\"}",
         "Agent with ID 6a not found"},
        {401, "{\"statusCode\":401,\"message\":\"Invalid credentials\"}", "Invalid credentials"},
        {403, "{\"message\":\"No\",\"statusCode\":403}", "No"},
        {404, "{\"statusCode\":404,\"message\":\"Cannot POST /dev/agents\"}", NULL},
        {404, "{\"statusCode\":404,\"message\":\"agent with ID 6a not found\"}", NULL},
        {404, "{\"statusCode\":401,\"message\":\"Agent with ID 6a not found\"}", NULL},
        {401, "{\"statusCode\":\"401\",\"message\":\"Unauthorized\"}", NULL},
        {401, "{\"statusCode\":401.0,\"message\":\"Unauthorized\"}", NULL},
        {401, "{\"statusCode\":401}", NULL},
        {401, "{\"statusCode\":401,\"message\":[\"Unauthorized\"]}", NULL},
        {401, "{\"statusCode\":401,\"statusCode\":401,\"message\":\"Unauthorized\"}", NULL},
        {401, "[{\"statusCode\":401,\"message\":\"Unauthorized\"}]", NULL},
        {401, "{\"error\":\"unauthorized\"}", NULL},
        {401, "<html>401 Authorization Required</html>", NULL},
        {401, "{\"statusCode\":401,\"message\":\"\xff\"}", NULL},
        {401, "{", NULL},
        {401, "", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char message[256] = "untouched";
        cr_expect_eq(payload_is_verdict(rows[i].status, span_of(rows[i].body), message),
                     !!rows[i].message, "%s", rows[i].body);
        cr_expect_str_eq(message, rows[i].message ? rows[i].message : "untouched", "%s",
                         rows[i].body);
    }
}

Test(payload, cuts_a_verdicts_message_between_characters) {
    char body[1024] = "{\"statusCode\":401,\"message\":\"", message[256];
    for (int i = 0; i < 200; i++)
        strcat(body, "\xc3\xa9");
    strcat(body, "\"}");
    cr_assert(payload_is_verdict(401, span_of(body), message));
    cr_expect_eq(strlen(message), 254);
}

Test(payload, a_connect_answer_says_what_it_depends_on) {
    char token[1024], body[2048];
    mint(token, "{\"exp\":99,\"orgId\":\"691eb9e6517f917943ae1f9d\"}");
    struct connect_answer answer;
    snprintf(body, sizeof body,
             "{\"token\":\"%s\",\"instruction\":{\"id\":\"6b01\",\"systemPrompt\":\"{id}\"},"
             "\"deployment\":{\"id\":\"6e01\",\"model\":\"m\"}}",
             token);
    cr_assert(payload_read_connect_answer(span_of(body), &answer));
    cr_expect(span_equal(answer.instruction, SPAN("6b01")));
    cr_expect(span_equal(answer.deployment, SPAN("6e01")));
    cr_expect(answer.has_deployment);
    cr_expect_str_eq(answer.org, "691eb9e6517f917943ae1f9d");

    snprintf(body, sizeof body, "{\"token\":\"%s\",\"instruction\":null,\"settings\":{\"id\":1}}",
             token);
    cr_assert(payload_read_connect_answer(span_of(body), &answer));
    cr_expect_eq(answer.instruction.len, 0);
    cr_expect_eq(answer.deployment.len, 0);
    cr_expect_not(answer.has_deployment);
}

/* ---- in bulk ---- */

static const struct agent_id seven = {{0x6a, [11] = 7}};

Test(payload, a_bulk_item_holds_what_was_read_and_nothing_the_agent_made_up) {
    struct str out;
    str_init(&out, 1000);
    cr_assert(payload_add_bulk_beat(
        &out, &seven, BEAT_BUSY,
        SPAN("{ \"status\":\"busy\",\"agentId\":\"6a0000000000000000000001\",\"metrics\": "
             "{\"cpu\":0.1}}"),
        "2026-11-23T04:23:11.613Z"));
    cr_expect(
        span_equal(
            str_span(&out),
            SPAN("{\"agentId\":\"6a0000000000000000000007\",\"status\":\"busy\",\"at\":\"2026-"
                 "11-23T04:23:11.613Z\",\"metrics\":{\"cpu\":0.1}}")),
        "%.*s", SPAN_ARG(str_span(&out)));
    str_clear(&out);
    cr_assert(payload_add_bulk_beat(&out, &seven, BEAT_IDLE, SPAN("{\"metrics\":null}"), "x"));
    cr_expect_not(memmem(out.ptr, out.len, "metrics", 7), "null is none");
    str_release(&out);
}

Test(payload, a_bulk_item_that_does_not_fit_or_cannot_be_read_is_none) {
    struct str out;
    char small[40];
    str_init_fixed(&out, small, sizeof small);
    cr_expect_not(payload_add_bulk_beat(&out, &seven, BEAT_IDLE, SPAN("{}"), "x"));
    str_init(&out, 1000);
    cr_expect_not(payload_add_bulk_beat(&out, &seven, BEAT_IDLE, SPAN("{\"metrics\":{}"), "x"));
    str_release(&out);
}

struct seen {
    size_t count;
    int status[4];
    char message[4][32];
};

static void see(void *arg, size_t at, struct span agent, int status, const char *message) {
    struct seen *seen = arg;
    cr_assert_eq(at, seen->count);
    cr_assert_eq(agent.len, 1);
    seen->status[at] = status;
    (void)snprintf(seen->message[at], sizeof seen->message[at], "%s", message);
    seen->count++;
}

Test(payload, bulk_results_come_in_order_and_all_or_none) {
    struct seen seen = {0};
    cr_assert(
        payload_read_bulk_results(SPAN("{\"results\":[{\"agentId\":\"a\",\"status\":200},"
                                       "{\"agentId\":\"b\",\"status\":404,\"message\":\"gone\"}]}"),
                                  2, see, &seen));
    cr_expect_eq(seen.count, 2);
    cr_expect_eq(seen.status[1], 404);
    cr_expect_str_eq(seen.message[0], "");
    cr_expect_str_eq(seen.message[1], "gone");
    static const char *const bad[] = {
        "",
        "[]",
        "{\"results\":{}}",
        "{\"results\":[]}",
        "{\"results\":[{\"agentId\":\"a\",\"status\":200}]}",
        "{\"results\":[{\"agentId\":\"a\",\"status\":200},{\"agentId\":\"b\",\"status\":\"200\"}]}",
        "{\"results\":[{\"agentId\":\"a\",\"status\":200},{\"agentId\":\"b\",\"status\":99}]}",
        "{\"results\":[{\"agentId\":\"a\",\"status\":200},{\"agentId\":7,\"status\":200}]}",
        "{\"results\":[{\"agentId\":\"a\",\"status\":200},null]}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        seen.count = 0;
        cr_expect_not(payload_read_bulk_results(span_of(bad[i]), 2, see, &seen), "%s", bad[i]);
        cr_expect_eq(seen.count, 0, "%s", bad[i]);
    }
}

Test(payload, the_answer_to_a_put_says_whether_the_agent_is_suspended) {
    static const struct {
        const char *body;
        enum payload_agent_status expected;
    } rows[] = {
        {"{\"status\":\"suspended\"}", PAYLOAD_SUSPENDED},
        {"{\"_id\":\"6a0000000000000000000001\",\"status\":\"suspended\"}", PAYLOAD_SUSPENDED},
        {"{\"_id\":\"6A0000000000000000000001\",\"status\":\"suspended\"}", PAYLOAD_SUSPENDED},
        {"{\"status\":\"active\",\"name\":\"x\"}", PAYLOAD_NOT_SUSPENDED},
        {"{\"_id\":\"6a0000000000000000000002\",\"status\":\"suspended\"}", PAYLOAD_STATUS_UNSAID},
        {"{\"_id\":\"x\",\"status\":\"active\"}", PAYLOAD_STATUS_UNSAID},
        {"{\"settings\":{\"status\":\"suspended\"}}", PAYLOAD_STATUS_UNSAID},
        {"{\"status\":1}", PAYLOAD_STATUS_UNSAID},
        {"status=suspended", PAYLOAD_STATUS_UNSAID},
        {"[]", PAYLOAD_STATUS_UNSAID},
        {"", PAYLOAD_STATUS_UNSAID},
    };
    struct agent_id agent;
    cr_assert(agent_id_parse(SPAN("6a0000000000000000000001"), &agent));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_expect_eq(payload_read_agent_status(span_of(rows[i].body), &agent), rows[i].expected,
                     "%s", rows[i].body);
}
