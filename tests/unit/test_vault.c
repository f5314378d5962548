#include "io/vault.h"

#include <criterion/criterion.h>
#include <string.h>
#include <sys/resource.h>

enum { SIZE = 600 };

Test(vault, gives_each_slot_once_and_cleanses_what_comes_back) {
    struct vault *v = vault_new(16, SIZE);
    size_t slots = vault_slots(v);
    char *taken[16];
    cr_assert_gt(slots, 0);
    for (size_t i = 0; i < slots; i++) {
        taken[i] = vault_take(v);
        cr_assert_not_null(taken[i]);
        memset(taken[i], 'x', SIZE);
    }
    cr_assert_null(vault_take(v));
    vault_give(v, taken[3]);
    char *again = vault_take(v), zero[SIZE] = {0};
    cr_assert_eq(again, taken[3]);
    cr_assert_arr_eq(again, zero, SIZE);
    vault_free(v);
}

Test(vault, takes_what_the_limit_of_locked_memory_allows) {
    struct rlimit limit = {65536, 65536};
    if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0)
        cr_skip_test("the limit of locked memory cannot be set here");
    struct vault *v = vault_new(1024, SIZE);
    /* A privileged process is not bound by the limit. */
    cr_assert_leq(vault_slots(v), 1024);
    if (vault_slots(v) > 0)
        cr_assert_not_null(vault_take(v));
    vault_free(v);
}
