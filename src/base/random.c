#include "base/random.h"

#include "base/panic.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

/* One system call per 32 UUIDs: a correlation id is made for every request. */
static _Thread_local struct {
    uint8_t bytes[512];
    size_t left;
} pool;

static void from_kernel(void *out, size_t size) {
    uint8_t *at = out;
    while (size > 0) {
        ssize_t n = getrandom(at, size, 0);
        invariant(n >= 0 || errno == EINTR);
        if (n > 0) {
            at += n;
            size -= (size_t)n;
        }
    }
}

void random_fill(void *out, size_t size) {
    if (size > sizeof pool.bytes) {
        from_kernel(out, size);
        return;
    }
    if (pool.left < size) {
        from_kernel(pool.bytes, sizeof pool.bytes);
        pool.left = sizeof pool.bytes;
    }
    uint8_t *taken = pool.bytes + sizeof pool.bytes - pool.left;
    memcpy(out, taken, size);
    memset(taken, 0, size);
    pool.left -= size;
}

uint64_t random_u64(void) {
    uint64_t value;
    random_fill(&value, sizeof value);
    return value;
}

void random_uuid(char out[RANDOM_UUID]) {
    static const char digits[] = "0123456789abcdef";
    uint8_t raw[16];
    random_fill(raw, sizeof raw);
    raw[6] = (uint8_t)((raw[6] & 0x0f) | 0x40);
    raw[8] = (uint8_t)((raw[8] & 0x3f) | 0x80);
    char *at = out;
    for (size_t i = 0; i < sizeof raw; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *at++ = '-';
        *at++ = digits[raw[i] >> 4];
        *at++ = digits[raw[i] & 15];
    }
}
