/* A token is judged in this order: shape and bounds on the raw bytes, header, signature, claims as
 * JSON, times, subject. Which of them failed is for metrics; a client hears the same words for all,
 * except for a missing subject, which only a holder of the key can cause.
 *
 * The signature is judged by an HMAC of our own, whose key is set up once. What it lets through and
 * is plain (the header as the controller spells it, claims that all parsers read alike) is read by
 * json_scan_plain alone; that is nearly every token there is. libjwt must find everything else
 * good, too, after its claims were found to be bounded: it knows about UTF-8 and escapes, we do
 * not.
 */
#include "rules/trust/token.h"

#include "base/panic.h"
#include "base/siphash.h"
#include "rules/trust/hmac.h"
#include "rules/trust/token_cache.h"
#include "rules/wire/json_scan.h"

#include <jwt.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <stdlib.h>

enum {
    HEADER_MAX = 1024, /* base64url characters; the controller's has 36 */
    DECODED_MAX = TOKEN_MAX / 4 * 3,
    SIGNATURE_LENGTH = 43, /* base64url characters of 32 bytes */
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

/* RFC 4648 section 5: one more than each character's six bits; 0: none of them. */
static const uint8_t base64url_values[256] = {
    ['A'] = 1,  ['B'] = 2,  ['C'] = 3,  ['D'] = 4,  ['E'] = 5,  ['F'] = 6,  ['G'] = 7,  ['H'] = 8,
    ['I'] = 9,  ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16,
    ['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24,
    ['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28, ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32,
    ['g'] = 33, ['h'] = 34, ['i'] = 35, ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40,
    ['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48,
    ['w'] = 49, ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
    ['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['-'] = 63, ['_'] = 64};

/* Four characters' 24 bits; false when one of them is a stranger. */
static bool base64url_bits(const unsigned char *at, uint32_t *bits) {
    uint32_t a = base64url_values[at[0]], b = base64url_values[at[1]], c = base64url_values[at[2]],
             d = base64url_values[at[3]];
    *bits = (a - 1) << 18 | (b - 1) << 12 | (c - 1) << 6 | (d - 1);
    return a && b && c && d;
}

/* The last two or three characters; the bits that they have too many are zero. */
static bool base64url_end(struct span rest, char *out, size_t *len) {
    unsigned char whole[4] = {'A', 'A', 'A', 'A'};
    uint32_t bits;
    if (rest.len == 1)
        return false;
    memcpy(whole, rest.ptr, rest.len);
    if (!base64url_bits(whole, &bits) || bits & (rest.len == 2 ? 0xffff : 0xff))
        return false;
    out[0] = (char)(bits >> 16);
    if (rest.len == 3)
        out[1] = (char)(bits >> 8 & 0xff);
    *len += rest.len - 1;
    return true;
}

/* Without padding; the only spelling of its bytes. `out` has room for 3 bytes out of 4
 * characters. */
static bool base64url_decode(struct span text, char *out, size_t *len) {
    const unsigned char *at = (const unsigned char *)text.ptr, *end = at + text.len / 4 * 4;
    uint32_t bits;
    for (*len = 0; at < end; at += 4, *len += 3) {
        if (!base64url_bits(at, &bits))
            return false;
        out[*len] = (char)(bits >> 16);
        out[*len + 1] = (char)(bits >> 8 & 0xff);
        out[*len + 2] = (char)(bits & 0xff);
    }
    struct span rest = {(const char *)end, text.len % 4};
    return rest.len == 0 || base64url_end(rest, out + *len, len);
}

/* A decoded part and its members, which point into the bytes. */
struct decoded {
    char bytes[DECODED_MAX];
    struct json_members members;
    bool is_plain; /* all parsers read it alike: see json_scan_plain */
};

static bool decode_object(struct span part, struct decoded *out) {
    size_t len;
    if (!base64url_decode(part, out->bytes, &len))
        return false;
    struct span text = {out->bytes, len};
    out->is_plain = json_scan_plain(text, &out->members);
    return out->is_plain || json_scan_object(text, &out->members);
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

static enum token_fault read_times(const struct json_members *claims, struct token_times *out) {
    const struct json_member *not_before = json_member_find(claims, SPAN("nbf"));
    if (!json_member_integer(json_member_find(claims, SPAN("exp")), &out->expires_s))
        return TOKEN_NO_EXPIRY;
    out->not_before_s = INT64_MIN;
    if (not_before && !json_member_integer(not_before, &out->not_before_s))
        return TOKEN_EARLY;
    return TOKEN_FINE;
}

static enum token_fault judge_times(const struct token_times *times, int64_t now_s,
                                    int64_t leeway_s) {
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

/* Is one of `roles`, an array of strings, the controller's universe role? Anything that is not
 * spelled plainly is none: a right is never assumed. */
static bool has_universe_role(const struct json_member *roles) {
    struct span prefix = SPAN("\"universe.");
    if (!roles || roles->kind != JSON_KIND_ARRAY ||
        memchr(roles->value.ptr, '\\', roles->value.len))
        return false;
    bool inside = false, found = false;
    for (size_t i = 1; i + 1 < roles->value.len; i++) {
        char c = roles->value.ptr[i];
        if (!inside && (c == '[' || c == '{'))
            return false;
        if (c == '"')
            inside = !inside;
        found |= c == '"' && inside && span_starts(span_from(roles->value, i), prefix);
    }
    return found;
}

static uint64_t hash_of(const struct json_member *subject) {
    static const uint8_t no_secret[16] = {0};
    return siphash(no_secret, subject->value);
}

static enum token_fault read_claims(const struct json_members *claims,
                                    const struct token_times *times, struct token_claims *out) {
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
    if (!out->is_agent) {
        out->subject = hash_of(subject);
        out->is_universal = has_universe_role(json_member_find(claims, SPAN("roles")));
    }
    return TOKEN_FINE;
}

/* ---- the verifier ---- */

struct secret {
    char *bytes; /* owned; NULL: there is none */
    size_t len;
    struct hmac_key hmac;
};

struct token_verifier {
    struct secret secrets[2]; /* current, previous */
    int64_t leeway_s;
    struct token_cache *cache; /* NULL: none */
};

static void copy_secret(struct secret *to, struct span secret) {
    invariant(secret.len <= INT_MAX);
    if (secret.len == 0)
        return;
    to->bytes = must_copy(secret.ptr, secret.len);
    to->len = secret.len;
    hmac_key_set(&to->hmac, secret);
}

static void release_secret(struct secret *s) {
    hmac_key_cleanse(&s->hmac);
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
    v->cache = cache_entries ? token_cache_new(cache_entries, hash_key) : NULL;
    return v;
}

void token_verifier_free(struct token_verifier *v) {
    if (!v)
        return;
    token_cache_free(v->cache);
    for (int i = 0; i < 2; i++)
        release_secret(&v->secrets[i]);
    free(v);
}

/* Did `secret` make this digest of `text`? */
static bool made_by(const struct secret *secret, struct span text, const char digest[HMAC_SIZE]) {
    uint8_t own[HMAC_SIZE];
    if (!secret->bytes)
        return false;
    hmac_make(&secret->hmac, &text, 1, own);
    return CRYPTO_memcmp(own, digest, sizeof own) == 0;
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
                                      const char digest[HMAC_SIZE]) {
    const char *end = parts->claims.ptr + parts->claims.len;
    struct span text = {parts->header.ptr, (size_t)(end - parts->header.ptr)};
    for (int i = 0; i < 2; i++)
        if (made_by(&v->secrets[i], text, digest))
            return &v->secrets[i];
    return NULL;
}

/* {"alg":"HS256","typ":"JWT"}, as the controller spells it. */
static bool is_plain_header(struct span part) {
    return span_equal(part, SPAN("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"));
}

static bool is_plain(const struct parts *parts, const struct decoded *claims) {
    return is_plain_header(parts->header) && claims->is_plain;
}

static enum token_fault judge_header(struct span part, struct decoded *scratch) {
    if (is_plain_header(part))
        return TOKEN_FINE;
    return decode_object(part, scratch) ? judge_header_members(&scratch->members) : TOKEN_MALFORMED;
}

/* Nothing is looked into that nobody with a key has signed. */
static enum token_fault judge_parts(const struct token_verifier *v, const struct parts *parts,
                                    struct decoded *scratch, const struct secret **signer) {
    char digest[HMAC_SIZE + 1];
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
                                    int64_t now_s, struct token_times *times,
                                    struct token_claims *claims) {
    struct parts parts;
    struct decoded decoded;
    const struct secret *signer = NULL;
    if (!split(token, &parts))
        return TOKEN_MALFORMED;
    enum token_fault fault = judge_parts(v, &parts, &decoded, &signer);
    if (fault == TOKEN_FINE && !is_plain(&parts, &decoded) && !is_confirmed(signer, token))
        fault = TOKEN_SIGNATURE;
    if (fault == TOKEN_FINE)
        fault = read_times(&decoded.members, times);
    if (fault == TOKEN_FINE)
        fault = judge_times(times, now_s, v->leeway_s);
    return fault == TOKEN_FINE ? read_claims(&decoded.members, times, claims) : fault;
}

enum token_fault token_verify(struct token_verifier *v, struct span token, int64_t now_s,
                              struct token_claims *claims, bool *was_cached) {
    bool ignored = false;
    bool *cached = was_cached ? was_cached : &ignored;
    struct token_times times;
    struct token_claims found;
    struct token_place place;
    *cached = false;
    if (token.len == 0)
        return TOKEN_ABSENT;
    if (token.len > TOKEN_MAX)
        return TOKEN_MALFORMED;
    *cached = v->cache && token_cache_find(v->cache, token, &place, &times, &found);
    enum token_fault fault = *cached ? judge_times(&times, now_s, v->leeway_s)
                                     : verify_anew(v, token, now_s, &times, &found);
    if (fault != TOKEN_FINE)
        return fault;
    if (v->cache && !*cached)
        token_cache_keep(v->cache, token, &place, &times, &found);
    *claims = found;
    return TOKEN_FINE;
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
