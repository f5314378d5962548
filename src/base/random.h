/* Unpredictable bytes from the kernel. Thread safe. */
#pragma once

#include <stddef.h>
#include <stdint.h>

void random_fill(void *out, size_t size);
uint64_t random_u64(void);

enum { RANDOM_UUID = 36 };

/* A version 4 UUID (RFC 9562 section 5.4), lower case, not terminated. */
void random_uuid(char out[RANDOM_UUID]);
