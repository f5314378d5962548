#include "stub/counts.h"

void counters_read(const struct counters *counters, struct stub_counts *out) {
#define X(name) out->name = atomic_load_explicit(&counters->name, memory_order_relaxed);
    STUB_COUNT_ROWS(X)
#undef X
}

void counters_reset(struct counters *counters) {
#define X(name) atomic_store_explicit(&counters->name, 0, memory_order_relaxed);
    STUB_COUNT_ROWS(X)
#undef X
}
