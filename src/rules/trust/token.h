/* Who sent this: an HMAC and a strict reader of our own, and libjwt for what is spelled unusually
 * (one wrapper around it, the only file that includes jwt.h).
 *
 * Accepted is what the controller signs and nothing else: HS256, our secret or the previous one,
 * an integer exp in the future, nbf not ahead, no duplicate claims, at most TOKEN_MAX bytes of
 * clean base64url. libjwt checks none of exp, nbf, crit, duplicates or part sizes by itself, and
 * crashes on huge parts, so shape and bounds are checked on the raw bytes first. */
#pragma once

#include "base/err.h"
#include "base/span.h"
#include "rules/agents/agent_id.h"

#include <stdint.h>

enum {
    TOKEN_MAX = 8192,         /* bytes */
    TOKEN_SECRET_STRONG = 32, /* RFC 7518 section 3.2: the key is at least as long as the hash */
    TOKEN_ORG_MAX = 64,
};

/* Why a token was refused: metrics and debug logs only; clients hear "Unauthorized". */
enum token_fault {
    TOKEN_FINE,
    TOKEN_ABSENT,    /* no Authorization, or not "Bearer <token>" */
    TOKEN_MALFORMED, /* size, shape, base64, JSON, duplicate claims, crit */
    TOKEN_ALGORITHM, /* anything but HS256 */
    TOKEN_SIGNATURE,
    TOKEN_EXPIRED,
    TOKEN_NO_EXPIRY,  /* exp absent or not an integer */
    TOKEN_EARLY,      /* nbf ahead, or not an integer */
    TOKEN_NO_SUBJECT, /* sub absent or empty: the controller says "Invalid token payload" */
    TOKEN_FAULT_COUNT
};

struct token_claims {
    bool is_agent;           /* type is "agent" and sub (or agentId) is an agent id */
    struct agent_id agent;   /* valid when is_agent */
    int64_t issued_s;        /* iat; 0 when absent or not an integer */
    int64_t expires_s;       /* exp */
    char org[TOKEN_ORG_MAX]; /* orgId, terminated; "" when absent or longer */
    /* Of others than agents: */
    uint64_t subject;  /* a hash of sub: tells users apart, and is no secret */
    bool is_universal; /* one of its roles begins with "universe.": it may write everywhere */
};

/* Keys, and a bounded cache of verified tokens (exp honoured, keyed hash, whole-token
 * constant-time compare). Not thread safe: one per worker. */
struct token_verifier;

struct token_secrets {
    struct span current;  /* never empty */
    struct span previous; /* empty: none */
};

/* What is wrong with a secret, or NULL. `loud` is set when it may be used but must be warned
 * about (shorter than TOKEN_SECRET_STRONG, or the public default while that is allowed).
 * Refused: empty, a PEM block, the controller's public default unless allowed. */
const char *token_secret_complaint(struct span secret, bool allow_public_default, bool *loud);

/* Copies the secrets. The cache serves `cache_entries` tokens well and never holds more than twice
 * as many (rounded up to 8); 0 turns it off. `hash_key` seeds the keyed hash. */
struct token_verifier *token_verifier_new(const struct token_secrets *secrets, int64_t leeway_s,
                                          size_t cache_entries, const uint8_t hash_key[16]);
void token_verifier_free(struct token_verifier *v);

/* The token in an Authorization value: "Bearer" in any case, one or more spaces, token. */
bool token_from_authorization(struct span value, struct span *token);

/* TOKEN_FINE and *claims, or the fault. `was_cached` (may be NULL) says if the cache answered. */
enum token_fault token_verify(struct token_verifier *v, struct span token, int64_t now_s,
                              struct token_claims *claims, bool *was_cached);

/* What the client hears: ERR_OK, ERR_UNAUTHORIZED or ERR_TOKEN_PAYLOAD. */
enum err token_fault_err(enum token_fault fault);

/* exp and orgId ("" when absent) of a token without checking its signature: for tokens the
 * controller itself just gave us. `org` may be NULL. False when it is no JWT with an integer exp.
 * Bounded like token_verify. */
bool token_peek(struct span token, int64_t *expires_s, char org[TOKEN_ORG_MAX]);
