/* A token is judged in this order: shape and bounds on the raw bytes, header, signature, claims as
 * JSON, signature again, times, subject. Which of them failed is for metrics; a client hears the
 * same words for all, except for a missing subject, which only a holder of the key can cause.
 *
 * The signature is judged twice. Our own HMAC, whose key is set up once, comes first, so that a
 * flood of forged tokens costs little; what it lets through libjwt must find good, too, after its
 * claims were found to be bounded.
 *
 * The cache holds tokens that passed all of it. A set has WAYS places; which set is a keyed hash of
 * the signature, which says as much as the whole token: whoever has no key finds no two tokens with
 * one. What is found is compared whole. A full set gives up a place at random: agents come round in
 * turn, and in a turn longer than the cache the least recently used entry is always the next one
 * needed, so LRU and clock lose everything where chance keeps most. Times are judged on every use.
 */
#include "rules/token.h"

#include "base/panic.h"
#include "base/siphash.h"
#include "rules/json_scan.h"

#include <jwt.h>
#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>

enum {
    HEADER_MAX = 1024, /* base64url characters; the controller's has 36 */
    DECODED_MAX = TOKEN_MAX / 4 * 3,
    SIGNATURE_LENGTH = 43, /* base64url characters of 32 bytes */
    DIGEST_SIZE = 32,
    WAYS = 8, /* a set's tags and pointers fill two cache lines */
};

/* ---- secrets ---- */

const char *token_secret_complaint(struct span secret, bool allow_public_default, bool *loud) {
    *loud = false;
    if (secret.len == 0)
        return "is empty: every token would be accepted";
    if (secret.len > INT_MAX)
        return "is too long";
    if (memmem(secret.ptr, secret.len, "-----BEGIN ", 11))
        return "is a PEM block, not a shared secret: whoever has the public key could sign";
    if (span_equal(secret, SPAN("R4md0m_S3cr3t")) && !allow_public_default)
        return "is the controller's public default: anybody can sign tokens with it";
    *loud = secret.len < TOKEN_SECRET_STRONG;
    return NULL;
}

enum err token_fault_err(enum token_fault fault) {
    if (fault == TOKEN_FINE)
        return ERR_OK;
    return fault == TOKEN_NO_SUBJECT ? ERR_TOKEN_PAYLOAD : ERR_UNAUTHORIZED;
}

bool token_from_authorization(struct span value, struct span *token) {
    struct span scheme = SPAN("Bearer ");
    if (value.len < scheme.len || !span_equal_nocase((struct span){value.ptr, scheme.len}, scheme))
        return false;
    struct span rest = span_trim(span_from(value, scheme.len));
    if (rest.len == 0 || memchr(rest.ptr, ' ', rest.len) || memchr(rest.ptr, '\t', rest.len))
        return false;
    *token = rest;
    return true;
}

/* ---- shape ---- */

struct parts {
    struct span header, claims, signature; /* base64url */
};

/* Exactly three non-empty parts, within bounds. What they are made of is judged on decoding. */
static bool split(struct span token, struct parts *out) {
    if (token.len > TOKEN_MAX)
        return false;
    const char *end = token.ptr + token.len;
    const char *first = memchr(token.ptr, '.', token.len);
    const char *second = first ? memchr(first + 1, '.', (size_t)(end - first - 1)) : NULL;
    if (!second || memchr(second + 1, '.', (size_t)(end - second - 1)))
        return false;
    out->header = (struct span){token.ptr, (size_t)(first - token.ptr)};
    out->claims = (struct span){first + 1, (size_t)(second - first - 1)};
    out->signature = (struct span){second + 1, (size_t)(end - second - 1)};
    return out->header.len > 0 && out->header.len <= HEADER_MAX && out->claims.len > 0 &&
           out->signature.len > 0;
}

static int base64url_value(char c) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

/* RFC 4648 section 5 without padding; the only spelling of its bytes (unused bits are zero).
 * `out` has room for 3 bytes out of 4 characters. */
static bool base64url_decode(struct span text, char *out, size_t *len) {
    uint32_t bits = 0;
    unsigned have = 0;
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        int value = base64url_value(text.ptr[i]);
        if (value < 0)
            return false;
        bits = bits << 6 | (uint32_t)value;
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[n++] = (char)(bits >> have & 0xff);
        }
    }
    *len = n;
    return have < 6 && (bits & ((1u << have) - 1)) == 0;
}

/* A decoded part and its members, which point into the bytes. */
struct decoded {
    char bytes[DECODED_MAX];
    struct json_members members;
};

static bool decode_object(struct span part, struct decoded *out) {
    size_t len;
    return base64url_decode(part, out->bytes, &len) &&
           json_scan_object((struct span){out->bytes, len}, &out->members);
}

static enum token_fault judge_header_members(const struct json_members *header) {
    const struct json_member *type = json_member_find(header, SPAN("typ"));
    struct span text;
    if (json_member_find(header, SPAN("crit")))
        return TOKEN_MALFORMED;
    if (type && !(json_member_string(type, &text) && span_equal_nocase(text, SPAN("JWT"))))
        return TOKEN_MALFORMED;
    if (!json_member_string(json_member_find(header, SPAN("alg")), &text) ||
        !span_equal(text, SPAN("HS256")))
        return TOKEN_ALGORITHM;
    return TOKEN_FINE;
}

/* ---- claims ---- */

struct times {
    int64_t expires_s, not_before_s; /* exp; nbf, INT64_MIN when absent */
};

static enum token_fault read_times(const struct json_members *claims, struct times *out) {
    const struct json_member *not_before = json_member_find(claims, SPAN("nbf"));
    if (!json_member_integer(json_member_find(claims, SPAN("exp")), &out->expires_s))
        return TOKEN_NO_EXPIRY;
    out->not_before_s = INT64_MIN;
    if (not_before && !json_member_integer(not_before, &out->not_before_s))
        return TOKEN_EARLY;
    return TOKEN_FINE;
}

static enum token_fault judge_times(const struct times *times, int64_t now_s, int64_t leeway_s) {
    if (now_s - leeway_s >= times->expires_s)
        return TOKEN_EXPIRED;
    return times->not_before_s > now_s + leeway_s ? TOKEN_EARLY : TOKEN_FINE;
}

/* An agent is who says so and whose sub and agentId, where they are ids, agree. */
static bool read_agent(const struct json_members *claims, struct span subject,
                       struct agent_id *out) {
    struct span type, text;
    struct agent_id by_subject, by_agent_id;
    if (!json_member_string(json_member_find(claims, SPAN("type")), &type) ||
        !span_equal(type, SPAN("agent")))
        return false;
    bool in_subject = agent_id_parse(subject, &by_subject);
    bool in_agent_id = json_member_string(json_member_find(claims, SPAN("agentId")), &text) &&
                       agent_id_parse(text, &by_agent_id);
    if (in_subject && in_agent_id && !agent_id_equal(&by_subject, &by_agent_id))
        return false;
    if (in_subject)
        *out = by_subject;
    else if (in_agent_id)
        *out = by_agent_id;
    return in_subject || in_agent_id;
}

/* "" when there is none, or one that does not fit. */
static void read_org(const struct json_members *claims, char out[TOKEN_ORG_MAX]) {
    struct span org;
    bool fits = json_member_string(json_member_find(claims, SPAN("orgId")), &org) &&
                org.len < TOKEN_ORG_MAX;
    if (fits)
        memcpy(out, org.ptr, org.len);
    out[fits ? org.len : 0] = '\0';
}

static enum token_fault read_claims(const struct json_members *claims, const struct times *times,
                                    struct token_claims *out) {
    const struct json_member *subject = json_member_find(claims, SPAN("sub"));
    struct span text;
    if (!subject || subject->kind != JSON_KIND_STRING || subject->value.len == 2)
        return TOKEN_NO_SUBJECT;
    *out = (struct token_claims){.expires_s = times->expires_s};
    (void)json_member_integer(json_member_find(claims, SPAN("iat")), &out->issued_s);
    if (!json_member_string(subject, &text))
        text = SPAN_NONE;
    out->is_agent = read_agent(claims, text, &out->agent);
    read_org(claims, out->org);
    return TOKEN_FINE;
}

/* ---- the cache ---- */

struct entry {
    int64_t expires_s, not_before_s, issued_s;
    struct agent_id agent;
    bool is_agent;
    uint8_t org_len;
    uint16_t token_len;
    char bytes[]; /* token, org */
};

struct set {
    uint64_t hashes[WAYS];
    struct entry *entries[WAYS]; /* NULL: free */
};

struct secret {
    char *bytes; /* owned; NULL: there is none */
    size_t len;
    EVP_MAC_CTX *hmac; /* HMAC-SHA256 under it */
};

struct token_verifier {
    struct secret secrets[2]; /* current, previous */
    int64_t leeway_s;
    uint8_t hash_key[16];
    size_t set_count;
    struct set *sets;
    uint64_t chance; /* state of a generator; nothing secret hangs on it */
};

static struct entry *entry_new(struct span token, const struct times *times,
                               const struct token_claims *claims) {
    size_t org_len = strlen(claims->org);
    struct entry *e = must_alloc(sizeof *e + token.len + org_len);
    e->expires_s = times->expires_s;
    e->not_before_s = times->not_before_s;
    e->issued_s = claims->issued_s;
    e->agent = claims->agent;
    e->is_agent = claims->is_agent;
    e->org_len = (uint8_t)org_len;
    e->token_len = (uint16_t)token.len;
    memcpy(e->bytes, token.ptr, token.len);
    memcpy(e->bytes + token.len, claims->org, org_len);
    return e;
}

static void entry_claims(const struct entry *e, struct token_claims *out) {
    out->is_agent = e->is_agent;
    out->agent = e->agent;
    out->issued_s = e->issued_s;
    out->expires_s = e->expires_s;
    memcpy(out->org, e->bytes + e->token_len, e->org_len);
    out->org[e->org_len] = '\0';
}

static struct set *cache_set(const struct token_verifier *v, uint64_t hash) {
    return &v->sets[hash % v->set_count];
}

/* Tells nothing by its time, as CRYPTO_memcmp, but eight bytes a step: for every request a whole
 * token is compared. */
static bool equal_in_constant_time(const char *a, const char *b, size_t len) {
    uint64_t differs = 0, x, y;
    size_t at = 0;
    for (; len - at >= sizeof x; at += sizeof x) {
        memcpy(&x, a + at, sizeof x);
        memcpy(&y, b + at, sizeof y);
        differs |= x ^ y;
    }
    for (; at < len; at++)
        differs |= (uint64_t)(uint8_t)(a[at] ^ b[at]);
    return differs == 0;
}

static uint64_t cache_hash(const struct token_verifier *v, struct span token) {
    size_t before = token.len > SIGNATURE_LENGTH ? token.len - SIGNATURE_LENGTH : 0;
    return siphash(v->hash_key, span_from(token, before));
}

static struct entry *cache_find(const struct set *set, uint64_t hash, struct span token) {
    for (unsigned way = 0; way < WAYS; way++) {
        struct entry *e = set->entries[way];
        if (e && set->hashes[way] == hash && e->token_len == token.len &&
            equal_in_constant_time(e->bytes, token.ptr, token.len))
            return e;
    }
    return NULL;
}

/* A free place, or any. */
static unsigned cache_place(struct token_verifier *v, const struct set *set) {
    for (unsigned way = 0; way < WAYS; way++)
        if (!set->entries[way])
            return way;
    v->chance = v->chance * 6364136223846793005 + 1442695040888963407; /* Knuth's MMIX */
    return (unsigned)(v->chance >> 32) % WAYS;
}

static void cache_put(struct token_verifier *v, struct set *set, uint64_t hash, struct entry *e) {
    unsigned way = cache_place(v, set);
    free(set->entries[way]);
    set->entries[way] = e;
    set->hashes[way] = hash;
}

/* ---- the verifier ---- */

static EVP_MAC_CTX *hmac_new(struct span key) {
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                                 OSSL_PARAM_construct_end()};
    invariant(ctx && EVP_MAC_init(ctx, (const unsigned char *)key.ptr, key.len, params) == 1);
    EVP_MAC_free(mac);
    return ctx;
}

static void copy_secret(struct secret *to, struct span secret) {
    invariant(secret.len <= INT_MAX);
    if (secret.len == 0)
        return;
    *to = (struct secret){must_copy(secret.ptr, secret.len), secret.len, hmac_new(secret)};
}

static void release_secret(struct secret *s) {
    EVP_MAC_CTX_free(s->hmac);
    OPENSSL_cleanse(s->bytes, s->len);
    free(s->bytes);
}

struct token_verifier *token_verifier_new(const struct token_secrets *secrets, int64_t leeway_s,
                                          size_t cache_entries, const uint8_t hash_key[16]) {
    struct token_verifier *v = must_zalloc(sizeof *v);
    /* libjwt accepts any signature under an empty key. */
    invariant(secrets->current.len > 0);
    copy_secret(&v->secrets[0], secrets->current);
    copy_secret(&v->secrets[1], secrets->previous);
    v->leeway_s = leeway_s;
    memcpy(v->hash_key, hash_key, sizeof v->hash_key);
    /* Twice the places: with as many as tokens, every fourth token would find its set full. */
    v->set_count = (2 * cache_entries + WAYS - 1) / WAYS;
    v->sets = v->set_count ? must_zalloc(v->set_count * sizeof *v->sets) : NULL;
    return v;
}

void token_verifier_free(struct token_verifier *v) {
    if (!v)
        return;
    for (size_t i = 0; i < v->set_count; i++)
        for (unsigned way = 0; way < WAYS; way++)
            free(v->sets[i].entries[way]);
    free(v->sets);
    for (int i = 0; i < 2; i++)
        release_secret(&v->secrets[i]);
    free(v);
}

/* Did `secret` make this digest of `text`? */
static bool made_by(const struct secret *secret, struct span text, const char digest[DIGEST_SIZE]) {
    unsigned char own[DIGEST_SIZE];
    size_t len = 0;
    /* Without a key, init starts anew under the one it has. */
    bool fine = secret->hmac && EVP_MAC_init(secret->hmac, NULL, 0, NULL) == 1 &&
                EVP_MAC_update(secret->hmac, (const unsigned char *)text.ptr, text.len) == 1 &&
                EVP_MAC_final(secret->hmac, own, &len, sizeof own) == 1 && len == DIGEST_SIZE;
    return fine && CRYPTO_memcmp(own, digest, DIGEST_SIZE) == 0;
}

/* libjwt's opinion. */
static bool is_confirmed(const struct secret *secret, struct span token) {
    char text[TOKEN_MAX + 1];
    jwt_t *jwt = NULL;
    memcpy(text, token.ptr, token.len);
    text[token.len] = '\0';
    if (jwt_decode(&jwt, text, (const unsigned char *)secret->bytes, (int)secret->len) != 0)
        return false;
    bool pinned = jwt_get_alg(jwt) == JWT_ALG_HS256;
    jwt_free(jwt);
    return pinned;
}

/* Which secret made the signature; NULL: none did. */
static const struct secret *signer_of(const struct token_verifier *v, const struct parts *parts,
                                      const char digest[DIGEST_SIZE]) {
    const char *end = parts->claims.ptr + parts->claims.len;
    struct span text = {parts->header.ptr, (size_t)(end - parts->header.ptr)};
    for (int i = 0; i < 2; i++)
        if (made_by(&v->secrets[i], text, digest))
            return &v->secrets[i];
    return NULL;
}

static enum token_fault judge_header(struct span part, struct decoded *scratch) {
    /* {"alg":"HS256","typ":"JWT"}, as the controller spells it. */
    if (span_equal(part, SPAN("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9")))
        return TOKEN_FINE;
    return decode_object(part, scratch) ? judge_header_members(&scratch->members) : TOKEN_MALFORMED;
}

/* Nothing is looked into that nobody with a key has signed. */
static enum token_fault judge_parts(const struct token_verifier *v, const struct parts *parts,
                                    struct decoded *scratch, const struct secret **signer) {
    char digest[DIGEST_SIZE + 1];
    size_t len;
    enum token_fault fault = judge_header(parts->header, scratch);
    if (fault != TOKEN_FINE)
        return fault;
    if (parts->signature.len != SIGNATURE_LENGTH ||
        !base64url_decode(parts->signature, digest, &len))
        return TOKEN_MALFORMED;
    *signer = signer_of(v, parts, digest);
    if (!*signer)
        return TOKEN_SIGNATURE;
    return decode_object(parts->claims, scratch) ? TOKEN_FINE : TOKEN_MALFORMED;
}

static enum token_fault verify_anew(const struct token_verifier *v, struct span token,
                                    int64_t now_s, struct times *times,
                                    struct token_claims *claims) {
    struct parts parts;
    struct decoded decoded;
    const struct secret *signer = NULL;
    if (!split(token, &parts))
        return TOKEN_MALFORMED;
    enum token_fault fault = judge_parts(v, &parts, &decoded, &signer);
    if (fault == TOKEN_FINE && !is_confirmed(signer, token))
        fault = TOKEN_SIGNATURE;
    if (fault == TOKEN_FINE)
        fault = read_times(&decoded.members, times);
    if (fault == TOKEN_FINE)
        fault = judge_times(times, now_s, v->leeway_s);
    return fault == TOKEN_FINE ? read_claims(&decoded.members, times, claims) : fault;
}

static enum token_fault verify_and_keep(struct token_verifier *v, struct span token, int64_t now_s,
                                        struct token_claims *claims, struct set *set,
                                        uint64_t hash) {
    struct times times;
    struct token_claims found;
    enum token_fault fault = verify_anew(v, token, now_s, &times, &found);
    if (fault != TOKEN_FINE)
        return fault;
    *claims = found;
    if (set)
        cache_put(v, set, hash, entry_new(token, &times, &found));
    return TOKEN_FINE;
}

enum token_fault token_verify(struct token_verifier *v, struct span token, int64_t now_s,
                              struct token_claims *claims, bool *was_cached) {
    bool ignored = false;
    bool *cached = was_cached ? was_cached : &ignored;
    *cached = false;
    if (token.len == 0)
        return TOKEN_ABSENT;
    if (token.len > TOKEN_MAX)
        return TOKEN_MALFORMED;
    if (v->set_count == 0)
        return verify_and_keep(v, token, now_s, claims, NULL, 0);
    uint64_t hash = cache_hash(v, token);
    struct set *set = cache_set(v, hash);
    const struct entry *e = cache_find(set, hash, token);
    if (!e)
        return verify_and_keep(v, token, now_s, claims, set, hash);
    *cached = true;
    struct times times = {e->expires_s, e->not_before_s};
    enum token_fault fault = judge_times(&times, now_s, v->leeway_s);
    if (fault == TOKEN_FINE)
        entry_claims(e, claims);
    return fault;
}

bool token_peek(struct span token, int64_t *expires_s, char org[TOKEN_ORG_MAX]) {
    struct parts parts;
    struct decoded decoded;
    bool readable = token.len > 0 && split(token, &parts) &&
                    decode_object(parts.header, &decoded) &&
                    decode_object(parts.claims, &decoded) &&
                    json_member_integer(json_member_find(&decoded.members, SPAN("exp")), expires_s);
    if (readable && org)
        read_org(&decoded.members, org);
    return readable;
}
