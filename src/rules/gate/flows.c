#include "rules/gate/flows.h"

#include "base/panic.h"
#include "rules/gate/queue.h"

#include <stdatomic.h>
#include <stdlib.h>

/* A slot: ten bits of the agent, six of the flow; 0: nothing is known. */
enum { FLOW_BITS = 6, CHECK_SHIFT = 48 };
_Static_assert(QUEUE_FLOWS <= 1 << FLOW_BITS, "a flow fits");

struct slot {
    _Atomic uint16_t says;
};

struct flows {
    size_t size; /* a power of two */
    struct slot *slot;
};

struct flows *flows_new(size_t agents) {
    struct flows *f = must_zalloc(sizeof *f);
    f->size = 1;
    while (f->size < agents)
        f->size *= 2;
    f->slot = must_zalloc(f->size * sizeof *f->slot);
    return f;
}

void flows_free(struct flows *f) {
    if (!f)
        return;
    free(f->slot);
    free(f);
}

uint64_t flows_of(uint64_t organization) {
    return 1 + organization % (QUEUE_FLOWS - 1);
}

/* Bits that do not choose the slot. */
static uint16_t check_of(uint64_t agent) {
    return (uint16_t)(agent >> CHECK_SHIFT << FLOW_BITS);
}

void flows_note(struct flows *f, uint64_t agent, uint64_t flow) {
    uint16_t says = (uint16_t)(check_of(agent) | flow % QUEUE_FLOWS);
    atomic_store_explicit(&f->slot[agent & (f->size - 1)].says, says, memory_order_relaxed);
}

uint64_t flows_find(const struct flows *f, uint64_t agent) {
    uint16_t says =
        atomic_load_explicit(&f->slot[agent & (f->size - 1)].says, memory_order_relaxed);
    bool is_his = (says ^ check_of(agent)) < QUEUE_FLOWS;
    return is_his ? says % QUEUE_FLOWS : FLOW_UNKNOWN;
}
