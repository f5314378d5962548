#include "io/vault.h"

#include "base/panic.h"
#include "base/secret.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct vault {
    char *memory; /* NULL: nothing could be locked */
    size_t size, slots, slot_size;
    uint16_t *unused; /* a stack of slot numbers */
    size_t unused_count;
};

static size_t whole_pages(size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (size + page - 1) / page * page;
}

static bool lock_memory(struct vault *v, size_t slots) {
    size_t size = whole_pages(slots * v->slot_size);
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return false;
    if (mlock(memory, size) != 0) {
        munmap(memory, size);
        return false;
    }
    (void)madvise(memory, size, MADV_DONTDUMP);
    v->memory = memory;
    v->size = size;
    v->slots = slots;
    return true;
}

struct vault *vault_new(size_t slots, size_t slot_size) {
    struct vault *v = must_zalloc(sizeof *v);
    invariant(slots <= UINT16_MAX);
    v->slot_size = slot_size;
    while (slots > 0 && !lock_memory(v, slots))
        slots /= 2;
    v->unused = must_zalloc((v->slots + 1) * sizeof *v->unused);
    while (v->unused_count < v->slots) {
        v->unused[v->unused_count] = (uint16_t)v->unused_count;
        v->unused_count++;
    }
    return v;
}

void vault_free(struct vault *v) {
    if (v->memory) {
        secret_cleanse(v->memory, v->size);
        munmap(v->memory, v->size);
    }
    free(v->unused);
    free(v);
}

size_t vault_slots(const struct vault *v) {
    return v->slots;
}

void *vault_take(struct vault *v) {
    if (v->unused_count == 0)
        return NULL;
    return v->memory + v->unused[--v->unused_count] * v->slot_size;
}

void vault_give(struct vault *v, void *slot) {
    size_t number = (size_t)((char *)slot - v->memory) / v->slot_size;
    invariant(number < v->slots && v->unused_count < v->slots);
    secret_cleanse(slot, v->slot_size);
    v->unused[v->unused_count++] = (uint16_t)number;
}
