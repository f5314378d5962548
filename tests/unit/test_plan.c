#include "rules/agents/plan.h"

#include <criterion/criterion.h>

/* Every cell of the table: what is known x what happened x whether there is a place. */
Test(plan, every_cell_of_the_table) {
    static const struct {
        const char *name;
        struct plan_facts facts;
        bool needs_place;
        struct plan calm, storm;
    } rows[] = {
        {"nothing known", {.known = false}, false, {.ask = true}, {.ask = true}},
        {"dead", {.known = true, .age = GRANT_DEAD}, false, {.ask = true}, {.ask = true}},
        {"dead and written",
         {true, GRANT_DEAD, true, true, false},
         false,
         {.ask = true},
         {.ask = true}},
        {"fresh", {.known = true, .age = GRANT_FRESH}, false, {0}, {0}},
        {"warm", {.known = true, .age = GRANT_WARM}, true, {true, 1000, false}, {.refresh = true}},
        {"stale",
         {.known = true, .age = GRANT_STALE},
         true,
         {true, 3000, false},
         {.refresh = true}},
        {"fresh, owed",
         {.known = true, .age = GRANT_FRESH, .owed = true},
         true,
         {true, 1000, false},
         {.refresh = true}},
        {"stale, owed",
         {.known = true, .age = GRANT_STALE, .owed = true},
         true,
         {true, 3000, false},
         {.refresh = true}},
        {"fresh, written",
         {.known = true, .age = GRANT_FRESH, .written = true},
         true,
         {true, 3000, false},
         {.refresh = true}},
        {"warm, written",
         {.known = true, .age = GRANT_WARM, .written = true},
         true,
         {true, 3000, false},
         {.refresh = true}},
        {"fresh, no-cache",
         {.known = true, .age = GRANT_FRESH, .no_cache = true},
         false,
         {.ask = true},
         {.ask = true}},
        {"stale, no-cache",
         {.known = true, .age = GRANT_STALE, .no_cache = true},
         false,
         {.ask = true},
         {.ask = true}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cr_expect_eq(plan_needs_place(&rows[i].facts), rows[i].needs_place, "%s", rows[i].name);
        for (int may_ask = 0; may_ask < 2; may_ask++) {
            struct plan got = plan_connect(&rows[i].facts, may_ask);
            struct plan want = may_ask ? rows[i].calm : rows[i].storm;
            cr_expect(got.ask == want.ask && got.patience_ms == want.patience_ms &&
                          got.refresh == want.refresh,
                      "%s, %s: ask %d patience %d refresh %d", rows[i].name,
                      may_ask ? "calm" : "storm", got.ask, (int)got.patience_ms, got.refresh);
        }
    }
}
