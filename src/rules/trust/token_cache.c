#include "rules/trust/token_cache.h"

#include "base/bytes16.h"
#include "base/panic.h"
#include "base/siphash.h"

#include <stdlib.h>

enum {
    HASHED = 16, /* of a token's last characters */
    WAYS = 8,    /* a set's tags and pointers fill two cache lines */
};

struct entry {
    int64_t expires_s, not_before_s, issued_s;
    uint64_t subject;
    struct agent_id agent;
    bool is_agent, is_universal;
    uint8_t org_len;
    uint16_t token_len;
    char bytes[]; /* token, org */
};

struct set {
    uint64_t hashes[WAYS];
    struct entry *entries[WAYS]; /* NULL: free */
};

struct token_cache {
    uint8_t hash_key[16];
    size_t set_count;
    uint64_t chance; /* state of a generator; nothing secret hangs on it */
    struct set *sets;
};

static struct entry *entry_new(struct span token, const struct token_times *times,
                               const struct token_claims *claims) {
    size_t org_len = strlen(claims->org);
    struct entry *e = must_alloc(sizeof *e + token.len + org_len);
    e->expires_s = times->expires_s;
    e->not_before_s = times->not_before_s;
    e->issued_s = claims->issued_s;
    e->agent = claims->agent;
    e->is_agent = claims->is_agent;
    e->subject = claims->subject;
    e->is_universal = claims->is_universal;
    e->org_len = (uint8_t)org_len;
    e->token_len = (uint16_t)token.len;
    memcpy(e->bytes, token.ptr, token.len);
    memcpy(e->bytes + token.len, claims->org, org_len);
    return e;
}

static void entry_claims(const struct entry *e, struct token_claims *out) {
    out->is_agent = e->is_agent;
    out->subject = e->subject;
    out->is_universal = e->is_universal;
    out->agent = e->agent;
    out->issued_s = e->issued_s;
    out->expires_s = e->expires_s;
    memcpy(out->org, e->bytes + e->token_len, e->org_len);
    out->org[e->org_len] = '\0';
}

static struct set *set_of(const struct token_cache *c, uint64_t hash) {
    return &c->sets[hash % c->set_count];
}

/* Tells nothing by its time, as CRYPTO_memcmp, but sixteen bytes a step: for every request a whole
 * token is compared. */
static bool equal_in_constant_time(const char *a, const char *b, size_t len) {
    sixteen_bytes differ = {0};
    uint64_t half[2];
    uint8_t rest = 0;
    size_t at = 0;
    for (; len - at >= sizeof differ; at += sizeof differ)
        differ |= sixteen_at(a + at) ^ sixteen_at(b + at);
    for (; at < len; at++)
        rest |= (uint8_t)(a[at] ^ b[at]);
    memcpy(half, &differ, sizeof half);
    return (half[0] | half[1] | rest) == 0;
}

static uint64_t hash_of(const struct token_cache *c, struct span token) {
    size_t before = token.len > HASHED ? token.len - HASHED : 0;
    return siphash(c->hash_key, span_from(token, before));
}

static struct entry *find_in(const struct set *set, uint64_t hash, struct span token) {
    for (unsigned way = 0; way < WAYS; way++) {
        struct entry *e = set->entries[way];
        if (e && set->hashes[way] == hash && e->token_len == token.len &&
            equal_in_constant_time(e->bytes, token.ptr, token.len))
            return e;
    }
    return NULL;
}

/* A free place, or any. */
static unsigned free_way(struct token_cache *c, const struct set *set) {
    for (unsigned way = 0; way < WAYS; way++)
        if (!set->entries[way])
            return way;
    c->chance = c->chance * 6364136223846793005 + 1442695040888963407; /* Knuth's MMIX */
    return (unsigned)(c->chance >> 32) % WAYS;
}

struct token_cache *token_cache_new(size_t entries, const uint8_t hash_key[16]) {
    struct token_cache *c = must_zalloc(sizeof *c);
    memcpy(c->hash_key, hash_key, sizeof c->hash_key);
    /* Twice the places: with as many as tokens, every fourth token would find its set full. */
    c->set_count = (2 * entries + WAYS - 1) / WAYS;
    c->sets = must_zalloc(c->set_count * sizeof *c->sets);
    return c;
}

void token_cache_free(struct token_cache *c) {
    if (!c)
        return;
    for (size_t i = 0; i < c->set_count; i++)
        for (unsigned way = 0; way < WAYS; way++)
            free(c->sets[i].entries[way]);
    free(c->sets);
    free(c);
}

bool token_cache_find(const struct token_cache *c, struct span token, struct token_place *place,
                      struct token_times *times, struct token_claims *claims) {
    place->hash = hash_of(c, token);
    const struct entry *e = find_in(set_of(c, place->hash), place->hash, token);
    if (!e)
        return false;
    *times = (struct token_times){e->expires_s, e->not_before_s};
    entry_claims(e, claims);
    return true;
}

void token_cache_keep(struct token_cache *c, struct span token, const struct token_place *place,
                      const struct token_times *times, const struct token_claims *claims) {
    struct set *set = set_of(c, place->hash);
    unsigned way = free_way(c, set);
    free(set->entries[way]);
    set->entries[way] = entry_new(token, times, claims);
    set->hashes[way] = place->hash;
}
