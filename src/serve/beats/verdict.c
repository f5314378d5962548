#include "serve/beats/verdict.h"

#include "base/clock.h"
#include "base/panic.h"
#include "rules/wire/payload.h"
#include "serve/beats/comeback.h"
#include "serve/cache/purge.h"

#include <stdlib.h>

bool verdict_said(const struct fetched *result, char message[256]) {
    bool is_no = result->status == 401 || result->status == 403 || result->status == 404;
    return result->error == ERR_OK && is_no &&
           payload_is_verdict(result->status, result->body, message);
}

void verdict_keep(struct serve *s, struct agent *agent, uint64_t token_hash, int status,
                  const char *message) {
    if (!agent->verdict)
        agent->verdict = must_zalloc(sizeof *agent->verdict);
    struct verdict *v = agent->verdict;
    v->status = status;
    v->token = status == 401 ? token_hash : 0;
    v->until_ms = clock_mono_ms() + VERDICT_MS;
    memcpy(v->message, message, sizeof v->message);
    purge_forget(s->shared, agent, false);
}

const struct verdict *verdict_for(struct serve *s, struct agent *agent, struct span token) {
    struct verdict *v = agent->verdict;
    if (v && clock_mono_ms() >= v->until_ms) {
        verdict_forget(agent);
        return NULL;
    }
    bool holds = v && (v->token == 0 || v->token == agents_token_hash(s->shared->agents, token));
    return holds ? v : NULL;
}

void verdict_forget(struct agent *agent) {
    free(agent->verdict);
    agent->verdict = NULL;
}

void verdict_lift(struct serve *s, struct agent *agent) {
    verdict_forget(agent);
    comeback_note_lift(s, agent);
}

struct durable_verdict verdict_to_share(const struct agent *agent) {
    const struct verdict *v = agent->verdict;
    int64_t left_ms = v ? v->until_ms - clock_mono_ms() : 0;
    if (left_ms <= 0)
        return (struct durable_verdict){0};
    return (struct durable_verdict){v->status, v->token, v->message, left_ms};
}
