#include "base/panic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Noreturn void panic(const char *file, int line, const char *what) {
    char text[512];
    int len = snprintf(text, sizeof text, "aiwm-gateway: fatal: %s:%d: %s\n", file, line, what);
    /* Straight to the descriptor: the log's thread may be the one that is broken. */
    if (len > 0 && write(STDERR_FILENO, text, (size_t)len) < 0)
        (void)0;
    abort();
}

static void *checked(void *memory) {
    if (!memory)
        panic(__FILE__, __LINE__, "out of memory");
    return memory;
}

void *must_alloc(size_t size) {
    return checked(malloc(size ? size : 1));
}

void *must_zalloc(size_t size) {
    return checked(calloc(1, size ? size : 1));
}

void *must_realloc(void *memory, size_t size) {
    return checked(realloc(memory, size ? size : 1));
}

char *must_strdup(const char *text) {
    return checked(strdup(text));
}

void *must_copy(const void *bytes, size_t size) {
    void *copy = must_alloc(size);
    if (size)
        memcpy(copy, bytes, size);
    return copy;
}
