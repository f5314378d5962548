/* Wiping what was secret, so that no later bug or dump can show it. */
#pragma once

#include <stddef.h>
#include <string.h>

/* Never optimised away, unlike memset. NULL with 0 bytes is fine. */
static inline void secret_cleanse(void *memory, size_t size) {
    if (size > 0)
        explicit_bzero(memory, size);
}
