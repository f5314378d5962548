#include "base/metric.h"

#include "base/panic.h"

#include <stdatomic.h>
#include <stdlib.h>

enum { THREADS_MAX = 256, CACHE_LINE = 64 };

/* Upper bounds, as HAProxy's and Prometheus' own defaults go: from a hit in memory to a heartbeat's
 * longest hold. The last bucket is without bound. */
static const struct bound {
    int64_t us;
    const char *le;
} bounds[] = {
    {100, "0.0001"},  {250, "0.00025"}, {1000, "0.001"},  {2500, "0.0025"}, {10000, "0.01"},
    {25000, "0.025"}, {100000, "0.1"},  {250000, "0.25"}, {1000000, "1"},   {2500000, "2.5"},
    {5000000, "5"},   {10000000, "10"}, {30000000, "30"}, {60000000, "60"}, {120000000, "120"},
};
enum { BOUNDS = sizeof bounds / sizeof bounds[0] };

struct timed {
    _Atomic int64_t sum_us;
    _Atomic int64_t count[BOUNDS + 1];
};

struct block {
    _Atomic int64_t value[METRIC_COUNT];
    struct timed timed[METRIC_TIME_COUNT];
};

struct row {
    const char *kind, *family, *labels, *help;
};

static const struct row rows[] = {
#define X(symbol, kind, family, labels, help) {#kind, family, labels, help},
    METRIC_ROWS(X)
#undef X
};

static bool omitted[METRIC_COUNT];
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

/* One writer per block: a plain load and store, no locked instruction. */
static void add(_Atomic int64_t *to, int64_t n) {
    int64_t old = atomic_load_explicit(to, memory_order_relaxed);
    atomic_store_explicit(to, old + n, memory_order_relaxed);
}

void metric_add(enum metric m, int64_t n) {
    if (!own)
        own = make_block();
    add(&own->value[m], n);
}

void metric_time(enum metric_time which, int64_t us) {
    if (!own)
        own = make_block();
    size_t i = 0;
    while (i < BOUNDS && us > bounds[i].us)
        i++;
    add(&own->timed[which].count[i], 1);
    add(&own->timed[which].sum_us, us > 0 ? us : 0);
}

void metric_omit(enum metric m) {
    omitted[m] = true;
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

/* Sums a time's blocks; `count` gets the buckets, not yet added up. */
static int64_t sum_timed(enum metric_time which, int64_t count[BOUNDS + 1]) {
    int64_t sum_us = 0;
    int blocks_now = atomic_load(&block_count);
    memset(count, 0, (BOUNDS + 1) * sizeof *count);
    for (int i = 0; i < blocks_now && i < THREADS_MAX; i++) {
        struct block *b = atomic_load(&blocks[i]);
        for (size_t k = 0; b && k <= BOUNDS; k++)
            count[k] += atomic_load_explicit(&b->timed[which].count[k], memory_order_relaxed);
        sum_us += b ? atomic_load_explicit(&b->timed[which].sum_us, memory_order_relaxed) : 0;
    }
    return sum_us;
}

int64_t metric_time_count(enum metric_time which) {
    int64_t count[BOUNDS + 1], sum = 0;
    (void)sum_timed(which, count);
    for (size_t k = 0; k <= BOUNDS; k++)
        sum += count[k];
    return sum;
}

static const struct row time_rows[] = {
#define X(symbol, family, labels, help) {"histogram", family, labels, help},
    METRIC_TIME_ROWS(X)
#undef X
};

static void render_family(struct str *out, const struct row *r) {
    str_addf(out, "# HELP aiwm_gateway_%s %s\n# TYPE aiwm_gateway_%s %s\n", r->family, r->help,
             r->family, r->kind);
}

static void render_time(struct str *out, enum metric_time which) {
    const struct row *r = &time_rows[which];
    const char *comma = *r->labels ? "," : "", *open = *r->labels ? "{" : "",
               *close = *r->labels ? "}" : "";
    int64_t count[BOUNDS + 1], sum_us = sum_timed(which, count), total = 0;
    for (size_t k = 0; k <= BOUNDS; k++) {
        total += count[k];
        str_addf(out, "aiwm_gateway_%s_bucket{%s%sle=\"%s\"} %lld\n", r->family, r->labels, comma,
                 k < BOUNDS ? bounds[k].le : "+Inf", (long long)total);
    }
    str_addf(out, "aiwm_gateway_%s_sum%s%s%s %lld.%06lld\n", r->family, open, r->labels, close,
             (long long)(sum_us / 1000000), (long long)(sum_us % 1000000));
    str_addf(out, "aiwm_gateway_%s_count%s%s%s %lld\n", r->family, open, r->labels, close,
             (long long)total);
}

static void render_times(struct str *out) {
    const char *family = "";
    for (enum metric_time t = 0; t < METRIC_TIME_COUNT; t++) {
        if (strcmp(family, time_rows[t].family) != 0)
            render_family(out, &time_rows[t]);
        family = time_rows[t].family;
        render_time(out, t);
    }
}

void metric_render(struct str *out) {
    const char *family = "";
    for (enum metric m = 0; m < METRIC_COUNT; m++) {
        const struct row *r = &rows[m];
        if (omitted[m])
            continue;
        if (strcmp(family, r->family) != 0)
            render_family(out, r);
        family = r->family;
        str_addf(out, "aiwm_gateway_%s%s%s%s %lld\n", r->family, *r->labels ? "{" : "", r->labels,
                 *r->labels ? "}" : "", (long long)metric_read(m));
    }
    render_times(out);
}
