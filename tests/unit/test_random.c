#include "base/random.h"

#include <criterion/criterion.h>
#include <string.h>

Test(random, a_uuid_is_version_4_and_lower_case) {
    for (int i = 0; i < 200; i++) {
        char id[RANDOM_UUID];
        random_uuid(id);
        for (size_t at = 0; at < sizeof id; at++) {
            bool dash = at == 8 || at == 13 || at == 18 || at == 23;
            cr_assert(dash ? id[at] == '-' : strchr("0123456789abcdef", id[at]) != NULL, "%.36s",
                      id);
        }
        cr_assert_eq(id[14], '4');
        cr_assert(strchr("89ab", id[19]));
    }
}

Test(random, no_two_are_alike_across_refills_and_sizes) {
    enum { COUNT = 500 };
    static uint64_t seen[COUNT];
    for (int i = 0; i < COUNT; i++) {
        seen[i] = random_u64();
        for (int k = 0; k < i; k++)
            cr_assert_neq(seen[i], seen[k]);
    }
    uint8_t large[2000] = {0}, other[2000] = {0};
    random_fill(large, sizeof large);
    random_fill(other, sizeof other);
    cr_assert_neq(memcmp(large, other, sizeof large), 0);
    int zeros = 0;
    for (size_t i = 0; i < sizeof large; i++)
        zeros += large[i] == 0;
    cr_assert_lt(zeros, 100, "all of it is filled");
}
