#include "rules/agents/refusals.h"

#include <criterion/criterion.h>

static struct agent_id agent(int n) {
    return (struct agent_id){{0x6a, [10] = (uint8_t)(n >> 8), [11] = (uint8_t)n}};
}

static void proof_of(int n, uint8_t out[GRANT_PROOF]) {
    memset(out, 0, GRANT_PROOF);
    memcpy(out, &(uint64_t){(uint64_t)n * 0x9e3779b97f4a7c15u}, 8);
}

Test(refusals, one_is_remembered_for_its_time_with_the_controllers_words) {
    struct refusals *r = refusals_new(64, 30000);
    struct agent_id a = agent(1);
    struct refusal found;
    uint8_t proof[GRANT_PROOF];
    proof_of(1, proof);
    refusals_add(r, &a, proof, 401, "Invalid credentials", 1000);
    cr_assert(refusals_find(r, &a, proof, 30999, &found));
    cr_assert_eq(found.status, 401);
    cr_assert_str_eq(found.message, "Invalid credentials");
    cr_assert_not(refusals_find(r, &a, proof, 31000, &found));
    refusals_free(r);
}

Test(refusals, another_secret_and_another_agent_are_not_refused) {
    struct refusals *r = refusals_new(64, 30000);
    struct agent_id a = agent(1), b = agent(2);
    struct refusal found;
    uint8_t proof[GRANT_PROOF], other[GRANT_PROOF];
    proof_of(1, proof);
    proof_of(1, other);
    other[31] = 1; /* the same set, nearly the same bytes */
    refusals_add(r, &a, proof, 401, "Invalid credentials", 0);
    cr_assert_not(refusals_find(r, &a, other, 1, &found));
    cr_assert_not(refusals_find(r, &b, proof, 1, &found));
    refusals_free(r);
}

Test(refusals, a_write_on_the_agent_clears_all_of_its_and_no_other) {
    struct refusals *r = refusals_new(64, 30000);
    struct agent_id a = agent(1), b = agent(2);
    struct refusal found;
    uint8_t proof[3][GRANT_PROOF];
    for (int i = 0; i < 3; i++)
        proof_of(i, proof[i]);
    refusals_add(r, &a, proof[0], 401, "x", 0);
    refusals_add(r, &a, proof[1], 404, "y", 0);
    refusals_add(r, &b, proof[2], 401, "z", 0);
    refusals_forget(r, &a);
    cr_assert_not(refusals_find(r, &a, proof[0], 1, &found));
    cr_assert_not(refusals_find(r, &a, proof[1], 1, &found));
    cr_assert(refusals_find(r, &b, proof[2], 1, &found));
    refusals_free(r);
}

Test(refusals, a_flood_keeps_the_newest_within_bounds) {
    struct refusals *r = refusals_new(256, 30000);
    struct refusal found;
    int kept = 0;
    for (int i = 0; i < 10000; i++) {
        uint8_t proof[GRANT_PROOF];
        struct agent_id a = agent(i);
        proof_of(i, proof);
        refusals_add(r, &a, proof, 404, "gone", i);
        cr_assert(refusals_find(r, &a, proof, i, &found), "the newest is there");
    }
    for (int i = 0; i < 10000; i++) {
        uint8_t proof[GRANT_PROOF];
        struct agent_id a = agent(i);
        proof_of(i, proof);
        kept += refusals_find(r, &a, proof, 10000, &found);
    }
    cr_assert_leq(kept, 256);
    cr_assert_geq(kept, 200);
    refusals_free(r);
}
