#include "base/siphash.h"

#include <criterion/criterion.h>

/* The vectors of the paper's reference implementation: key 00..0f, input 00..len-1. */
Test(siphash, agrees_with_the_reference_implementation) {
    static const struct {
        size_t len;
        uint64_t hash;
    } rows[] = {
        {0, 0x726fdb47dd0e0e31}, {1, 0x74f839c593dc67fd},  {7, 0xab0200f58b01d137},
        {8, 0x93f5f5799a932462}, {15, 0xa129ca6149be45e5}, {63, 0x958a324ceb064572},
    };
    uint8_t key[16];
    char bytes[64];
    for (int i = 0; i < 64; i++) {
        bytes[i] = (char)i;
        key[i % 16] = (uint8_t)(i % 16);
    }
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_expect_eq(siphash(key, (struct span){bytes, rows[i].len}), rows[i].hash, "length %zu",
                     rows[i].len);
}
