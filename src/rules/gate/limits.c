#include "rules/gate/limits.h"

#include "base/panic.h"
#include "base/siphash.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    WAYS = 8,
    STRIPES = 16,       /* locks; a set belongs to one of them */
    KEY_BYTES_MAX = 64, /* longer ones are hashed by their front and their length */
    WORD = 64,          /* sets whose marks share a word */
};

/* Never reached by what is told; where nobody is told it only must not overflow. */
#define UNTOLD_MAX_US (INT64_C(1) << 60)

struct entry {
    uint64_t key; /* 0: empty */
    int64_t arrival_us;
    int64_t untold_us; /* taken since the last export, as time, less what was given back */
};

struct stripe {
    pthread_mutex_t lock;
    char padding[128 - sizeof(pthread_mutex_t)]; /* not two locks in a cache line */
};

struct marks {
    _Atomic uint64_t bits;
};

struct limits {
    struct stripe stripe[STRIPES];
    uint8_t hash_key[16];
    size_t sets; /* a power of two */
    struct entry *entry;
    struct marks *marks; /* a bit a set: something in it may be untold */
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
    t->marks = must_zalloc((t->sets + WORD - 1) / WORD * sizeof *t->marks);
    return t;
}

void limits_free(struct limits *t) {
    if (!t)
        return;
    for (int i = 0; i < STRIPES; i++)
        pthread_mutex_destroy(&t->stripe[i].lock);
    free(t->entry);
    free(t->marks);
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

/* Both are keyed hashes, so nobody can choose two pairs that meet. */
uint64_t limits_key_of_both(uint64_t a, uint64_t b) {
    uint64_t key = (a ^ (b << 32 | b >> 32)) * UINT64_C(0x9e3779b97f4a7c15);
    key ^= key >> 29;
    return key ? key : 1;
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

static void note_untold(struct limits *t, size_t set, struct entry *e, int64_t spent_us) {
    uint64_t bit = UINT64_C(1) << set % WORD;
    if (e->untold_us < UNTOLD_MAX_US && e->untold_us > -UNTOLD_MAX_US)
        e->untold_us += spent_us;
    if ((atomic_load_explicit(&t->marks[set / WORD].bits, memory_order_relaxed) & bit) == 0)
        atomic_fetch_or(&t->marks[set / WORD].bits, bit);
}

/* ---- one key ---- */

bool limits_take(struct limits *t, uint64_t key, const struct limit *limit, int64_t now_us,
                 int64_t *wait_us) {
    size_t at = set_of(t, key);
    struct entry *set = lock_set(t, at), *e = find_or_make(set, key);
    bool taken = limit_take(&e->arrival_us, limit, now_us);
    if (taken)
        note_untold(t, at, e, limit->gap_us);
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
    note_untold(t, at, e, limit->gap_us);
    unlock_set(t, at);
}

void limits_refund(struct limits *t, uint64_t key, const struct limit *limit) {
    size_t at = set_of(t, key);
    struct entry *e = find(lock_set(t, at), key);
    if (e) {
        limit_refund(&e->arrival_us, limit);
        note_untold(t, at, e, -limit->gap_us);
    }
    unlock_set(t, at);
}

/* ---- telling ---- */

/* The `max` that are nearest their limit: a heap whose first is the farthest from it. */
struct choice {
    struct limits_told *heap;
    size_t count, max;
    size_t dropped;
};

/* Two that are as far ahead differ in how quickly they got there. */
static int64_t rank(const struct limits_told *told) {
    return told->ahead_us + told->spent_us;
}

static void swap(struct limits_told *a, struct limits_told *b) {
    struct limits_told kept = *a;
    *a = *b;
    *b = kept;
}

static void rise(struct limits_told *heap, size_t at) {
    for (; at > 0 && rank(&heap[at]) < rank(&heap[(at - 1) / 2]); at = (at - 1) / 2)
        swap(&heap[at], &heap[(at - 1) / 2]);
}

static void sink(struct limits_told *heap, size_t count) {
    for (size_t at = 0, below = 1; below < count; at = below, below = 2 * at + 1) {
        if (below + 1 < count && rank(&heap[below + 1]) < rank(&heap[below]))
            below++;
        if (rank(&heap[at]) <= rank(&heap[below]))
            return;
        swap(&heap[at], &heap[below]);
    }
}

static void choose(struct choice *c, const struct limits_told *told) {
    if (c->count < c->max) {
        c->heap[c->count] = *told;
        rise(c->heap, c->count++);
        return;
    }
    c->dropped++;
    if (c->count == 0 || rank(told) <= rank(&c->heap[0]))
        return;
    c->heap[0] = *told;
    sink(c->heap, c->count);
}

static void export_set(struct limits *t, size_t at, int64_t now_us, struct choice *c) {
    struct entry *set = lock_set(t, at);
    atomic_fetch_and(&t->marks[at / WORD].bits, ~(UINT64_C(1) << at % WORD));
    for (struct entry *e = set; e < set + WAYS; e++) {
        int64_t ahead_us = e->arrival_us > now_us ? e->arrival_us - now_us : 0;
        struct limits_told told = {e->key, e->untold_us, ahead_us};
        if (e->untold_us != 0)
            choose(c, &told);
        e->untold_us = 0;
    }
    unlock_set(t, at);
}

size_t limits_export(struct limits *t, int64_t now_us, struct limits_told *out, size_t max,
                     size_t *dropped) {
    struct choice c = {.heap = out, .max = max};
    for (size_t first = 0; first < t->sets; first += WORD) {
        uint64_t marks = atomic_load(&t->marks[first / WORD].bits);
        for (; marks != 0; marks &= marks - 1)
            export_set(t, first + (size_t)__builtin_ctzll(marks), now_us, &c);
    }
    *dropped = c.dropped;
    return c.count;
}

/* ---- hearing ---- */

void limits_settle(struct limits *t, uint64_t key, int64_t arrival_us) {
    size_t at = set_of(t, key);
    struct entry *e = find_or_make(lock_set(t, at), key);
    e->arrival_us = arrival_us + e->untold_us;
    unlock_set(t, at);
}

void limits_learn(struct limits *t, uint64_t key, int64_t arrival_us) {
    size_t at = set_of(t, key);
    struct entry *e = find_or_make(lock_set(t, at), key);
    int64_t then_us = arrival_us + e->untold_us;
    if (then_us > e->arrival_us)
        e->arrival_us = then_us;
    unlock_set(t, at);
}
