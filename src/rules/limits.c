#include "rules/limits.h"

#include "base/panic.h"
#include "base/siphash.h"

#include <pthread.h>
#include <stdlib.h>

enum {
    WAYS = 8,
    STRIPES = 16,       /* locks; a set belongs to one of them */
    KEY_BYTES_MAX = 64, /* longer ones are hashed by their front and their length */
};

struct entry {
    uint64_t key; /* 0: empty */
    int64_t arrival_us;
    uint32_t untold; /* taken since the last export */
};

struct stripe {
    pthread_mutex_t lock;
    char padding[128 - sizeof(pthread_mutex_t)]; /* not two locks in a cache line */
};

struct limits {
    struct stripe stripe[STRIPES];
    uint8_t hash_key[16];
    size_t sets; /* a power of two */
    struct entry *entry;
};

struct limits *limits_new(size_t keys, const uint8_t hash_key[16]) {
    struct limits *t = must_zalloc(sizeof *t);
    for (int i = 0; i < STRIPES; i++)
        pthread_mutex_init(&t->stripe[i].lock, NULL);
    memcpy(t->hash_key, hash_key, sizeof t->hash_key);
    t->sets = 1;
    while (t->sets * WAYS < keys)
        t->sets *= 2;
    t->entry = must_zalloc(t->sets * WAYS * sizeof *t->entry);
    return t;
}

void limits_free(struct limits *t) {
    if (!t)
        return;
    for (int i = 0; i < STRIPES; i++)
        pthread_mutex_destroy(&t->stripe[i].lock);
    free(t->entry);
    free(t);
}

uint64_t limits_key(const struct limits *t, char what, struct span bytes) {
    char memory[KEY_BYTES_MAX + 2];
    size_t len = bytes.len < KEY_BYTES_MAX ? bytes.len : KEY_BYTES_MAX;
    memory[0] = what;
    memory[1] = (char)bytes.len;
    if (len > 0)
        memcpy(memory + 2, bytes.ptr, len);
    uint64_t hash = siphash(t->hash_key, (struct span){memory, len + 2});
    return hash ? hash : 1;
}

/* ---- sets ---- */

static size_t set_of(const struct limits *t, uint64_t key) {
    return key & (t->sets - 1);
}

static struct entry *lock_set(struct limits *t, size_t set) {
    pthread_mutex_lock(&t->stripe[set % STRIPES].lock);
    return t->entry + set * WAYS;
}

static void unlock_set(struct limits *t, size_t set) {
    pthread_mutex_unlock(&t->stripe[set % STRIPES].lock);
}

/* NULL: not there. */
static struct entry *find(struct entry *set, uint64_t key) {
    for (struct entry *e = set; e < set + WAYS; e++)
        if (e->key == key)
            return e;
    return NULL;
}

/* Instead of the idlest, if need be; an empty one is idler than any. */
static struct entry *find_or_make(struct entry *set, uint64_t key) {
    struct entry *idlest = set;
    for (struct entry *e = set; e < set + WAYS; e++) {
        if (e->key == key)
            return e;
        if (e->arrival_us < idlest->arrival_us)
            idlest = e;
    }
    *idlest = (struct entry){.key = key};
    return idlest;
}

/* ---- one key ---- */

bool limits_take(struct limits *t, uint64_t key, const struct limit *limit, int64_t now_us,
                 int64_t *wait_us) {
    size_t at = set_of(t, key);
    struct entry *set = lock_set(t, at), *e = find_or_make(set, key);
    bool taken = limit_take(&e->arrival_us, limit, now_us);
    if (taken)
        e->untold++;
    else
        *wait_us = limit_wait_us(e->arrival_us, limit, now_us);
    unlock_set(t, at);
    return taken;
}

int64_t limits_arrival_us(struct limits *t, uint64_t key) {
    size_t at = set_of(t, key);
    const struct entry *e = find(lock_set(t, at), key);
    int64_t arrival_us = e ? e->arrival_us : 0;
    unlock_set(t, at);
    return arrival_us;
}

int64_t limits_wait_us(struct limits *t, uint64_t key, const struct limit *limit, int64_t now_us) {
    return limit_wait_us(limits_arrival_us(t, key), limit, now_us);
}

void limits_charge(struct limits *t, uint64_t key, const struct limit *limit, int64_t now_us) {
    size_t at = set_of(t, key);
    struct entry *e = find_or_make(lock_set(t, at), key);
    limit_charge(&e->arrival_us, limit, 1, now_us);
    e->untold++;
    unlock_set(t, at);
}

void limits_refund(struct limits *t, uint64_t key, const struct limit *limit) {
    size_t at = set_of(t, key);
    struct entry *e = find(lock_set(t, at), key);
    if (e) {
        limit_refund(&e->arrival_us, limit);
        e->untold -= e->untold > 0;
    }
    unlock_set(t, at);
}

/* ---- several replicas ---- */

static size_t export_set(struct limits *t, size_t at, struct limits_delta *out) {
    size_t count = 0;
    struct entry *set = lock_set(t, at);
    for (struct entry *e = set; e < set + WAYS; e++) {
        if (e->untold == 0)
            continue;
        out[count++] = (struct limits_delta){e->key, e->untold};
        e->untold = 0;
    }
    unlock_set(t, at);
    return count;
}

size_t limits_export(struct limits *t, size_t *cursor, struct limits_delta *out, size_t max) {
    size_t count = 0;
    while (*cursor < t->sets && count + WAYS <= max)
        count += export_set(t, (*cursor)++, out + count);
    if (*cursor == t->sets)
        *cursor = 0;
    return count;
}

void limits_import(struct limits *t, const struct limits_delta *others, const struct limit *limit,
                   int64_t now_us) {
    size_t at = set_of(t, others->key);
    struct entry *e = find_or_make(lock_set(t, at), others->key);
    limit_charge(&e->arrival_us, limit, others->count, now_us);
    unlock_set(t, at);
}
