#include "io/record_memory.h"

#include "base/panic.h"

#include <malloc.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

enum {
    SIZE_MIN = 16384, /* one record's plaintext; with header, tag and padding not over SIZE_MAX */
    SIZE_LARGEST = 20480,
    KEPT = 2, /* one to read with, one to write with */
};

struct kept {
    void *memory[KEPT];
};

static _Thread_local struct kept kept;
static pthread_key_t at_thread_end;

static bool is_record_sized(size_t size) {
    return size >= SIZE_MIN && size <= SIZE_LARGEST;
}

static void *take(size_t size, const char *file, int line) {
    (void)file;
    (void)line;
    for (int i = 0; i < KEPT && is_record_sized(size); i++) {
        void *memory = kept.memory[i];
        if (!memory || malloc_usable_size(memory) < size)
            continue;
        kept.memory[i] = NULL;
        return memory;
    }
    return malloc(size);
}

static void give(void *memory, const char *file, int line) {
    (void)file;
    (void)line;
    if (!memory)
        return;
    for (int i = 0; i < KEPT && is_record_sized(malloc_usable_size(memory)); i++) {
        if (kept.memory[i])
            continue;
        kept.memory[i] = memory;
        pthread_setspecific(at_thread_end, &kept);
        return;
    }
    free(memory);
}

static void *resize(void *memory, size_t size, const char *file, int line) {
    (void)file;
    (void)line;
    return realloc(memory, size);
}

static void free_kept(void *arg) {
    struct kept *k = arg;
    for (int i = 0; i < KEPT; i++) {
        free(k->memory[i]);
        k->memory[i] = NULL;
    }
}

void record_memory_use(void) {
    static bool used;
    if (used)
        return;
    used = true;
    invariant(pthread_key_create(&at_thread_end, free_kept) == 0);
    invariant(CRYPTO_set_mem_functions(take, resize, give) == 1);
}
