/* A packed grant is its facts, in a fixed order and big-endian, then nonce, ciphertext and tag.
 * The same bytes of facts, with the agent's id before them, are the additional data of AES-GCM:
 * who edits an entry in Redis (a later expiry, another agent's answer) has an entry that does not
 * open. A fresh random nonce each time; one key seals far fewer than 2^32 bodies. */
#include "rules/trust/grant.h"

#include "base/panic.h"
#include "base/str.h"
#include "rules/trust/hmac.h"
#include "rules/trust/seal.h"

#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    PACK_VERSION = 1,
    CONTENT_TYPE_MAX = 95,
    /* version, status, proof, three 64-bit and two 32-bit numbers, length of the content type */
    FACTS_FIXED = 1 + 2 + GRANT_PROOF + 3 * 8 + 2 * 4 + 1,
    FACTS_MAX = FACTS_FIXED + CONTENT_TYPE_MAX,
};

/* ---- keys ---- */

/* HKDF-SHA256 (RFC 5869); one block of output is all that is needed. */
void grant_key_derive(struct span jwt_secret, struct grant_key *out) {
    struct span block[] = {SPAN("grant key 1"), SPAN("\x01" /* the block's number */)};
    uint8_t extracted[SEAL_HMAC];
    seal_hmac(SPAN("aiwm-gateway connect cache"), &jwt_secret, 1, extracted);
    seal_hmac((struct span){(const char *)extracted, sizeof extracted}, block, 2, out->bytes);
    OPENSSL_cleanse(extracted, sizeof extracted);
}

static void make_proof_and_seal(const struct grant_key *key, const struct agent_id *id,
                                struct span secret, uint8_t proof[SEAL_HMAC],
                                uint8_t seal[SEAL_HMAC]) {
    struct hmac_key k;
    char text[AGENT_ID_HEX + 1] = {0}; /* the 0 between id and secret is its last byte */
    agent_id_text(id, text);
    /* No id begins like this, so no proof is ever another agent's seal. */
    struct span parts[] = {SPAN("aiwm-gateway seal 1:"), {text, sizeof text}, secret};
    hmac_key_set(&k, (struct span){(const char *)key->bytes, sizeof key->bytes});
    hmac_make(&k, parts + 1, 2, proof);
    hmac_make(&k, parts, 3, seal);
    hmac_key_cleanse(&k);
}

void grant_pass_make(const struct grant_key *key, const struct agent_id *id, struct span secret,
                     struct grant_pass *out) {
    *out = (struct grant_pass){.id = *id};
    make_proof_and_seal(key, id, secret, out->proof, out->seal);
}

void grant_pass_add_previous(const struct grant_key *previous, struct span secret,
                             struct grant_pass *pass) {
    pass->has_previous = true;
    make_proof_and_seal(previous, &pass->id, secret, pass->previous_proof, pass->previous_seal);
}

void grant_pass_cleanse(struct grant_pass *pass) {
    OPENSSL_cleanse(pass, sizeof *pass);
}

bool grant_proof_equal(const uint8_t a[GRANT_PROOF], const uint8_t b[GRANT_PROOF]) {
    return CRYPTO_memcmp(a, b, GRANT_PROOF) == 0;
}

static bool is_of_previous(const struct grant *g, const struct grant_pass *pass) {
    return pass->has_previous && grant_proof_equal(g->proof, pass->previous_proof);
}

bool grant_is_of(const struct grant *g, const struct grant_pass *pass) {
    return grant_proof_equal(g->proof, pass->proof) || is_of_previous(g, pass);
}

/* ---- facts as bytes ---- */

static uint8_t *put_number(uint8_t *at, uint64_t value, unsigned size) {
    for (unsigned i = size; i-- > 0;)
        *at++ = (uint8_t)(value >> 8 * i);
    return at;
}

static uint64_t take_number(const uint8_t **at, unsigned size) {
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value = value << 8 | *(*at)++;
    return value;
}

static size_t put_facts(const struct grant *g, uint8_t out[FACTS_MAX]) {
    size_t type_len = strlen(g->content_type);
    uint8_t *at = put_number(out, PACK_VERSION, 1);
    at = put_number(at, (uint64_t)g->status, 2);
    memcpy(at, g->proof, GRANT_PROOF);
    at = put_number(at + GRANT_PROOF, (uint64_t)g->fetched_ms, 8);
    at = put_number(at, (uint64_t)g->expires_s, 8);
    at = put_number(at, g->body_len, 8);
    at = put_number(at, g->expires_in_at, 4);
    at = put_number(at, g->expires_in_len, 4);
    at = put_number(at, type_len, 1);
    memcpy(at, g->content_type, type_len);
    return (size_t)(at - out) + type_len;
}

/* Everything else in this file relies on these. */
static bool facts_make_sense(const struct grant *g) {
    return (g->status == 200 || g->status == 201) && g->fetched_ms >= 0 &&
           g->body_len <= GRANT_BODY_MAX && g->sealed_len == g->body_len + SEAL_EXTRA &&
           g->expires_in_len <= 20 && g->expires_in_at <= g->body_len &&
           g->expires_in_len <= g->body_len - g->expires_in_at;
}

static struct grant *grant_new(size_t body_len) {
    struct grant *g = must_zalloc(sizeof *g + body_len + SEAL_EXTRA);
    atomic_init(&g->references, 1);
    g->body_len = body_len;
    g->sealed_len = body_len + SEAL_EXTRA;
    return g;
}

size_t grant_pack(const struct grant *g, uint8_t *out) {
    size_t facts_len = put_facts(g, out);
    memcpy(out + facts_len, g->sealed, g->sealed_len);
    return facts_len + g->sealed_len;
}

size_t grant_packed_len(const struct grant *g) {
    return FACTS_FIXED + strlen(g->content_type) + g->sealed_len;
}

struct grant *grant_unpack(struct span packed) {
    const uint8_t *at = (const uint8_t *)packed.ptr;
    size_t type_len = packed.len >= FACTS_FIXED ? at[FACTS_FIXED - 1] : SIZE_MAX;
    if (type_len > CONTENT_TYPE_MAX || packed.len < FACTS_FIXED + type_len + SEAL_EXTRA ||
        packed.len > FACTS_MAX + GRANT_BODY_MAX + SEAL_EXTRA || take_number(&at, 1) != PACK_VERSION)
        return NULL;
    struct grant *g = grant_new(packed.len - FACTS_FIXED - type_len - SEAL_EXTRA);
    g->status = (int)take_number(&at, 2);
    memcpy(g->proof, at, GRANT_PROOF);
    at += GRANT_PROOF;
    g->fetched_ms = (int64_t)take_number(&at, 8);
    g->expires_s = (int64_t)take_number(&at, 8);
    bool fits = take_number(&at, 8) == g->body_len;
    g->expires_in_at = take_number(&at, 4);
    g->expires_in_len = take_number(&at, 4);
    memcpy(g->content_type, at + 1, type_len);
    memcpy(g->sealed, at + 1 + type_len, g->sealed_len);
    if (fits && strlen(g->content_type) == type_len && facts_make_sense(g))
        return g;
    grant_unref(g);
    return NULL;
}

/* ---- sealing ---- */

/* What the seal vouches for beside the body. */
struct vouched {
    uint8_t bytes[sizeof(struct agent_id) + FACTS_MAX];
    struct span whole;
};

static void vouch(const struct grant *g, const struct grant_pass *pass, struct vouched *out) {
    const size_t id_len = sizeof pass->id.bytes;
    memcpy(out->bytes, pass->id.bytes, id_len);
    out->whole =
        (struct span){(const char *)out->bytes, id_len + put_facts(g, out->bytes + id_len)};
}

struct grant *grant_seal(const struct grant_pass *pass, const struct grant_facts *facts,
                         struct span body) {
    if (body.len > GRANT_BODY_MAX || facts->content_type.len > CONTENT_TYPE_MAX)
        return NULL;
    struct grant *g = grant_new(body.len);
    memcpy(g->proof, pass->proof, GRANT_PROOF);
    g->status = facts->status;
    g->fetched_ms = facts->fetched_ms;
    g->expires_s = facts->expires_s;
    g->expires_in_at = facts->expires_in_at;
    g->expires_in_len = facts->expires_in_len;
    if (facts->content_type.len)
        memcpy(g->content_type, facts->content_type.ptr, facts->content_type.len);
    if (!facts_make_sense(g)) {
        grant_unref(g);
        return NULL;
    }
    struct vouched vouched;
    vouch(g, pass, &vouched);
    seal_close(pass->seal, &vouched.whole, 1, body, g->sealed);
    return g;
}

bool grant_open(const struct grant *g, const struct grant_pass *pass, char *out) {
    if (!grant_is_of(g, pass))
        return false;
    struct vouched vouched;
    vouch(g, pass, &vouched);
    const uint8_t *seal = is_of_previous(g, pass) ? pass->previous_seal : pass->seal;
    return seal_open(seal, &vouched.whole, 1, (struct span){(const char *)g->sealed, g->sealed_len},
                     out);
}

/* ---- sharing ---- */

struct grant *grant_ref(struct grant *g) {
    atomic_fetch_add_explicit(&g->references, 1, memory_order_relaxed);
    return g;
}

void grant_unref(struct grant *g) {
    if (g && atomic_fetch_sub_explicit(&g->references, 1, memory_order_acq_rel) == 1)
        free(g);
}

/* ---- time ---- */

struct span grant_splice_expiry(const struct grant *g, char *body, int64_t now_s) {
    char memory[GRANT_HEADROOM];
    struct str digits;
    if (g->expires_in_len == 0)
        return (struct span){body, g->body_len};
    str_init_fixed(&digits, memory, sizeof memory);
    str_add_int(&digits, g->expires_s > now_s ? g->expires_s - now_s : 0);
    char *start = body + g->expires_in_len - digits.len;
    memmove(start, body, g->expires_in_at);
    memcpy(start + g->expires_in_at, digits.ptr, digits.len);
    return (struct span){start, g->body_len + digits.len - g->expires_in_len};
}

enum grant_age grant_age(const struct grant *g, const struct grant_policy *policy, int64_t now_ms) {
    int64_t dead_from_s = (now_ms + policy->dead_before_expiry_ms) / 1000;
    int64_t age_ms = now_ms - g->fetched_ms;
    if (g->expires_s <= dead_from_s)
        return GRANT_DEAD;
    /* Fetched in the future: the clock was set back, and nothing is known about its age. */
    if (age_ms < 0 || age_ms >= policy->stale_after_ms)
        return GRANT_STALE;
    return age_ms < policy->fresh_for_ms ? GRANT_FRESH : GRANT_WARM;
}
