#include "serve/connect/facts.h"

#include "base/clock.h"
#include "rules/agents/tags.h"
#include "serve/cache/peers.h"
#include "serve/connect/replay.h"

/* Does the agent get further with the token it would hear? After a change of the JWT secrets that
 * is looked at once; an answer that leads to a 401 is forgotten. */
static bool keeps_trust(struct serve *s, struct agent *agent, const struct grant_pass *pass) {
    if (agent->trusted == s->trust)
        return true;
    if (replay_is_taken(s, agent->grant, pass)) {
        agent->trusted = s->trust;
        return true;
    }
    agents_set_grant(s->shared->agents, agent, NULL);
    return false;
}

struct plan_facts facts_gather(struct serve *s, struct agent *agent, const struct grant_pass *pass,
                               bool no_cache) {
    struct plan_facts facts = {.no_cache = no_cache};
    struct grant_policy policy = replay_policy(s);
    facts.known = agent->grant && grant_is_of(agent->grant, pass) && keeps_trust(s, agent, pass);
    if (!facts.known)
        return facts;
    facts.age = grant_age(agent->grant, &policy, clock_wall_ms());
    facts.owed = agent->owed;
    facts.written = agent->outdated || peers_is_deaf(s->shared) ||
                    tags_written_since(s->shared->tags, &agent->tags, agent->learnt);
    return facts;
}
