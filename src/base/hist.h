/* How long things took: a histogram of microseconds with three significant digits.
 *
 * The slots are those of HdrHistogram (Gil Tene) for 1 us to 120 s, so that its tools can read what
 * we count: 2048 slots one microsecond wide, then 1024 for each doubling. Recording is one
 * addition; memory is fixed, 144 KiB. Not thread safe: one per thread, added up when somebody
 * looks. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum {
    HIST_MIN_US = 1,
    HIST_MAX_US = 120000000,
    HIST_DIGITS = 3,
    HIST_SLOTS = 18432,
};

struct hist;

struct hist *hist_new(void);
void hist_free(struct hist *h);
void hist_clear(struct hist *h);

/* What lies outside 1 us to 120 s counts as the nearest that does not. */
void hist_record(struct hist *h, int64_t us);
void hist_add(struct hist *to, const struct hist *from);

int64_t hist_count(const struct hist *h);
/* Exact (within 1 us to 120 s); 0 when nothing was recorded. */
int64_t hist_max(const struct hist *h);
int64_t hist_mean(const struct hist *h);
/* The least value that at least `quantile` (0 to 1) of what was recorded does not exceed, rounded
 * up to its slot's end but never above the maximum; 0 when nothing was recorded. */
int64_t hist_quantile(const struct hist *h, double quantile);

/* Slots that are in use: all those with a count are below it. */
size_t hist_slots(const struct hist *h);
int64_t hist_slot_count(const struct hist *h, size_t slot);
/* The largest value that goes into this slot. */
int64_t hist_slot_end(size_t slot);
