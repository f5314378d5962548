/* Tokens that were verified, so that each is judged once. Part of rules/trust/token: nobody else
 * looks.
 *
 * A set has a few places; which set is a keyed hash of the signature, which says as much as the
 * whole token: whoever has no key finds no two tokens with one. What is found is compared whole, in
 * constant time. A full set gives up a place at random: agents come round in turn, and in a turn
 * longer than the cache the least recently used entry is always the next one needed, so LRU and
 * clock lose everything where chance keeps most. */
#pragma once

#include "rules/trust/token.h"

struct token_times {
    int64_t expires_s, not_before_s; /* exp; nbf, INT64_MIN when absent */
};

/* Where a token that was not found belongs. */
struct token_place {
    uint64_t hash;
};

struct token_cache;

/* Serves `entries` tokens well (at least 1) and never holds more than twice as many, rounded up to
 * 8. */
struct token_cache *token_cache_new(size_t entries, const uint8_t hash_key[16]);
void token_cache_free(struct token_cache *c);

/* False, and *place, when it is not there. Whether the times are in force is the caller's to judge.
 */
bool token_cache_find(const struct token_cache *c, struct span token, struct token_place *place,
                      struct token_times *times, struct token_claims *claims);
/* Copies the token, which was not found. */
void token_cache_keep(struct token_cache *c, struct span token, const struct token_place *place,
                      const struct token_times *times, const struct token_claims *claims);
