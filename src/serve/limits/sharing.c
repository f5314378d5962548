#include "serve/limits/sharing.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/panic.h"
#include "base/random.h"
#include "serve/limits/limiting.h"
#include "serve/redis/keys.h"
#include "serve/redis/scripts.h"
#include "serve/redis/sharing_script.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    JITTER_MS = SHARING_EVERY_MS * 2 / 5,
    SINCE_MAX_US = 1000000, /* what was told later than that begins now */
    NEAR_PART = 2,          /* half of it is used: the others should know */
    DIGITS = 24,
    /* The script's words: how long ago, how many; and of each limit three. */
    WORDS = LIMITING_COUNTS + 2 + 3 * LIMITING_COUNTS,
};

struct sharing {
    struct shared *shared;
    struct redis *redis;
    struct timer tick;
    bool asked;      /* a reply is under way */
    bool is_shared;  /* the last one came */
    bool is_alone;   /* was logged: there are others, and they cannot be told */
    int64_t told_us; /* monotonic: when we told last, successfully or not; 0: never */
    struct limit limit[LIMITING_COUNTS]; /* as told; a gap of 0: there is none */
    struct limits_told chosen[SHARING_KEYS];
    char blob[LIMITING_COUNTS][SHARING_KEYS * SHARING_TOLD_BYTES];
};

/* ---- bytes ---- */

static char *put(char *at, uint64_t n) {
    for (int i = 0; i < 8; i++, n >>= 8)
        *at++ = (char)(n & 0xff);
    return at;
}

static uint64_t get(const char *at) {
    uint64_t n = 0;
    for (int i = 7; i >= 0; i--)
        n = n << 8 | (uint8_t)at[i];
    return n;
}

static struct span spell(int64_t n, char memory[DIGITS]) {
    int len = snprintf(memory, DIGITS, "%lld", (long long)n);
    return (struct span){memory, (size_t)len};
}

/* ---- together or alone ---- */

static void log_change(const struct sharing *sh, int replicas) {
    if (sh->is_alone)
        log_warn("what clients take cannot be told to the other gateways: each allows its part",
                 F_INT("replicas", replicas));
    else
        log_info("what clients take is counted by all gateways together",
                 F_INT("replicas", replicas));
}

/* Until Redis was here for the first time, and where the operator wants each to count for itself,
 * nobody is missed. */
static void note(struct sharing *sh, bool is_shared) {
    int replicas = atomic_load(&sh->shared->replicas);
    bool is_wanted = sh->shared->config->limits.shared;
    bool is_alone = is_wanted && !is_shared && replicas > 1;
    metric_add(METRIC_LIMITS_SHARED, is_shared - sh->is_shared);
    sh->is_shared = is_shared;
    atomic_store(&sh->shared->limits_share, is_alone ? replicas : 1);
    if (is_alone == sh->is_alone)
        return;
    sh->is_alone = is_alone;
    log_change(sh, replicas);
}

/* ---- what we hear ---- */

typedef void take_over(struct limits *t, uint64_t key, int64_t arrival_us);

/* The reply's times are of when Redis spoke, so not before we asked: counted from then nobody waits
 * longer than he must. */
static void hear(struct sharing *sh, enum limiting_count which, struct span blob, take_over *call) {
    struct limits *table = limiting_table(sh->shared->limiting, which);
    for (; blob.len >= SHARING_HEARD_BYTES; blob = span_from(blob, SHARING_HEARD_BYTES)) {
        uint64_t key = get(blob.ptr);
        int64_t ahead_us = (int64_t)get(blob.ptr + 8);
        bool plausible = key != 0 && ahead_us > -(INT64_C(1) << 50) && ahead_us < INT64_C(1) << 50;
        if (plausible)
            call(table, key, sh->told_us + ahead_us);
    }
}

static void on_reply(void *arg, const struct redis_reply *reply) {
    struct sharing *sh = arg;
    sh->asked = false;
    note(sh, reply != NULL);
    for (size_t i = 0; i < LIMITING_COUNTS; i++) {
        if (sh->limit[i].gap_us == 0)
            continue;
        hear(sh, (enum limiting_count)i, redis_text(redis_at(reply, 2 * i)), limits_settle);
        struct span others = redis_text(redis_at(reply, 2 * i + 1));
        hear(sh, (enum limiting_count)i, others, limits_learn);
        metric_add(METRIC_LIMITS_HEARD, (int64_t)(others.len / SHARING_HEARD_BYTES));
    }
}

/* ---- what we tell ---- */

static void count(size_t told, size_t dropped) {
    metric_add(METRIC_LIMITS_TOLD, (int64_t)told);
    metric_add(METRIC_LIMITS_NOT_TOLD, (int64_t)dropped);
}

static struct span gather(struct sharing *sh, enum limiting_count which, int64_t now_us) {
    size_t dropped = 0;
    char *at = sh->blob[which];
    sh->limit[which] = (struct limit){0};
    if (!limiting_limit(sh->shared->config, which, &sh->limit[which]))
        return SPAN("");
    size_t told = limits_export(limiting_table(sh->shared->limiting, which), now_us, sh->chosen,
                                SHARING_KEYS, &dropped);
    for (const struct limits_told *k = sh->chosen; k < sh->chosen + told; k++)
        at = put(put(put(at, k->key), (uint64_t)k->spent_us), (uint64_t)k->ahead_us);
    count(told, dropped);
    return (struct span){sh->blob[which], told * SHARING_TOLD_BYTES};
}

/* What was counted alone is no debt to the others: it was our part. */
static void forget_untold(struct sharing *sh, int64_t now_us) {
    size_t dropped;
    for (size_t i = 0; i < LIMITING_COUNTS; i++)
        (void)limits_export(limiting_table(sh->shared->limiting, (enum limiting_count)i), now_us,
                            NULL, 0, &dropped);
}

/* The words of the script, kept together while they are sent. */
struct wording {
    char key[LIMITING_COUNTS][KEY_MAX], name[LIMITING_COUNTS][32];
    char most[LIMITING_COUNTS][DIGITS], near[LIMITING_COUNTS][DIGITS];
    char since[DIGITS], heard[DIGITS];
    struct span words[WORDS];
};

static void word(struct sharing *sh, size_t i, struct span told, struct wording *w) {
    int64_t replicas = atomic_load(&sh->shared->replicas);
    int64_t burst_us = sh->limit[i].burst * sh->limit[i].gap_us;
    struct span *of_limit = w->words + LIMITING_COUNTS + 2 + 3 * i;
    (void)snprintf(w->name[i], sizeof w->name[i], "limits:%s", limiting_count_names[i]);
    w->words[i] = key_spell(sh->shared, w->name[i], NULL, w->key[i]);
    of_limit[0] = spell(burst_us * (replicas + 1), w->most[i]);
    of_limit[1] = spell(burst_us / NEAR_PART, w->near[i]);
    of_limit[2] = told;
}

static void tell(struct sharing *sh, int64_t now_us) {
    struct wording w;
    int64_t since_us = now_us - sh->told_us;
    size_t told = 0;
    for (size_t i = 0; i < LIMITING_COUNTS; i++) {
        struct span blob = gather(sh, (enum limiting_count)i, now_us);
        told += blob.len;
        word(sh, i, blob, &w);
    }
    w.words[LIMITING_COUNTS] = spell(since_us < SINCE_MAX_US ? since_us : 0, w.since);
    w.words[LIMITING_COUNTS + 1] = spell(SHARING_LEARNT, w.heard);
    sh->told_us = now_us;
    if (told == 0 && atomic_load(&sh->shared->replicas) == 1)
        note(sh, true); /* nothing to say, and nobody to hear */
    else
        sh->asked = redis_run(sh->redis, SCRIPT_SHARE_LIMITS, LIMITING_COUNTS, w.words, WORDS,
                              on_reply, sh);
}

static void on_tick(void *arg) {
    struct sharing *sh = arg;
    int64_t now_us = clock_mono_us();
    bool can = sh->shared->config->limits.shared && redis_is_here(sh->redis);
    if (!can) {
        note(sh, false);
    } else if (!sh->asked) {
        if (!sh->is_shared)
            forget_untold(sh, now_us);
        tell(sh, now_us);
    }
    timer_start(&sh->tick, SHARING_EVERY_MS - JITTER_MS / 2 + (int64_t)(random_u64() % JITTER_MS));
}

struct sharing *sharing_new(struct shared *shared, struct loop *loop, struct redis *redis) {
    struct sharing *sh = must_zalloc(sizeof *sh);
    sh->shared = shared;
    sh->redis = redis;
    timer_init(&sh->tick, loop, on_tick, sh);
    timer_start(&sh->tick, SHARING_EVERY_MS);
    return sh;
}

void sharing_free(struct sharing *sh) {
    if (!sh)
        return;
    timer_stop(&sh->tick);
    free(sh);
}
