#include "serve/purge.h"

void purge_after(struct serve *s, enum effect effect, const struct agent_id *agent) {
    if (effect == EFFECT_NONE)
        return;
    struct agents *agents = s->shared->agents;
    struct agent *a = agents_lock(agents, agent, true);
    agents_purge(agents, a);
    agents_unlock(agents, a);
}
