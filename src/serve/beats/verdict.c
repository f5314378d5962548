#include "serve/beats/verdict.h"

#include "base/clock.h"
#include "rules/agents/verdict.h"
#include "serve/beats/telling.h"
#include "serve/cache/purge.h"

void verdict_keep(struct serve *s, struct agent *agent, uint64_t token_hash, int status,
                  const char *message) {
    verdict_note(agent, status, token_hash, message, clock_mono_ms());
    purge_forget(s->shared, agent, false);
}

void verdict_let_in(struct serve *s, struct agent *agent, int64_t peers_seen) {
    verdict_forget(agent);
    telling_note_lift(s, agent);
    purge_readmit(s->shared, agent, peers_seen);
}
