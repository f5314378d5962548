/* The two ways this process ends itself: a broken invariant and exhausted memory. Neither can be
 * caused by a client, Redis or the controller: everything they can make grow has a maximum. */
#pragma once

#include <stddef.h>

_Noreturn void panic(const char *file, int line, const char *what);

#define invariant(condition) ((condition) ? (void)0 : panic(__FILE__, __LINE__, #condition))

/* malloc, calloc, realloc and strdup that cannot fail. */
void *must_alloc(size_t size);
void *must_zalloc(size_t size);
void *must_realloc(void *memory, size_t size);
char *must_strdup(const char *text);
/* A copy of `size` bytes. */
void *must_copy(const void *bytes, size_t size);
