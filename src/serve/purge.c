#include "serve/purge.h"

#include "serve/verdict.h"

static void forget(struct agents *agents, const struct agent_id *id) {
    struct agent *agent = agents_lock(agents, id, true);
    agents_purge(agents, agent);
    agents_unlock(agents, agent);
}

static void let_in(struct agents *agents, const struct agent_id *id) {
    struct agent *agent = agents_lock(agents, id, false);
    if (!agent)
        return;
    verdict_lift(agent);
    agents_unlock(agents, agent);
}

void purge_after(struct serve *s, enum effect effect, enum ending ending,
                 const struct agent_id *agent) {
    if (effect == EFFECT_FORGET_AGENT && ending != ENDED_BADLY)
        forget(s->shared->agents, agent);
    if (effect == EFFECT_LET_IN && ending == ENDED_WELL)
        let_in(s->shared->agents, agent);
}
