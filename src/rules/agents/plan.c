#include "rules/agents/plan.h"

enum grant_age plan_age(const struct plan_facts *facts) {
    if (!facts->known || facts->age == GRANT_DEAD)
        return GRANT_DEAD;
    if (facts->written)
        return GRANT_STALE;
    return facts->owed && facts->age == GRANT_FRESH ? GRANT_WARM : facts->age;
}

bool plan_needs_place(const struct plan_facts *facts) {
    enum grant_age age = plan_age(facts);
    return !facts->no_cache && (age == GRANT_WARM || age == GRANT_STALE);
}

struct plan plan_connect(const struct plan_facts *facts, bool may_ask) {
    enum grant_age age = plan_age(facts);
    if (age == GRANT_DEAD || facts->no_cache)
        return (struct plan){.ask = true};
    if (age == GRANT_FRESH)
        return (struct plan){0};
    if (!may_ask)
        return (struct plan){.refresh = true};
    return (struct plan){.ask = true,
                         .patience_ms = age == GRANT_WARM ? PLAN_WARM_WAIT_MS : PLAN_STALE_WAIT_MS};
}
