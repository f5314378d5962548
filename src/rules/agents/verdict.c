#include "rules/agents/verdict.h"

#include "base/panic.h"

#include <stdlib.h>

void verdict_note(struct agent *agent, int status, uint64_t token, const char message[256],
                  int64_t now_ms) {
    if (!agent->verdict)
        agent->verdict = must_zalloc(sizeof *agent->verdict);
    struct verdict *v = agent->verdict;
    v->status = status;
    v->token = status == 401 ? token : 0;
    v->until_ms = now_ms + VERDICT_MS;
    memcpy(v->message, message, sizeof v->message);
}

const struct verdict *verdict_for(const struct agents *agents, struct agent *agent,
                                  struct span token, int64_t now_ms) {
    struct verdict *v = agent->verdict;
    if (v && now_ms >= v->until_ms) {
        verdict_forget(agent);
        return NULL;
    }
    bool holds = v && (v->token == 0 || v->token == agents_token_hash(agents, token));
    return holds ? v : NULL;
}

void verdict_forget(struct agent *agent) {
    free(agent->verdict);
    agent->verdict = NULL;
}

int64_t verdict_left_ms(const struct agent *agent, int64_t now_ms) {
    const struct verdict *v = agent->verdict;
    return v && v->until_ms > now_ms ? v->until_ms - now_ms : 0;
}
