#include "base/metric.h"

#include "base/panic.h"

#include <stdatomic.h>
#include <stdlib.h>

enum { THREADS_MAX = 256, CACHE_LINE = 64 };

struct block {
    _Atomic int64_t value[METRIC_COUNT];
};

struct row {
    const char *kind, *family, *labels, *help;
};

static const struct row rows[] = {
#define X(symbol, kind, family, labels, help) {#kind, family, labels, help},
    METRIC_ROWS(X)
#undef X
};

static struct block *_Atomic blocks[THREADS_MAX];
static _Atomic int block_count;
static _Thread_local struct block *own;

/* Blocks outlive their threads: what was counted stays counted. */
static struct block *make_block(void) {
    int slot = atomic_fetch_add(&block_count, 1);
    invariant(slot < THREADS_MAX);
    size_t size = (sizeof(struct block) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    struct block *b = aligned_alloc(CACHE_LINE, size);
    invariant(b);
    memset(b, 0, size);
    atomic_store(&blocks[slot], b);
    return b;
}

void metric_add(enum metric m, int64_t n) {
    if (!own)
        own = make_block();
    /* One writer per block: a plain load and store, no locked instruction. */
    int64_t old = atomic_load_explicit(&own->value[m], memory_order_relaxed);
    atomic_store_explicit(&own->value[m], old + n, memory_order_relaxed);
}

int64_t metric_read(enum metric m) {
    int64_t sum = 0;
    int count = atomic_load(&block_count);
    for (int i = 0; i < count && i < THREADS_MAX; i++) {
        struct block *b = atomic_load(&blocks[i]);
        if (b)
            sum += atomic_load_explicit(&b->value[m], memory_order_relaxed);
    }
    return sum;
}

void metric_render(struct str *out) {
    const char *family = "";
    for (enum metric m = 0; m < METRIC_COUNT; m++) {
        const struct row *r = &rows[m];
        if (strcmp(family, r->family) != 0)
            str_addf(out, "# HELP aiwm_gateway_%s %s\n# TYPE aiwm_gateway_%s %s\n", r->family,
                     r->help, r->family, r->kind);
        family = r->family;
        str_addf(out, "aiwm_gateway_%s%s%s%s %lld\n", r->family, *r->labels ? "{" : "", r->labels,
                 *r->labels ? "}" : "", (long long)metric_read(m));
    }
}
