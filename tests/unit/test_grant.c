#include "rules/trust/grant.h"

#include <criterion/criterion.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <stdlib.h>

#define BODY                                                                                       \
    "{\"accessToken\":\"a.b.c\",\"expiresIn\":86400,\"settings\":{\"expiresIn\":1,\"n\":0.1}}"

enum { EXP = 1795494188, FETCHED = EXP - 86400 };

static const struct grant_key key = {"0123456789abcdef0123456789abcde"};

static struct grant_pass pass_of(const char *id_text, struct span secret) {
    struct agent_id id;
    struct grant_pass pass;
    cr_assert(agent_id_parse(span_of(id_text), &id));
    grant_pass_make(&key, &id, secret, &pass);
    return pass;
}

static struct grant_pass pass(void) {
    return pass_of("6a0000000000000000000abc", SPAN("agent-secret-for-tests-0"));
}

static struct grant_facts facts(void) {
    return (struct grant_facts){
        .status = 201,
        .fetched_ms = FETCHED * INT64_C(1000),
        .expires_s = EXP,
        .expires_in_at = (size_t)(strstr(BODY, "86400") - BODY),
        .expires_in_len = 5,
        .content_type = SPAN("application/json; charset=utf-8"),
    };
}

static struct grant *sealed(void) {
    struct grant_pass p = pass();
    struct grant_facts f = facts();
    struct grant *g = grant_seal(&p, &f, SPAN(BODY));
    cr_assert_not_null(g);
    return g;
}

static bool opens(const struct grant *g, const struct grant_pass *p) {
    char *out = malloc(g->body_len + !g->body_len);
    bool opened = grant_open(g, p, out);
    bool right = opened && span_equal((struct span){out, g->body_len}, SPAN(BODY));
    cr_assert_eq(opened, right);
    free(out);
    return opened;
}

/* ---- keys ---- */

Test(grant, derives_its_key_by_hkdf_as_openssl_does) {
    struct span secret = SPAN("aiwm-local-test-secret-0123456789abcdef");
    struct span salt = SPAN("aiwm-gateway connect cache"), info = SPAN("grant key 1");
    struct grant_key ours;
    unsigned char theirs[32];
    size_t len = sizeof theirs;
    EVP_PKEY_CTX *hkdf = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, NULL);
    EVP_PKEY_derive_init(hkdf);
    EVP_PKEY_CTX_set_hkdf_md(hkdf, EVP_sha256());
    EVP_PKEY_CTX_set1_hkdf_salt(hkdf, (const unsigned char *)salt.ptr, (int)salt.len);
    EVP_PKEY_CTX_set1_hkdf_key(hkdf, (const unsigned char *)secret.ptr, (int)secret.len);
    EVP_PKEY_CTX_add1_hkdf_info(hkdf, (const unsigned char *)info.ptr, (int)info.len);
    cr_assert_eq(EVP_PKEY_derive(hkdf, theirs, &len), 1);
    EVP_PKEY_CTX_free(hkdf);
    grant_key_derive(secret, &ours);
    cr_expect_arr_eq(ours.bytes, theirs, sizeof theirs);
    struct grant_key other;
    grant_key_derive(SPAN("aiwm-local-test-secret-0123456789abcdeF"), &other);
    cr_expect_arr_neq(ours.bytes, other.bytes, sizeof ours.bytes);
}

Test(grant, proof_is_the_hmac_of_id_nul_and_secret) {
    static const char text[] = "6a0000000000000000000abc\0agent-secret-for-tests-0";
    unsigned char mac[32];
    struct grant_pass p = pass();
    HMAC(EVP_sha256(), key.bytes, sizeof key.bytes, (const unsigned char *)text, sizeof text - 1,
         mac, NULL);
    cr_expect_arr_eq(p.proof, mac, sizeof mac);
    cr_expect_arr_neq(p.proof, p.seal, sizeof p.seal);
}

Test(grant, passes_differ_by_agent_and_by_every_byte_of_the_secret) {
    struct grant_pass base = pass();
    struct grant_pass same = pass_of("6A0000000000000000000ABC", SPAN("agent-secret-for-tests-0"));
    cr_expect(grant_proof_equal(base.proof, same.proof));
    cr_expect_arr_eq(base.seal, same.seal, sizeof base.seal);
    struct grant_pass others[] = {
        pass_of("6a0000000000000000000abd", SPAN("agent-secret-for-tests-0")),
        pass_of("6a0000000000000000000abc", SPAN("agent-secret-for-tests-1")),
        pass_of("6a0000000000000000000abc", SPAN("agent-secret-for-tests-0\0")),
        pass_of("6a0000000000000000000abc", SPAN("agent-secret-for-tests-")),
        pass_of("6a0000000000000000000abc", SPAN("")),
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        cr_expect_not(grant_proof_equal(base.proof, others[i].proof), "%zu", i);
        cr_expect_arr_neq(base.seal, others[i].seal, sizeof base.seal, "%zu", i);
    }
    grant_pass_cleanse(&base);
    struct grant_pass zero = {0};
    cr_expect_arr_eq(&base, &zero, sizeof zero);
}

/* ---- sealing ---- */

Test(grant, opens_with_the_secret_it_was_sealed_with_and_no_other) {
    struct grant *g = sealed();
    struct grant_pass right = pass();
    struct grant_pass wrong = pass_of("6a0000000000000000000abc", SPAN("wrong"));
    struct grant_pass neighbour =
        pass_of("6a0000000000000000000abd", SPAN("agent-secret-for-tests-0"));
    cr_expect(opens(g, &right));
    cr_expect_not(opens(g, &wrong));
    cr_expect_not(opens(g, &neighbour));
    /* Knowing the stored proof is not enough. */
    memcpy(wrong.proof, right.proof, sizeof wrong.proof);
    cr_expect_not(opens(g, &wrong));
    /* Nor is the entry another agent's. */
    struct grant_pass moved = right;
    moved.id = neighbour.id;
    cr_expect_not(opens(g, &moved));
    grant_unref(g);
}

Test(grant, sealed_under_the_previous_key_still_opens_and_is_never_sealed_so_again) {
    static const struct grant_key next = {"fedcba9876543210fedcba987654321"};
    struct grant *old = sealed();
    struct grant_pass p, wrong;
    struct agent_id id;
    cr_assert(agent_id_parse(SPAN("6a0000000000000000000abc"), &id));
    grant_pass_make(&next, &id, SPAN("agent-secret-for-tests-0"), &p);
    cr_expect_not(grant_is_of(old, &p));
    cr_expect_not(opens(old, &p));
    grant_pass_add_previous(&key, SPAN("agent-secret-for-tests-0"), &p);
    cr_expect(grant_is_of(old, &p));
    cr_expect(opens(old, &p));
    grant_pass_make(&next, &id, SPAN("wrong"), &wrong);
    grant_pass_add_previous(&key, SPAN("wrong"), &wrong);
    cr_expect_not(grant_is_of(old, &wrong));
    cr_expect_not(opens(old, &wrong));
    struct grant_facts f = facts();
    struct grant *now = grant_seal(&p, &f, SPAN(BODY));
    cr_expect(grant_proof_equal(now->proof, p.proof));
    cr_expect(opens(now, &p));
    p.has_previous = false;
    cr_expect(opens(now, &p));
    grant_unref(now);
    grant_unref(old);
}

Test(grant, hides_the_body_and_never_seals_it_the_same_way_twice) {
    struct grant *a = sealed(), *b = sealed();
    cr_assert_eq(a->sealed_len, sizeof BODY - 1 + 28);
    cr_expect_null(memmem(a->sealed, a->sealed_len, "accessToken", 11));
    cr_expect_neq(memcmp(a->sealed, b->sealed, a->sealed_len), 0);
    grant_unref(a);
    grant_unref(b);
}

Test(grant, notices_a_change_of_any_bit) {
    struct grant *g = sealed();
    struct grant_pass p = pass();
    for (size_t bit = 0; bit < g->sealed_len * 8; bit++) {
        g->sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
        cr_expect_not(opens(g, &p), "sealed bit %zu", bit);
        g->sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    cr_expect(opens(g, &p));
    g->expires_s++;
    cr_expect_not(opens(g, &p), "expiry");
    g->expires_s--;
    g->fetched_ms++;
    cr_expect_not(opens(g, &p), "age");
    g->fetched_ms--;
    g->status = 200;
    cr_expect_not(opens(g, &p), "status");
    g->status = 201;
    g->content_type[0] = 'b';
    cr_expect_not(opens(g, &p), "content type");
    grant_unref(g);
}

Test(grant, leaves_nothing_behind_when_it_does_not_open) {
    struct grant *g = sealed();
    struct grant_pass p = pass();
    char out[sizeof BODY] = {0};
    g->sealed[g->sealed_len - 1] ^= 1; /* the tag's last byte: everything was decrypted by then */
    cr_expect_not(grant_open(g, &p, out));
    for (size_t i = 0; i < sizeof out; i++)
        cr_expect_eq(out[i], 0, "byte %zu", i);
    grant_unref(g);
}

Test(grant, is_not_made_of_what_does_not_fit) {
    char *body = calloc(1, GRANT_BODY_MAX + 1), type[97];
    struct grant_pass p = pass();
    struct grant_facts f = facts();
    memset(type, 't', sizeof type);
    f.expires_in_at = f.expires_in_len = 0;
    cr_expect_null(grant_seal(&p, &f, (struct span){body, GRANT_BODY_MAX + 1}));
    struct grant *largest = grant_seal(&p, &f, (struct span){body, GRANT_BODY_MAX});
    cr_assert_not_null(largest);
    cr_expect(grant_open(largest, &p, body));
    grant_unref(largest);
    struct grant *empty = grant_seal(&p, &f, SPAN(""));
    cr_assert_not_null(empty);
    cr_expect(grant_open(empty, &p, body));
    grant_unref(empty);
    f.content_type = (struct span){type, 96};
    cr_expect_null(grant_seal(&p, &f, SPAN(BODY)));
    f.content_type.len = 95;
    struct grant *longest = grant_seal(&p, &f, SPAN(BODY));
    cr_expect_not_null(longest);
    grant_unref(longest);
    f.status = 401;
    cr_expect_null(grant_seal(&p, &f, SPAN(BODY)));
    f = facts();
    f.fetched_ms = -1;
    cr_expect_null(grant_seal(&p, &f, SPAN(BODY)));
    f = facts();
    f.expires_in_at = sizeof BODY - 4;
    cr_expect_null(grant_seal(&p, &f, SPAN(BODY)));
    free(body);
}

Test(grant, lives_until_the_last_reference_is_gone) {
    struct grant *g = sealed();
    struct grant_pass p = pass();
    cr_expect_eq(grant_ref(g), g);
    grant_unref(g);
    cr_expect(opens(g, &p));
    grant_unref(g);
    grant_unref(NULL);
}

/* ---- as bytes ---- */

static uint8_t *pack(const struct grant *g, size_t *len) {
    *len = grant_packed_len(g);
    uint8_t *packed = malloc(*len);
    cr_assert_eq(grant_pack(g, packed), *len);
    return packed;
}

static struct grant *unpack(const uint8_t *packed, size_t len) {
    return grant_unpack((struct span){(const char *)packed, len});
}

Test(grant, survives_packing) {
    size_t len;
    struct grant *g = sealed();
    uint8_t *packed = pack(g, &len);
    struct grant *again = unpack(packed, len);
    struct grant_pass p = pass();
    cr_assert_not_null(again);
    cr_expect(opens(again, &p));
    cr_expect_eq(again->status, 201);
    cr_expect_eq(again->fetched_ms, g->fetched_ms);
    cr_expect_eq(again->expires_s, EXP);
    cr_expect_eq(again->expires_in_at, g->expires_in_at);
    cr_expect_eq(again->expires_in_len, 5);
    cr_expect_str_eq(again->content_type, g->content_type);
    cr_expect(grant_proof_equal(again->proof, g->proof));
    grant_unref(again);
    grant_unref(g);
    free(packed);
}

Test(grant, does_not_open_when_any_packed_bit_was_changed) {
    size_t len;
    struct grant *g = sealed();
    uint8_t *packed = pack(g, &len);
    struct grant_pass p = pass();
    for (size_t bit = 0; bit < len * 8; bit++) {
        packed[bit / 8] ^= (uint8_t)(1 << bit % 8);
        struct grant *changed = unpack(packed, len);
        cr_expect(!changed || !grant_open(changed, &p, (char[4096]){0}), "bit %zu", bit);
        grant_unref(changed);
        packed[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    grant_unref(g);
    free(packed);
}

Test(grant, is_not_unpacked_from_pieces) {
    size_t len;
    struct grant *g = sealed();
    uint8_t *packed = pack(g, &len);
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *piece = malloc(cut + !cut);
        memcpy(piece, packed, cut);
        cr_expect_null(unpack(piece, cut), "%zu of %zu bytes", cut, len);
        free(piece);
    }
    uint8_t *longer = calloc(1, len + 1);
    memcpy(longer, packed, len);
    cr_expect_null(unpack(longer, len + 1));
    free(longer);
    size_t huge_len = GRANT_BODY_MAX + 4096;
    uint8_t *huge = calloc(1, huge_len);
    huge[0] = 1;
    cr_expect_null(unpack(huge, huge_len));
    free(huge);
    grant_unref(g);
    free(packed);
}

/* ---- time ---- */

/* `text` where grant_open would have put it; `memory` is the caller's to free. */
static struct span spliced(const struct grant *g, const char *text, int64_t now_s, char **memory) {
    *memory = malloc(GRANT_HEADROOM + g->body_len);
    memcpy(*memory + GRANT_HEADROOM, text, g->body_len);
    return grant_splice_expiry(g, *memory + GRANT_HEADROOM, now_s);
}

Test(grant, corrects_expires_in_to_what_is_left_and_nothing_else) {
    static const struct {
        int64_t now_s;
        const char *digits;
    } rows[] = {
        {FETCHED, "86400"}, {FETCHED + 1, "86399"},     {EXP - 1, "1"},    {EXP, "0"},
        {EXP + 5, "0"},     {EXP - 1000000, "1000000"}, {0, "1795494188"},
    };
    struct grant *g = sealed();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char *memory, expected[256];
        const char *at = strstr(BODY, "86400");
        struct span body = spliced(g, BODY, rows[i].now_s, &memory);
        snprintf(expected, sizeof expected, "%.*s%s%s", (int)(at - BODY), BODY, rows[i].digits,
                 at + 5);
        cr_expect(span_equal(body, span_of(expected)), "%.*s", SPAN_ARG(body));
        free(memory);
    }
    grant_unref(g);
}

Test(grant, has_room_for_the_longest_expiry) {
    struct grant_pass p = pass();
    struct grant_facts f = {.status = 200, .expires_s = INT64_MAX, .expires_in_len = 1};
    struct grant *g = grant_seal(&p, &f, SPAN("7"));
    char *memory;
    cr_expect(span_equal(spliced(g, "7", 0, &memory), SPAN("9223372036854775807")));
    free(memory);
    g->expires_s = INT64_MIN;
    cr_expect(span_equal(spliced(g, "7", 1, &memory), SPAN("0")));
    free(memory);
    grant_unref(g);
}

Test(grant, without_expires_in_is_left_alone) {
    struct grant_pass p = pass();
    struct grant_facts f = facts();
    f.expires_in_at = f.expires_in_len = 0;
    struct grant *g = grant_seal(&p, &f, SPAN(BODY));
    char *memory;
    cr_expect(span_equal(spliced(g, BODY, EXP - 5, &memory), SPAN(BODY)));
    grant_unref(g);
    free(memory);
}

Test(grant, grows_old) {
    static const struct grant_policy policy = {60000, 3300000, 300000};
    static const struct {
        int64_t after_ms;
        enum grant_age age;
    } rows[] = {
        {0, GRANT_FRESH},
        {59999, GRANT_FRESH},
        {60000, GRANT_WARM},
        {3299999, GRANT_WARM},
        {3300000, GRANT_STALE},
        {86400000 - 300001, GRANT_STALE},
        {86400000 - 300000, GRANT_DEAD},
        {86400000, GRANT_DEAD},
        {900000000, GRANT_DEAD},
        {-1, GRANT_STALE},
    };
    struct grant *g = sealed();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_expect_eq(grant_age(g, &policy, g->fetched_ms + rows[i].after_ms), rows[i].age,
                     "after %lld ms", (long long)rows[i].after_ms);
    g->expires_s = INT64_MAX;
    cr_expect_eq(grant_age(g, &policy, g->fetched_ms), GRANT_FRESH);
    g->expires_s = INT64_MIN;
    cr_expect_eq(grant_age(g, &policy, g->fetched_ms), GRANT_DEAD);
    grant_unref(g);
}
