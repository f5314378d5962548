#include "rules/trust/token.h"

#include "../support/mint.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#define CLAIMS(rest)                                                                               \
    "{\"sub\":\"6a0000000000000000000000\",\"agentId\":\"6a0000000000000000000000\","              \
    "\"orgId\":\"691eb9e6517f917943ae1f9d\",\"type\":\"agent\",\"iat\":1795407788" rest "}"
#define FINE_CLAIMS CLAIMS(",\"exp\":1795494188")

enum { NOW = 1795407800, EXP = 1795494188 };

/* What the controller itself signed, at its connect answer of 2026-11-23. */
static const char CONTROLLERS[] =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI2YTAwMDAwMDAwMDAwMDAwMDAwMDAwMDAiLCJ1c2VybmFt"
    "ZSI6ImFnZW50OjZhMDAwMDAwMDAwMDAwMDAwMDAwMDAwMCIsInN0YXR1cyI6ImFjdGl2ZSIsInJvbGVzIjpbIm9yZ2Fu"
    "aXphdGlvbi52aWV3ZXIiXSwib3JnSWQiOiI2OTFlYjllNjUxN2Y5MTc5NDNhZTFmOWQiLCJncm91cElkIjoiIiwiYWdl"
    "bnRJZCI6IjZhMDAwMDAwMDAwMDAwMDAwMDAwMDAwMCIsInVzZXJJZCI6IiIsInR5cGUiOiJhZ2VudCIsImlhdCI6MTc5"
    "NTQwNzc4OCwiZXhwIjoxNzk1NDk0MTg4fQ.i1TvkZmnyyx-ZV5doWY3jIoaELn0gxmgJCKL0lvNmNI";

static const uint8_t hash_key[16] = {1, 2, 3};

static struct token_verifier *verifier(size_t cache_entries) {
    struct token_secrets secrets = {SPAN(MINT_SECRET), SPAN_NONE};
    return token_verifier_new(&secrets, 0, cache_entries, hash_key);
}

static enum token_fault verify_at(struct span token, int64_t now_s) {
    struct token_claims claims;
    struct token_verifier *v = verifier(0);
    enum token_fault fault = token_verify(v, token, now_s, &claims, NULL);
    token_verifier_free(v);
    return fault;
}

static enum token_fault verify(struct span token) {
    return verify_at(token, NOW);
}

static enum token_fault verify_claims(struct span claims) {
    char *text = malloc(claims.len * 2 + 200);
    enum token_fault fault =
        verify(mint_any(text, SPAN(MINT_HEADER), claims, SPAN(MINT_SECRET), "SHA256"));
    free(text);
    return fault;
}

static enum token_fault verify_header(const char *header, const char *digest) {
    char text[4096];
    return verify(mint_any(text, span_of(header), SPAN(FINE_CLAIMS), SPAN(MINT_SECRET), digest));
}

#define expect_fault(actual, expected, ...)                                                        \
    do {                                                                                           \
        enum token_fault got = (actual);                                                           \
        cr_expect_eq(got, (expected), "%s: got %d, expected %d", __VA_ARGS__, (int)got,            \
                     (int)(expected));                                                             \
    } while (0)

Test(token, reads_what_the_controller_signed) {
    struct token_claims claims;
    struct agent_id agent;
    struct token_verifier *v = verifier(0);
    cr_assert(agent_id_parse(SPAN("6a0000000000000000000000"), &agent));
    cr_assert_eq(token_verify(v, span_of(CONTROLLERS), NOW, &claims, NULL), TOKEN_FINE);
    cr_expect(claims.is_agent);
    cr_expect(agent_id_equal(&claims.agent, &agent));
    cr_expect_eq(claims.issued_s, 1795407788);
    cr_expect_eq(claims.expires_s, EXP);
    cr_expect_str_eq(claims.org, "691eb9e6517f917943ae1f9d");
    token_verifier_free(v);
}

Test(token, refuses_at_the_second_of_expiry_and_honours_the_leeway) {
    expect_fault(verify_at(span_of(CONTROLLERS), EXP - 1), TOKEN_FINE, "a second before");
    expect_fault(verify_at(span_of(CONTROLLERS), EXP), TOKEN_EXPIRED, "at exp");
    struct token_secrets secrets = {SPAN(MINT_SECRET), SPAN_NONE};
    struct token_verifier *v = token_verifier_new(&secrets, 5, 0, hash_key);
    struct token_claims claims;
    char text[1024];
    expect_fault(token_verify(v, span_of(CONTROLLERS), EXP + 4, &claims, NULL), TOKEN_FINE, "+4");
    expect_fault(token_verify(v, span_of(CONTROLLERS), EXP + 5, &claims, NULL), TOKEN_EXPIRED,
                 "+5");
    struct span ahead = mint(text, CLAIMS(",\"exp\":1795494188,\"nbf\":1795407800"));
    expect_fault(token_verify(v, ahead, NOW - 5, &claims, NULL), TOKEN_FINE, "nbf -5");
    expect_fault(token_verify(v, ahead, NOW - 6, &claims, NULL), TOKEN_EARLY, "nbf -6");
    token_verifier_free(v);
}

Test(token, refuses_every_token_whose_times_are_not_plain_integers_in_force) {
    static const struct {
        const char *claims;
        enum token_fault fault;
    } rows[] = {
        {CLAIMS(""), TOKEN_NO_EXPIRY},
        {CLAIMS(",\"exp\":\"1795494188\""), TOKEN_NO_EXPIRY},
        {CLAIMS(",\"exp\":1795494188.0"), TOKEN_NO_EXPIRY},
        {CLAIMS(",\"exp\":1795494188.5"), TOKEN_NO_EXPIRY},
        {CLAIMS(",\"exp\":1e12"), TOKEN_NO_EXPIRY},
        {CLAIMS(",\"exp\":true"), TOKEN_NO_EXPIRY},
        {CLAIMS(",\"exp\":null"), TOKEN_NO_EXPIRY},
        {CLAIMS(",\"exp\":[1795494188]"), TOKEN_NO_EXPIRY},
        {CLAIMS(",\"exp\":{}"), TOKEN_NO_EXPIRY},
        {CLAIMS(",\"Exp\":1795494188"), TOKEN_NO_EXPIRY},
        {CLAIMS(",\"exp\":0"), TOKEN_EXPIRED},
        {CLAIMS(",\"exp\":-1"), TOKEN_EXPIRED},
        {CLAIMS(",\"exp\":-9223372036854775808"), TOKEN_EXPIRED},
        {CLAIMS(",\"exp\":1795407800"), TOKEN_EXPIRED},
        {CLAIMS(",\"exp\":1795407801"), TOKEN_FINE},
        {CLAIMS(",\"exp\":9223372036854775807"), TOKEN_FINE},
        {CLAIMS(",\"exp\":1795494188,\"nbf\":1795407800"), TOKEN_FINE},
        {CLAIMS(",\"exp\":1795494188,\"nbf\":-1"), TOKEN_FINE},
        {CLAIMS(",\"exp\":1795494188,\"nbf\":1795407801"), TOKEN_EARLY},
        {CLAIMS(",\"exp\":1795494188,\"nbf\":\"0\""), TOKEN_EARLY},
        {CLAIMS(",\"exp\":1795494188,\"nbf\":0.5"), TOKEN_EARLY},
        {CLAIMS(",\"exp\":1795494188,\"nbf\":null"), TOKEN_EARLY},
        {CLAIMS(",\"exp\":1795494188,\"nbf\":9223372036854775807"), TOKEN_EARLY},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        expect_fault(verify_claims(span_of(rows[i].claims)), rows[i].fault, rows[i].claims);
}

Test(token, refuses_integers_no_64_bits_can_hold) {
    /* libjwt's parser refuses them before we do; either way they are refused. */
    static const char *const rows[] = {
        CLAIMS(",\"exp\":9223372036854775808"),
        CLAIMS(",\"exp\":99999999999999999999999999999999"),
        CLAIMS(",\"exp\":1e999"),
        CLAIMS(",\"exp\":1795494188,\"nbf\":-9223372036854775809"),
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_expect_neq(verify_claims(span_of(rows[i])), TOKEN_FINE, "%s", rows[i]);
}

Test(token, takes_hs256_and_no_other_algorithm) {
    static const struct {
        const char *header, *digest;
        enum token_fault fault;
    } rows[] = {
        {MINT_HEADER, "SHA256", TOKEN_FINE},
        {"{\"alg\":\"HS256\"}", "SHA256", TOKEN_FINE},
        {"{\"typ\":\"jwt\",\"alg\":\"HS256\"}", "SHA256", TOKEN_FINE},
        {"{\"alg\":\"HS256\",\"kid\":\"1\"}", "SHA256", TOKEN_FINE},
        {"{\"alg\":\"HS384\",\"typ\":\"JWT\"}", "SHA384", TOKEN_ALGORITHM},
        {"{\"alg\":\"HS512\",\"typ\":\"JWT\"}", "SHA512", TOKEN_ALGORITHM},
        {"{\"alg\":\"hs256\",\"typ\":\"JWT\"}", "SHA256", TOKEN_ALGORITHM},
        {"{\"alg\":\"HS256 \",\"typ\":\"JWT\"}", "SHA256", TOKEN_ALGORITHM},
        {"{\"alg\":\"HS25\\u0036\"}", "SHA256", TOKEN_ALGORITHM},
        {"{\"alg\":\"none\"}", "SHA256", TOKEN_ALGORITHM},
        {"{\"alg\":\"None\"}", "SHA256", TOKEN_ALGORITHM},
        {"{\"alg\":\"RS256\",\"typ\":\"JWT\"}", "SHA256", TOKEN_ALGORITHM},
        {"{\"alg\":\"ES256\",\"typ\":\"JWT\"}", "SHA256", TOKEN_ALGORITHM},
        {"{\"alg\":\"\"}", "SHA256", TOKEN_ALGORITHM},
        {"{\"alg\":null}", "SHA256", TOKEN_ALGORITHM},
        {"{\"alg\":[\"HS256\"]}", "SHA256", TOKEN_ALGORITHM},
        {"{\"typ\":\"JWT\"}", "SHA256", TOKEN_ALGORITHM},
        {"{}", "SHA256", TOKEN_ALGORITHM},
        {MINT_HEADER, "SHA384", TOKEN_MALFORMED},
        {MINT_HEADER, "SHA512", TOKEN_MALFORMED},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        expect_fault(verify_header(rows[i].header, rows[i].digest), rows[i].fault, rows[i].header);
}

Test(token, refuses_headers_that_are_not_plain) {
    static const char *const rows[] = {
        "{\"alg\":\"HS256\",\"crit\":[\"exp\"]}",
        "{\"alg\":\"HS256\",\"crit\":[]}",
        "{\"alg\":\"HS256\",\"crit\":null}",
        "{\"alg\":\"HS256\",\"typ\":\"JWS\"}",
        "{\"alg\":\"HS256\",\"typ\":1}",
        "{\"alg\":\"HS256\",\"typ\":null}",
        "{\"alg\":\"none\",\"alg\":\"HS256\"}",
        "{\"alg\":\"HS256\",\"alg\":\"HS256\"}",
        "{\"alg\":\"HS256\",\"\\u0063rit\":[\"exp\"]}",
        "{\"alg\":\"HS256\"}x",
        "{\"alg\":\"HS256\",}",
        "[\"HS256\"]",
        "\"HS256\"",
        "null",
        "x",
        " ",
        "\xef\xbb\xbf{\"alg\":\"HS256\"}",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        expect_fault(verify_header(rows[i], "SHA256"), TOKEN_MALFORMED, rows[i]);
}

Test(token, refuses_claims_that_are_not_one_object_without_twins) {
    const struct span rows[] = {
        SPAN(CLAIMS(",\"exp\":1,\"exp\":1795494188")),
        SPAN(CLAIMS(",\"exp\":1795494188,\"exp\":1795494188")),
        SPAN(CLAIMS(",\"exp\":1795494188,\"e\\u0078p\":1")),
        SPAN(CLAIMS(",\"exp\":1795494188,\"sub\":\"6a0000000000000000000001\"")),
        SPAN(CLAIMS(",\"exp\":NaN")),
        SPAN(CLAIMS(",\"exp\":01795494188")),
        SPAN(CLAIMS(",\"exp\":+1795494188")),
        SPAN(CLAIMS(",\"exp\":1795494188,")),
        SPAN(FINE_CLAIMS FINE_CLAIMS),
        SPAN(FINE_CLAIMS "\0"),
        SPAN("\xef\xbb\xbf" FINE_CLAIMS),
        SPAN("[" FINE_CLAIMS "]"),
        SPAN("null"),
        SPAN("1795494188"),
        SPAN("{"),
        SPAN(" "),
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        expect_fault(verify_claims(rows[i]), TOKEN_MALFORMED, rows[i].ptr);
}

Test(token, refuses_bytes_that_are_no_text) {
    /* Found by libjwt's own parser, hence not told from a bad signature. */
    static const char *const rows[] = {
        CLAIMS(",\"exp\":1795494188,\"x\":\"\xff\""),
        CLAIMS(",\"exp\":1795494188,\"x\":\"\xc0\xaf\""),
        CLAIMS(",\"exp\":1795494188,\"x\":\"\xed\xa0\x80\""),
        CLAIMS(",\"exp\":1795494188,\"x\":\"\\u0000\""),
        CLAIMS(",\"exp\":1795494188,\"x\":\"\\ud800\""),
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_expect_neq(verify_claims(span_of(rows[i])), TOKEN_FINE, "%s", rows[i]);
}

Test(token, without_a_subject_is_told_apart) {
    static const char *const rows[] = {
        "{\"exp\":1795494188}",
        "{\"sub\":\"\",\"exp\":1795494188}",
        "{\"sub\":null,\"exp\":1795494188}",
        "{\"sub\":7,\"exp\":1795494188}",
        "{\"sub\":[\"6a0000000000000000000000\"],\"exp\":1795494188}",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        expect_fault(verify_claims(span_of(rows[i])), TOKEN_NO_SUBJECT, rows[i]);
    expect_fault(verify_claims(SPAN("{\"sub\":\"\",\"exp\":1}")), TOKEN_EXPIRED, "expired as well");
    cr_expect_eq(token_fault_err(TOKEN_NO_SUBJECT), ERR_TOKEN_PAYLOAD);
}

Test(token, is_an_agents_only_when_it_says_so_without_contradiction) {
    static const struct {
        const char *claims;
        bool is_agent;
    } rows[] = {
        {FINE_CLAIMS, true},
        {"{\"sub\":\"6A0000000000000000000000\",\"agentId\":\"6a0000000000000000000000\","
         "\"type\":\"agent\",\"exp\":1795494188}",
         true},
        {"{\"sub\":\"6a0000000000000000000000\",\"type\":\"agent\",\"exp\":1795494188}", true},
        {"{\"sub\":\"x\",\"agentId\":\"6a0000000000000000000000\",\"type\":\"agent\","
         "\"exp\":1795494188}",
         true},
        {"{\"sub\":\"6a0000000000000000000000\",\"agentId\":\"6a0000000000000000000001\","
         "\"type\":\"agent\",\"exp\":1795494188}",
         false},
        {"{\"sub\":\"6a0000000000000000000000\",\"exp\":1795494188}", false},
        {"{\"sub\":\"6a0000000000000000000000\",\"type\":\"user\",\"exp\":1795494188}", false},
        {"{\"sub\":\"6a0000000000000000000000\",\"type\":\"Agent\",\"exp\":1795494188}", false},
        {"{\"sub\":\"6a0000000000000000000000\",\"type\":[\"agent\"],\"exp\":1795494188}", false},
        {"{\"sub\":\"admin\",\"type\":\"agent\",\"exp\":1795494188}", false},
    };
    struct token_verifier *v = verifier(0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[1024];
        struct token_claims claims = {0};
        expect_fault(token_verify(v, mint(text, rows[i].claims), NOW, &claims, NULL), TOKEN_FINE,
                     rows[i].claims);
        cr_expect_eq(claims.is_agent, rows[i].is_agent, "%s", rows[i].claims);
    }
    token_verifier_free(v);
}

Test(token, leaves_out_an_organisation_that_does_not_fit) {
    struct token_verifier *v = verifier(8);
    for (int len = 62; len <= 65; len++) {
        char claims[512], text[1024], org[80] = "";
        struct token_claims first, again;
        memset(org, 'o', (size_t)len);
        snprintf(claims, sizeof claims, "{\"sub\":\"u\",\"orgId\":\"%s\",\"exp\":1795494188}", org);
        struct span token = mint(text, claims);
        cr_assert_eq(token_verify(v, token, NOW, &first, NULL), TOKEN_FINE);
        cr_assert_eq(token_verify(v, token, NOW, &again, NULL), TOKEN_FINE);
        cr_expect_str_eq(first.org, len < TOKEN_ORG_MAX ? org : "", "length %d", len);
        cr_expect_str_eq(again.org, first.org, "length %d", len);
    }
    token_verifier_free(v);
}

/* ---- shape ---- */

static struct token_claims claims_of(const char *json) {
    char text[2048];
    struct token_claims claims;
    struct token_verifier *v = verifier(0);
    cr_assert_eq(token_verify(v, mint(text, json), NOW, &claims, NULL), TOKEN_FINE, "%s", json);
    token_verifier_free(v);
    return claims;
}

Test(token, a_universe_role_is_one_that_begins_so_and_stands_in_roles) {
    static const struct {
        const char *roles;
        bool expected;
    } rows[] = {
        {"\"roles\":[\"universe.owner\"]", true},
        {"\"roles\":[\"organization.viewer\",\"universe.x\"]", true},
        {"\"roles\":[ \"a\" , \"universe.\" ]", true},
        {"\"roles\":[\"universe\"]", false},
        {"\"roles\":[\"x.universe.owner\"]", false},
        {"\"roles\":[\"organization.owner\"]", false},
        {"\"roles\":[\"\\u0075niverse.owner\"]", false},
        {"\"roles\":[\"a,\\\"universe.owner\"]", false},
        {"\"roles\":[[\"universe.owner\"]]", false},
        {"\"roles\":[{\"universe.owner\":1}]", false},
        {"\"roles\":\"universe.owner\"", false},
        {"\"roles\":[]", false},
        {"\"roles\":null", false},
        {"\"role\":[\"universe.owner\"]", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char json[256];
        snprintf(json, sizeof json, "{\"sub\":\"u\",%s,\"exp\":1795494188}", rows[i].roles);
        cr_expect_eq(claims_of(json).is_universal, rows[i].expected, "%s", json);
    }
}

Test(token, subjects_are_told_apart) {
    struct token_claims a = claims_of("{\"sub\":\"a\",\"exp\":1795494188}");
    struct token_claims again = claims_of("{\"sub\":\"a\",\"iat\":1,\"exp\":1795494188}");
    struct token_claims b = claims_of("{\"sub\":\"b\",\"exp\":1795494188}");
    cr_expect_eq(a.subject, again.subject);
    cr_expect_neq(a.subject, b.subject);
}

Test(token, refuses_every_shape_but_three_clean_parts) {
    static const char header[] = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";
    static const char *const rows[] = {
        ".",    "..",  "...", "a.b",     "abc.def.ghi", "a..c", ".b.c",
        "a.b.", "abc", " ",   "a.b.c.d", "=.=.=",       "====", "\xff.\xff.\xff",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        expect_fault(verify(span_of(rows[i])), TOKEN_MALFORMED, rows[i]);
    expect_fault(verify(SPAN("")), TOKEN_ABSENT, "nothing");
    expect_fault(verify(SPAN_NONE), TOKEN_ABSENT, "no bytes");

    const char *claims = strchr(CONTROLLERS, '.') + 1, *signature = strrchr(CONTROLLERS, '.') + 1;
    int claims_len = (int)(signature - claims - 1);
    /* What was changed in the claims was not signed, and is not looked into. */
    static const struct {
        const char *format;
        enum token_fault fault;
    } spellings[] = {
        {"%s.%.*s.%s=", TOKEN_MALFORMED},    {"%s.%.*s=.%s", TOKEN_SIGNATURE},
        {"%s=.%.*s.%s", TOKEN_MALFORMED},    {"%s.%.*s.%s.", TOKEN_MALFORMED},
        {".%s.%.*s.%s", TOKEN_MALFORMED},    {"%s..%.*s.%s", TOKEN_MALFORMED},
        {"%s.%.*s..%s", TOKEN_MALFORMED},    {" %s.%.*s.%s", TOKEN_MALFORMED},
        {"%s.%.*s.%s ", TOKEN_MALFORMED},    {"%s\n.%.*s.%s", TOKEN_MALFORMED},
        {"%s.%.*s\t.%s", TOKEN_SIGNATURE},   {"%s.!%.*s.%s", TOKEN_SIGNATURE},
        {"%s.%.*s.+%s", TOKEN_MALFORMED},    {"%s.%.*s.%s/", TOKEN_MALFORMED},
        {"%s.%.*s.%sA", TOKEN_MALFORMED},    {"%s.%.*s.%s\n", TOKEN_MALFORMED},
        {"%s.%.*s.%s.x", TOKEN_MALFORMED},   {"%s*.%.*s.%s", TOKEN_MALFORMED},
        {"%s.%.*s.%s\xff", TOKEN_MALFORMED}, {"%sA.%.*s.%s", TOKEN_MALFORMED},
    };
    for (size_t i = 0; i < sizeof spellings / sizeof spellings[0]; i++) {
        char text[1024];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(text, sizeof text, spellings[i].format, header, claims_len, claims, signature);
#pragma GCC diagnostic pop
        expect_fault(verify(span_of(text)), spellings[i].fault, spellings[i].format);
    }
    char text[1024];
    memcpy(text, CONTROLLERS, sizeof CONTROLLERS);
    text[sizeof CONTROLLERS - 2] = 'J'; /* for I: only a bit that is none of the signature's */
    expect_fault(verify(span_of(text)), TOKEN_MALFORMED, "unused bits");
    snprintf(text, sizeof text, "%s.%.*s.", header, claims_len, claims);
    expect_fault(verify(span_of(text)), TOKEN_MALFORMED, "no signature");
    snprintf(text, sizeof text, "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.%.*s.", claims_len, claims);
    expect_fault(verify(span_of(text)), TOKEN_MALFORMED, "alg none without signature");
}

Test(token, refuses_every_prefix) {
    for (size_t len = 0; len < sizeof CONTROLLERS - 1; len++) {
        char *copy = malloc(len + !len);
        memcpy(copy, CONTROLLERS, len);
        cr_expect_neq(verify((struct span){copy, len}), TOKEN_FINE, "%zu bytes", len);
        free(copy);
    }
}

Test(token, refuses_a_change_of_any_single_bit) {
    struct token_verifier *v = verifier(8);
    struct token_claims claims;
    char text[sizeof CONTROLLERS];
    memcpy(text, CONTROLLERS, sizeof text);
    struct span token = {text, sizeof text - 1};
    cr_assert_eq(token_verify(v, token, NOW, &claims, NULL), TOKEN_FINE);
    for (size_t bit = 0; bit < token.len * 8; bit++) {
        text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
        cr_expect_neq(token_verify(v, token, NOW, &claims, NULL), TOKEN_FINE, "bit %zu", bit);
        text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
    }
    cr_expect_eq(token_verify(v, token, NOW, &claims, NULL), TOKEN_FINE);
    token_verifier_free(v);
}

Test(token, survives_monsters) {
    enum { HUGE_SIZE = 12 * 1024 * 1024 };
    char *text = malloc(HUGE_SIZE);
    memset(text, 'A', HUGE_SIZE);
    expect_fault(verify((struct span){text, HUGE_SIZE}), TOKEN_MALFORMED, "12 MB without dots");
    text[36] = text[HUGE_SIZE - 44] = '.';
    memcpy(text, CONTROLLERS, 36);
    expect_fault(verify((struct span){text, HUGE_SIZE}), TOKEN_MALFORMED, "12 MB of claims");
    memset(text, '.', HUGE_SIZE);
    expect_fault(verify((struct span){text, HUGE_SIZE}), TOKEN_MALFORMED, "12 MB of dots");
    expect_fault(verify((struct span){text, TOKEN_MAX}), TOKEN_MALFORMED, "8192 dots");
    free(text);
}

Test(token, takes_8192_bytes_and_not_one_more) {
    char claims[TOKEN_MAX], text[2 * TOKEN_MAX];
    for (int pad = 5990; pad < 6010; pad++) {
        int len = snprintf(claims, sizeof claims,
                           "{\"sub\":\"u\",\"exp\":1795494188,\"p\":\"%0*d\"}", pad, 0);
        struct span token = mint_any(text, SPAN(MINT_HEADER), (struct span){claims, (size_t)len},
                                     SPAN(MINT_SECRET), "SHA256");
        expect_fault(verify(token), token.len <= TOKEN_MAX ? TOKEN_FINE : TOKEN_MALFORMED, "pad");
    }
}

Test(token, survives_deep_and_wide_claims) {
    char brackets[5000];
    memset(brackets, '[', sizeof brackets);
    expect_fault(verify_claims((struct span){brackets, sizeof brackets}), TOKEN_MALFORMED, "[");
    char wide[6000] = "{\"sub\":\"u\",\"exp\":1795494188";
    for (int i = 0; i < 70; i++)
        snprintf(wide + strlen(wide), sizeof wide - strlen(wide), ",\"k%d\":%d", i, i);
    strcat(wide, "}");
    expect_fault(verify_claims(span_of(wide)), TOKEN_MALFORMED, "72 claims");
}

Test(token, caps_the_header_below_the_token) {
    char header[2000];
    for (int pad = 600; pad <= 1400; pad += 800) {
        snprintf(header, sizeof header, "{\"alg\":\"HS256\",\"kid\":\"%0*d\"}", pad, 0);
        expect_fault(verify_header(header, "SHA256"), pad == 600 ? TOKEN_FINE : TOKEN_MALFORMED,
                     "kid");
    }
}

/* ---- keys ---- */

Test(token, refuses_another_key_and_takes_the_previous_one) {
    static const char *const keys[] = {MINT_SECRET, "the-secret-before-0123456789abcdef",
                                       "the-secret-of-somebody-else-0123456"};
    struct token_secrets secrets = {SPAN(MINT_SECRET), span_of(keys[1])};
    struct token_verifier *v = token_verifier_new(&secrets, 0, 8, hash_key);
    for (int i = 0; i < 3; i++) {
        char text[1024];
        struct token_claims claims;
        struct span token =
            mint_any(text, SPAN(MINT_HEADER), SPAN(FINE_CLAIMS), span_of(keys[i]), "SHA256");
        expect_fault(token_verify(v, token, NOW, &claims, NULL),
                     i < 2 ? TOKEN_FINE : TOKEN_SIGNATURE, keys[i]);
    }
    char text[1024];
    struct token_claims claims;
    struct span empty = mint_any(text, SPAN(MINT_HEADER), SPAN(FINE_CLAIMS), SPAN(""), "SHA256");
    expect_fault(token_verify(v, empty, NOW, &claims, NULL), TOKEN_SIGNATURE, "empty key");
    token_verifier_free(v);
}

Test(token, never_accepts_an_empty_key_when_there_is_no_previous_one) {
    char text[1024];
    expect_fault(verify(mint_any(text, SPAN(MINT_HEADER), SPAN(FINE_CLAIMS), SPAN(""), "SHA256")),
                 TOKEN_SIGNATURE, "empty key");
}

Test(token, takes_secrets_of_any_bytes) {
    struct span secret = {"\0binary\0secret\xff of more than 32 bytes", 38};
    struct token_secrets secrets = {secret, SPAN_NONE};
    struct token_verifier *v = token_verifier_new(&secrets, 0, 0, hash_key);
    struct token_claims claims;
    char text[1024];
    struct span whole = mint_any(text, SPAN(MINT_HEADER), SPAN(FINE_CLAIMS), secret, "SHA256");
    expect_fault(token_verify(v, whole, NOW, &claims, NULL), TOKEN_FINE, "whole");
    struct span none = mint_any(text, SPAN(MINT_HEADER), SPAN(FINE_CLAIMS), SPAN(""), "SHA256");
    expect_fault(token_verify(v, none, NOW, &claims, NULL), TOKEN_SIGNATURE, "cut at the NUL");
    token_verifier_free(v);
}

Test(token, complains_about_secrets_that_protect_nothing) {
    static const struct {
        const char *secret;
        bool allow_default, fine, loud;
    } rows[] = {
        {MINT_SECRET, false, true, false},
        {"0123456789abcdef0123456789abcdef", false, true, false},
        {"0123456789abcdef0123456789abcde", false, true, true},
        {"x", false, true, true},
        {"", false, false, false},
        {"", true, false, false},
        {"R4md0m_S3cr3t", false, false, false},
        {"R4md0m_S3cr3t", true, true, true},
        {"-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A", false, false, false},
        {"-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A", true, false, false},
        {"\n -----BEGIN RSA PRIVATE KEY-----\n", true, false, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool loud = !rows[i].loud;
        const char *complaint =
            token_secret_complaint(span_of(rows[i].secret), rows[i].allow_default, &loud);
        cr_expect_eq(!complaint, rows[i].fine, "row %zu", i);
        cr_expect_eq(loud, rows[i].loud, "row %zu", i);
        cr_expect_not(complaint && rows[i].secret[0] && strstr(complaint, rows[i].secret));
    }
}

/* ---- the cache ---- */

Test(token, answers_from_the_cache_the_second_time_with_the_same_claims) {
    struct token_verifier *v = verifier(64);
    struct token_claims first, again;
    bool cached = true;
    memset(&again, 0xa5, sizeof again); /* what is not copied shows */
    cr_assert_eq(token_verify(v, span_of(CONTROLLERS), NOW, &first, &cached), TOKEN_FINE);
    cr_expect_not(cached);
    cr_assert_eq(token_verify(v, span_of(CONTROLLERS), NOW, &again, &cached), TOKEN_FINE);
    cr_expect(cached);
    cr_expect_eq(first.is_agent, again.is_agent);
    cr_expect(agent_id_equal(&first.agent, &again.agent));
    cr_expect_eq(first.issued_s, again.issued_s);
    cr_expect_eq(first.expires_s, again.expires_s);
    cr_expect_str_eq(first.org, again.org);
    cr_expect_eq(first.subject, again.subject);
    cr_expect_eq(first.is_universal, again.is_universal);
    token_verifier_free(v);
}

Test(token, judges_times_of_cached_tokens_on_every_use) {
    struct token_verifier *v = verifier(64);
    struct token_claims claims;
    char text[1024];
    bool cached;
    struct span token = mint(text, CLAIMS(",\"exp\":1795407900,\"nbf\":1795407800"));
    cr_assert_eq(token_verify(v, token, NOW, &claims, NULL), TOKEN_FINE);
    expect_fault(token_verify(v, token, 1795407899, &claims, &cached), TOKEN_FINE, "before");
    cr_expect(cached);
    expect_fault(token_verify(v, token, 1795407900, &claims, &cached), TOKEN_EXPIRED, "at exp");
    expect_fault(token_verify(v, token, NOW - 1, &claims, &cached), TOKEN_EARLY, "set back");
    token_verifier_free(v);
}

Test(token, never_caches_a_refusal) {
    struct token_verifier *v = verifier(64);
    char text[1024];
    struct token_claims claims;
    bool cached = true;
    struct span token = mint(text, CLAIMS(",\"exp\":1795494188,\"nbf\":1795407801"));
    for (int i = 0; i < 2; i++) {
        expect_fault(token_verify(v, token, NOW, &claims, &cached), TOKEN_EARLY, "ahead");
        cr_expect_not(cached);
    }
    expect_fault(token_verify(v, token, NOW + 1, &claims, &cached), TOKEN_FINE, "in force");
    token_verifier_free(v);
}

static bool is_cached(struct token_verifier *v, int subject) {
    char claims[128], text[512];
    struct token_claims out;
    bool cached;
    snprintf(claims, sizeof claims, "{\"sub\":\"u%d\",\"exp\":1795494188}", subject);
    cr_assert_eq(token_verify(v, mint(text, claims), NOW, &out, &cached), TOKEN_FINE);
    return cached;
}

static int count_cached(struct token_verifier *v, int subjects) {
    int cached = 0;
    for (int i = 0; i < subjects; i++)
        cached += is_cached(v, i);
    return cached;
}

Test(token, holds_a_fleet_as_large_as_the_cache) {
    struct token_verifier *v = verifier(200);
    cr_expect_eq(count_cached(v, 200), 0);
    int cached = count_cached(v, 200);
    cr_expect_gt(cached, 180, "%d of 200", cached);
    token_verifier_free(v);
}

Test(token, does_not_thrash_when_the_fleet_is_larger_than_the_cache) {
    struct token_verifier *v = verifier(100);
    for (int round = 0; round < 3; round++)
        count_cached(v, 300);
    int cached = count_cached(v, 300);
    cr_expect_gt(cached, 75, "%d of 300", cached);
    cr_expect_leq(cached, 200, "%d of 300", cached);
    token_verifier_free(v);
}

/* ---- the rest ---- */

Test(token, is_found_in_an_authorization_value) {
    static const struct {
        const char *value, *token;
    } rows[] = {
        {"Bearer abc", "abc"},  {"bearer abc", "abc"},  {"BEARER abc", "abc"},
        {"Bearer  abc", "abc"}, {"Bearer abc ", "abc"}, {"Bearer", NULL},
        {"Bearer ", NULL},      {"Bearer   ", NULL},    {"Bearerabc", NULL},
        {"Basic eDp5", NULL},   {"abc", NULL},          {"", NULL},
        {"Bearer a b", NULL},   {"Bearer\tabc", NULL},  {"Bearer a\tb", NULL},
        {"Bearer, abc", NULL},  {" Bearer abc", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct span token = SPAN_NONE;
        cr_expect_eq(token_from_authorization(span_of(rows[i].value), &token), !!rows[i].token,
                     "'%s'", rows[i].value);
        cr_expect(span_equal(token, span_of(rows[i].token)), "'%s'", rows[i].value);
    }
    struct span token;
    cr_expect_not(token_from_authorization(SPAN_NONE, &token));
}

Test(token, only_one_fault_shows) {
    for (enum token_fault f = TOKEN_FINE; f < TOKEN_FAULT_COUNT; f++) {
        enum err expected = f == TOKEN_FINE         ? ERR_OK
                            : f == TOKEN_NO_SUBJECT ? ERR_TOKEN_PAYLOAD
                                                    : ERR_UNAUTHORIZED;
        cr_expect_eq(token_fault_err(f), expected, "%d", f);
    }
}

Test(token, expiry_can_be_peeked_at_without_a_key) {
    char text[1024];
    int64_t expires_s = 0;
    cr_expect(token_peek(span_of(CONTROLLERS), &expires_s, NULL));
    cr_expect_eq(expires_s, EXP);
    cr_expect(token_peek(
        mint_any(text, SPAN("{\"alg\":\"RS256\"}"), SPAN("{\"exp\":7}"), SPAN("k"), "SHA512"),
        &expires_s, NULL));
    cr_expect_eq(expires_s, 7);
    static const char *const rows[] = {"{}", "{\"exp\":\"7\"}", "{\"exp\":1,\"exp\":2}", "[]", "x"};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_expect_not(token_peek(mint(text, rows[i]), &expires_s, NULL), "%s", rows[i]);
    char org[TOKEN_ORG_MAX];
    cr_expect(token_peek(mint(text, "{\"exp\":7,\"orgId\":\"691eb9e6517f917943ae1f9d\"}"),
                         &expires_s, org));
    cr_expect_str_eq(org, "691eb9e6517f917943ae1f9d");
    cr_expect(token_peek(mint(text, "{\"exp\":7}"), &expires_s, org));
    cr_expect_str_eq(org, "", "no organization, none said");
    cr_expect_not(token_peek(SPAN_NONE, &expires_s, NULL));
    cr_expect_not(token_peek(SPAN("a.b.c"), &expires_s, NULL));
}
