/* Tokens as the controller signs and checks them: HS256 out; HS256, HS384 and HS512 in, without
 * asking for exp and without caring whose token it is. */
#include "stub/parts.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>

enum { PART_MAX = 8192 };

/* ---- base64url, RFC 4648 section 5, without padding ---- */

static void add_base64url(struct str *out, const void *bytes, size_t size) {
    char text[PART_MAX * 4 / 3 + 8];
    if (size > PART_MAX)
        return;
    int len = EVP_EncodeBlock((unsigned char *)text, bytes, (int)size);
    for (int i = 0; i < len && text[i] != '='; i++)
        str_add_char(out, text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i]);
}

/* The length, or -1. */
static int base64url_decode(struct span in, unsigned char *out, size_t size) {
    unsigned char text[PART_MAX + 4];
    size_t padded = (in.len + 3) / 4 * 4;
    if (in.len == 0 || padded > PART_MAX || padded / 4 * 3 > size || in.len % 4 == 1)
        return -1;
    for (size_t i = 0; i < padded; i++) {
        char c = i < in.len ? in.ptr[i] : '=';
        text[i] = (unsigned char)(c == '-' ? '+' : c == '_' ? '/' : c);
    }
    int len = EVP_DecodeBlock(out, text, (int)padded);
    return len < 0 ? -1 : len - (int)(padded - in.len);
}

/* ---- signing ---- */

void stub_token_sign(const struct stub *stub, struct span claims, struct str *out) {
    static const char head[] = "{\"alg\":\"HS256\",\"typ\":\"JWT\"}";
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned int mac_len = 0;
    size_t start = out->len;
    add_base64url(out, head, sizeof head - 1);
    STR_ADD(out, ".");
    add_base64url(out, claims.ptr, claims.len);
    HMAC(EVP_sha256(), stub->secret, (int)strlen(stub->secret), (unsigned char *)out->ptr + start,
         out->len - start, mac, &mac_len);
    STR_ADD(out, ".");
    add_base64url(out, mac, mac_len);
}

/* ---- checking ---- */

/* The third word of /(\S+)\s+(\S+)/ with the scheme "bearer" in any case. */
static bool bearer_token(const char *authorization, struct span *token) {
    if (!authorization || strncasecmp(authorization, "bearer", 6) != 0)
        return false;
    const char *at = authorization + 6;
    size_t spaces = strspn(at, " \t");
    *token = (struct span){at + spaces, strcspn(at + spaces, " \t")};
    return spaces > 0 && token->len > 0;
}

static bool split_token(struct span token, struct span parts[3]) {
    for (int i = 0; i < 3; i++) {
        const char *dot = memchr(token.ptr ? token.ptr : "", '.', token.len);
        if ((i < 2) != (dot != NULL))
            return false;
        parts[i] = (struct span){token.ptr, dot ? (size_t)(dot - token.ptr) : token.len};
        token = span_from(token, parts[i].len + 1);
    }
    return true;
}

static json_t *decode_json(struct span part) {
    unsigned char text[PART_MAX];
    int len = base64url_decode(part, text, sizeof text);
    return len < 0 ? NULL : json_loadb((const char *)text, (size_t)len, 0, NULL);
}

static const EVP_MD *digest_for(struct span head) {
    json_t *json = decode_json(head);
    const char *name = json_string_value(json_object_get(json, "alg"));
    const EVP_MD *digest = NULL;
    if (name && strcmp(name, "HS256") == 0)
        digest = EVP_sha256();
    else if (name && strcmp(name, "HS384") == 0)
        digest = EVP_sha384();
    else if (name && strcmp(name, "HS512") == 0)
        digest = EVP_sha512();
    json_decref(json);
    return digest;
}

static bool signature_fits(const struct stub *stub, struct span token, const struct span parts[3]) {
    unsigned char mac[EVP_MAX_MD_SIZE], given[PART_MAX];
    unsigned int mac_len = 0;
    const EVP_MD *digest = digest_for(parts[0]);
    int given_len = base64url_decode(parts[2], given, sizeof given);
    if (!digest || given_len < 0)
        return false;
    HMAC(digest, stub->secret, (int)strlen(stub->secret), (const unsigned char *)token.ptr,
         parts[0].len + 1 + parts[1].len, mac, &mac_len);
    return given_len == (int)mac_len && CRYPTO_memcmp(mac, given, mac_len) == 0;
}

static bool times_fit(const json_t *claims, int64_t now_s) {
    const json_t *exp = json_object_get(claims, "exp");
    const json_t *nbf = json_object_get(claims, "nbf");
    if (exp && (!json_is_number(exp) || (double)now_s >= json_number_value(exp)))
        return false;
    return !nbf || (json_is_number(nbf) && json_number_value(nbf) <= (double)now_s);
}

static void read_roles(const json_t *roles, struct claims *out) {
    size_t i;
    const json_t *role;
    json_array_foreach(roles, i, role) {
        const char *name = json_string_value(role);
        if (name && strncmp(name, "universe.", 9) == 0)
            out->universe = true;
        if (name && !strstr(name, ".viewer"))
            out->may_write = true;
    }
}

/* An agent's roles are its owner's choice, its type is not. */
static bool speaks_for_agents(const json_t *claims) {
    const char *type = json_string_value(json_object_get(claims, "type"));
    size_t i;
    const json_t *role;
    if (!type || strcmp(type, "service") != 0)
        return false;
    json_array_foreach(json_object_get(claims, "roles"), i, role) {
        const char *name = json_string_value(role);
        if (name && strcmp(name, "service.heartbeats") == 0)
            return true;
    }
    return false;
}

static void copy_claim(const json_t *claims, const char *name, char out[65]) {
    const char *value = json_string_value(json_object_get(claims, name));
    snprintf(out, 65, "%s", value ? value : "");
}

enum token_answer stub_token_check(const struct stub *stub, const char *authorization,
                                   int64_t now_s, struct claims *out) {
    struct span token, parts[3];
    *out = (struct claims){.all = NULL};
    if (!bearer_token(authorization, &token) || !split_token(token, parts) ||
        !signature_fits(stub, token, parts))
        return TOKEN_UNAUTHORIZED;
    out->all = decode_json(parts[1]);
    if (!json_is_object(out->all) || !times_fit(out->all, now_s))
        return TOKEN_UNAUTHORIZED;
    copy_claim(out->all, "sub", out->sub);
    copy_claim(out->all, "orgId", out->org);
    read_roles(json_object_get(out->all, "roles"), out);
    out->speaks_for_agents = speaks_for_agents(out->all);
    return out->sub[0] ? TOKEN_OK : TOKEN_PAYLOAD_INVALID;
}

void stub_token_fingerprint(const char *text, char out[9]) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    EVP_Digest(text, strlen(text), digest, NULL, EVP_sha256(), NULL);
    snprintf(out, 9, "%02x%02x%02x%02x", digest[0], digest[1], digest[2], digest[3]);
}
