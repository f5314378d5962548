#include "rules/agents/agents.h"

#include "base/metric.h"
#include "base/panic.h"
#include "base/siphash.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    SHARDS = AGENTS_SHARDS,
    BUCKETS_FIRST = 64,
    LOOKS_MAX = 16, /* entries that are looked at for one to drop: a lock is held meanwhile */
};

struct shard {
    _Alignas(64) pthread_mutex_t lock; /* a cache line of its own */
    struct agent **bucket;
    size_t buckets, count;
    struct list recent, granted;
    size_t memory; /* bytes in grants */
};

struct agents {
    struct shard shard[SHARDS];
    uint8_t key[16];
    size_t memory_max, count_max; /* per shard */
    _Atomic uint64_t purges;
    _Atomic int64_t revoked; /* agents with a revocation */
};

void bytes_set(struct bytes *b, struct span value) {
    if (value.len > b->cap) {
        b->ptr = must_realloc(b->ptr, value.len);
        b->cap = (uint32_t)value.len;
    }
    if (value.len > 0)
        memcpy(b->ptr, value.ptr, value.len);
    b->len = (uint32_t)value.len;
}

uint64_t agents_hash(const struct agents *table, const struct agent_id *id) {
    return siphash(table->key, (struct span){(const char *)id->bytes, sizeof id->bytes});
}

uint64_t agents_token_hash(const struct agents *table, struct span token) {
    const char *dot = token.len > 0 ? memrchr(token.ptr, '.', token.len) : NULL;
    struct span signature = dot ? span_from(token, (size_t)(dot - token.ptr) + 1) : token;
    uint64_t hash = siphash(table->key, signature);
    return hash ? hash : 1;
}

static size_t shard_index(uint64_t hash) {
    return hash % SHARDS;
}

size_t agents_owner(const struct agents *table, const struct agent_id *id, size_t workers) {
    return shard_index(agents_hash(table, id)) % workers;
}

struct agents *agents_new(size_t memory, size_t max_agents, const uint8_t key[16]) {
    struct agents *table = aligned_alloc(64, sizeof *table);
    invariant(table);
    memset(table, 0, sizeof *table);
    memcpy(table->key, key, sizeof table->key);
    table->memory_max = memory / SHARDS;
    table->count_max = max_agents / SHARDS + 1;
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *s = &table->shard[i];
        pthread_mutex_init(&s->lock, NULL);
        list_init(&s->recent);
        list_init(&s->granted);
        s->buckets = BUCKETS_FIRST;
        s->bucket = must_zalloc(s->buckets * sizeof *s->bucket);
    }
    return table;
}

static size_t grant_size(const struct grant *g) {
    return g ? sizeof *g + g->sealed_len : 0;
}

static struct shard *shard_of(struct agents *table, const struct agent *agent) {
    return &table->shard[shard_index(agent->hash)];
}

static struct agent **find(struct shard *s, uint64_t hash, const struct agent_id *id) {
    struct agent **at = &s->bucket[(hash / SHARDS) % s->buckets];
    while (*at && !agent_id_equal(&(*at)->id, id))
        at = &(*at)->next;
    return at;
}

static void grow(struct shard *s) {
    size_t old_count = s->buckets;
    struct agent **old = s->bucket;
    s->buckets *= 2;
    s->bucket = must_zalloc(s->buckets * sizeof *s->bucket);
    for (size_t i = 0; i < old_count; i++) {
        for (struct agent *a = old[i], *next; a; a = next) {
            next = a->next;
            struct agent **at = &s->bucket[(a->hash / SHARDS) % s->buckets];
            a->next = *at;
            *at = a;
        }
    }
    free(old);
}

static struct agent *add(struct shard *s, uint64_t hash, const struct agent_id *id) {
    if (s->count >= s->buckets)
        grow(s);
    struct agent *a = must_zalloc(sizeof *a);
    a->id = *id;
    a->hash = hash;
    a->scheduled_ms = -1;
    beat_init(&a->beat);
    list_init(&a->recent);
    list_init(&a->granted);
    list_init(&a->flights);
    list_init(&a->waiters);
    struct agent **at = find(s, hash, id);
    *at = a;
    s->count++;
    metric_add(METRIC_AGENTS_KNOWN, 1);
    return a;
}

static void note_grant(struct shard *s, struct agent *a) {
    list_remove(&a->granted);
    if (a->grant)
        list_push_front(&s->granted, &a->granted);
}

struct agent *agents_lock(struct agents *table, const struct agent_id *id, bool create) {
    uint64_t hash = agents_hash(table, id);
    struct shard *s = &table->shard[shard_index(hash)];
    pthread_mutex_lock(&s->lock);
    struct agent *a = *find(s, hash, id);
    if (!a && create)
        a = add(s, hash, id);
    if (!a) {
        pthread_mutex_unlock(&s->lock);
        return NULL;
    }
    list_remove(&a->recent);
    list_push_front(&s->recent, &a->recent);
    note_grant(s, a);
    return a;
}

void agents_set_grant(struct agents *table, struct agent *agent, struct grant *grant) {
    struct shard *s = shard_of(table, agent);
    s->memory += grant_size(grant);
    s->memory -= grant_size(agent->grant);
    metric_add(METRIC_CONNECT_CACHED, (grant != NULL) - (agent->grant != NULL));
    grant_unref(agent->grant);
    agent->grant = grant;
    note_grant(s, agent);
}

static bool is_revoked(const struct revocation *r) {
    return r->why != REVOKED_NOT || r->regenerated_s > 0;
}

static void set_revocation(struct agents *table, struct agent *agent, struct revocation revoked) {
    int change = is_revoked(&revoked) - is_revoked(&agent->revoked);
    agent->revoked = revoked;
    atomic_fetch_add(&table->revoked, change);
}

static void drop(struct agents *table, struct shard *s, struct agent *a) {
    agents_set_grant(table, a, NULL);
    set_revocation(table, a, (struct revocation){0});
    struct agent **at = find(s, a->hash, &a->id);
    *at = a->next;
    list_remove(&a->recent);
    s->count--;
    metric_add(METRIC_AGENTS_KNOWN, -1);
    free(a->body.ptr);
    free(a->token.ptr);
    free(a->verdict);
    free(a);
}

/* Nothing in the world waits for this entry. */
static bool is_droppable(const struct agent *a) {
    return !a->beat.held && !a->beat.sending && !a->beat.blocked && !a->untold && !a->lift_untold &&
           list_empty(&a->flights) && list_empty(&a->waiters);
}

static bool knows_nothing(const struct agent *a) {
    return !a->grant && !a->verdict && a->beat.sequence == 0 && !a->refreshing && !a->must_ask &&
           !is_revoked(&a->revoked) && is_droppable(a);
}

/* Entries that somebody waits for are passed over, and to the front: the next look finds others. */
static void keep_count(struct agents *table, struct shard *s) {
    for (int looks = 0; s->count > table->count_max && looks < LOOKS_MAX; looks++) {
        struct agent *a = container_of(s->recent.prev, struct agent, recent);
        list_remove(&a->recent);
        list_push_front(&s->recent, &a->recent);
        if (is_droppable(a))
            drop(table, s, a);
    }
}

static void keep_memory(struct agents *table, struct shard *s) {
    while (s->memory > table->memory_max && !list_empty(&s->granted))
        agents_set_grant(table, container_of(s->granted.prev, struct agent, granted), NULL);
}

void agents_unlock(struct agents *table, struct agent *agent) {
    struct shard *s = shard_of(table, agent);
    if (knows_nothing(agent))
        drop(table, s, agent);
    keep_count(table, s);
    keep_memory(table, s);
    pthread_mutex_unlock(&s->lock);
}

uint64_t agents_purges(const struct agents *table) {
    return atomic_load(&table->purges);
}

uint64_t agents_count_purge(struct agents *table) {
    return atomic_fetch_add(&table->purges, 1) + 1;
}

void agents_purge(struct agents *table, struct agent *agent) {
    agent->purged = agents_count_purge(table);
    agents_set_grant(table, agent, NULL);
}

void agents_purge_all(struct agents *table) {
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *s = &table->shard[i];
        pthread_mutex_lock(&s->lock);
        list_each_safe (at, &s->recent)
            agents_purge(table, container_of(at, struct agent, recent));
        pthread_mutex_unlock(&s->lock);
    }
}

/* ---- revocation ---- */

void agents_revoke(struct agents *table, struct agent *agent, enum revoked why, int64_t cutoff_s,
                   int64_t now_ms) {
    enum { TOKENS_LIVE_MS = 25 * 3600 * 1000 /* 24 h, and an hour for clocks that differ */ };
    struct revocation revoked = agent->revoked;
    if (why == REVOKED_REGENERATED) {
        /* An agent that takes its new secret may connect within the same second. */
        revoked.regenerated_s = cutoff_s - 1;
    } else {
        revoked.why = why;
        revoked.cutoff_s = cutoff_s;
    }
    revoked.until_ms = now_ms + TOKENS_LIVE_MS;
    set_revocation(table, agent, revoked);
}

void agents_readmit(struct agents *table, struct agent *agent) {
    struct revocation revoked = agent->revoked;
    revoked.why = REVOKED_NOT;
    set_revocation(table, agent, revoked);
}

bool agents_any_revoked(const struct agents *table) {
    return atomic_load_explicit(&table->revoked, memory_order_relaxed) > 0;
}

enum revoked agents_revoked(struct agents *table, struct agent *agent, int64_t issued_s,
                            int64_t now_ms) {
    const struct revocation *r = &agent->revoked;
    if (is_revoked(r) && now_ms >= r->until_ms)
        set_revocation(table, agent, (struct revocation){0});
    if (r->why != REVOKED_NOT && issued_s <= r->cutoff_s + AGENTS_CLOCKS_APART_S)
        return r->why;
    return r->regenerated_s > 0 && issued_s <= r->regenerated_s ? REVOKED_REGENERATED : REVOKED_NOT;
}

void agents_each_owned(struct agents *table, size_t worker, size_t workers,
                       void (*visit)(void *arg, struct agent *agent), void *arg) {
    for (size_t i = worker; i < SHARDS; i += workers) {
        struct shard *s = &table->shard[i];
        pthread_mutex_lock(&s->lock);
        list_each_safe (at, &s->recent)
            visit(arg, container_of(at, struct agent, recent));
        pthread_mutex_unlock(&s->lock);
    }
}

void agents_free(struct agents *table) {
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *s = &table->shard[i];
        list_each_safe (at, &s->recent)
            drop(table, s, container_of(at, struct agent, recent));
        free(s->bucket);
        pthread_mutex_destroy(&s->lock);
    }
    free(table);
}
