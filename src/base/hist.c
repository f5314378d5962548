#include "base/hist.h"

#include "base/panic.h"

#include <stdlib.h>
#include <string.h>

/* Half the slots of the first, linear part; each later bucket has as many. */
enum { HALF_BITS = 10, HALF = 1 << HALF_BITS, LINEAR_BITS = HALF_BITS + 1 };

struct hist {
    int64_t count, sum, max;
    int64_t at[HIST_SLOTS];
};

struct hist *hist_new(void) {
    return must_zalloc(sizeof(struct hist));
}

void hist_free(struct hist *h) {
    free(h);
}

void hist_clear(struct hist *h) {
    memset(h, 0, sizeof *h);
}

/* Bucket b holds values below 2^(11 + b), in steps of 2^b; its lower half is bucket b - 1's. */
static size_t slot_of(int64_t us) {
    int width = 64 - __builtin_clzll((unsigned long long)us | (2 * HALF - 1));
    int bucket = width - LINEAR_BITS;
    return ((size_t)bucket << HALF_BITS) + (size_t)(us >> bucket);
}

int64_t hist_slot_end(size_t slot) {
    if (slot < (size_t)2 * HALF)
        return (int64_t)slot;
    int bucket = (int)(slot >> HALF_BITS) - 1;
    int64_t step = (int64_t)(slot - ((size_t)bucket << HALF_BITS));
    return ((step + 1) << bucket) - 1;
}

void hist_record(struct hist *h, int64_t us) {
    us = us < HIST_MIN_US ? HIST_MIN_US : us > HIST_MAX_US ? HIST_MAX_US : us;
    if (us > h->max)
        h->max = us;
    h->at[slot_of(us)]++;
    h->count++;
    h->sum += us;
}

void hist_add(struct hist *to, const struct hist *from) {
    if (from->count == 0)
        return;
    if (from->max > to->max)
        to->max = from->max;
    to->count += from->count;
    to->sum += from->sum;
    for (size_t i = 0; i < HIST_SLOTS; i++)
        to->at[i] += from->at[i];
}

int64_t hist_count(const struct hist *h) {
    return h->count;
}

int64_t hist_max(const struct hist *h) {
    return h->max;
}

int64_t hist_mean(const struct hist *h) {
    return h->count ? h->sum / h->count : 0;
}

int64_t hist_quantile(const struct hist *h, double quantile) {
    double exact = quantile * (double)h->count;
    int64_t wanted = (int64_t)exact, passed = 0;
    /* 0.99 of 1000 is 990.0000000000001 to a double. */
    if (exact - (double)wanted > 1e-6 || wanted == 0)
        wanted++;
    for (size_t i = 0; i < HIST_SLOTS; i++) {
        passed += h->at[i];
        if (passed >= wanted)
            return hist_slot_end(i) < h->max ? hist_slot_end(i) : h->max;
    }
    return h->max;
}

size_t hist_slots(const struct hist *h) {
    return h->count ? slot_of(h->max) + 1 : 0;
}

int64_t hist_slot_count(const struct hist *h, size_t slot) {
    return h->at[slot];
}
