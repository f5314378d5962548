/* A sealed connect answer: what the controller gave an agent, openable only with the secret that
 * the agent presented then.
 *
 * proof = HMAC-SHA256(K, id || 0 || secret) says whether a presented secret is the known one.
 * The body is sealed with AES-256-GCM under HMAC-SHA256(K, label || id || 0 || secret): memory or
 * Redis plus K without the agent's secret opens no entry (short of guessing a weak secret). */
#pragma once

#include "base/span.h"
#include "rules/agents/agent_id.h"

#include <stdint.h>

enum { GRANT_PROOF = 32, GRANT_BODY_MAX = 262144 /* 256 KiB */ };

struct grant_key {
    uint8_t bytes[32];
};

/* K from the JWT secret (HKDF-SHA256, RFC 5869) when no key file is configured. */
void grant_key_derive(struct span jwt_secret, struct grant_key *out);

/* What a presented secret proves and opens. Cleanse it after use: grant_pass_cleanse. */
struct grant_pass {
    struct agent_id id;
    uint8_t proof[GRANT_PROOF];
    uint8_t seal[32];
    bool has_previous; /* the same under the key before the last change: opens, never seals */
    uint8_t previous_proof[GRANT_PROOF];
    uint8_t previous_seal[32];
};

void grant_pass_make(const struct grant_key *key, const struct agent_id *id, struct span secret,
                     struct grant_pass *out);
/* While keys are changed: what was sealed under `previous` opens, too. */
void grant_pass_add_previous(const struct grant_key *previous, struct span secret,
                             struct grant_pass *pass);
void grant_pass_cleanse(struct grant_pass *pass);
/* Constant time. */
bool grant_proof_equal(const uint8_t a[GRANT_PROOF], const uint8_t b[GRANT_PROOF]);

/* Immutable once made, shared by reference count (thread safe). */
struct grant {
    _Atomic int references;
    uint8_t proof[GRANT_PROOF];
    int status;                           /* 200 or 201, replayed as it came */
    int64_t fetched_ms;                   /* wall clock at the controller's answer */
    int64_t expires_s;                    /* exp of the token inside */
    size_t expires_in_at, expires_in_len; /* see payload.h */
    char content_type[96];                /* terminated */
    size_t body_len;                      /* of the opened body */
    size_t sealed_len;
    uint8_t sealed[]; /* nonce, ciphertext, tag */
};

/* Is it this very secret's, under either key? Constant time. */
bool grant_is_of(const struct grant *g, const struct grant_pass *pass);

struct grant_facts {
    int status;
    int64_t fetched_ms, expires_s;
    size_t expires_in_at, expires_in_len;
    struct span content_type; /* longer than fits: not made */
};

/* A grant with one reference, or NULL: body too large, content type too long, a status other than
 * 200 and 201, an expiresIn outside the body. */
struct grant *grant_seal(const struct grant_pass *pass, const struct grant_facts *facts,
                         struct span body);
struct grant *grant_ref(struct grant *g);
void grant_unref(struct grant *g); /* NULL is fine */

/* The form in which Redis keeps it: facts and sealed bytes. `out` has grant_packed_len bytes; what
 * was written is returned. */
size_t grant_packed_len(const struct grant *g);
size_t grant_pack(const struct grant *g, uint8_t *out);
/* One reference, or NULL when this was never packed by us. The facts are vouched for only once
 * grant_open succeeded: they are authenticated together with the body and the agent's id. */
struct grant *grant_unpack(struct span packed);

/* Decrypts into `out` (at least g->body_len bytes). False: wrong secret or tampered with. */
bool grant_open(const struct grant *g, const struct grant_pass *pass, char *out);

/* The opened body with expiresIn corrected to what is left, in place: only what stands before the
 * digits moves. `body` is what grant_open gave, with GRANT_HEADROOM writable bytes before it. */
enum { GRANT_HEADROOM = 20 };
struct span grant_splice_expiry(const struct grant *g, char *body, int64_t now_s);

enum grant_age {
    GRANT_FRESH, /* younger than fresh_for: answer from cache */
    GRANT_WARM,  /* ask the controller, fall back to this */
    GRANT_STALE, /* the same, with more patience */
    GRANT_DEAD,  /* the token expires within dead_before_expiry: never from cache */
};

struct grant_policy {
    int64_t fresh_for_ms, stale_after_ms, dead_before_expiry_ms;
};

enum grant_age grant_age(const struct grant *g, const struct grant_policy *policy, int64_t now_ms);
