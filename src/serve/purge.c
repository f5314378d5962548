#include "serve/purge.h"

#include "base/clock.h"
#include "serve/request.h"
#include "serve/verdict.h"

/* ---- what is written ---- */

/* The organizations whose configuration this may be: the header's, to which it moves the request of
 * those who may, and the token's. */
static void add_organizations(const struct request *r, struct tag_set *tags) {
    struct span named = http_field(&r->http->fields, SPAN("x-organization-id"));
    if (named.len > 0)
        tag_set_add(tags, tag_of(TAG_ORGANIZATION, named));
    if (r->verified && r->claims.org[0] != '\0')
        tag_set_add(tags, tag_of(TAG_ORGANIZATION, span_of(r->claims.org)));
    if (tags->count == 0)
        tag_set_add(tags, tag_of(TAG_EVERYTHING, SPAN("")));
    /* Answers whose organization we could not read. */
    tag_set_add(tags, tag_of(TAG_ORGANIZATION, SPAN("")));
}

struct written purge_plan(struct serve *s, struct request *r) {
    struct written w = {.effect = r->route->effect,
                        .agent = r->agent,
                        .purges_seen = agents_purges(s->shared->agents)};
    if (purge_matters(&w)) {
        request_authenticate(s, r);
        w.verified = r->verified;
    }
    switch (w.effect) {
    case EFFECT_AGENT_WRITTEN:
        w.status = payload_read_agent_status(r->body);
        break;
    case EFFECT_INSTRUCTION:
        tag_set_add(&w.tags, tag_of(TAG_INSTRUCTION, r->params[0]));
        break;
    case EFFECT_DEPLOYMENT:
        tag_set_add(&w.tags, tag_of(TAG_DEPLOYMENT, r->params[0]));
        break;
    case EFFECT_MODELS:
        tag_set_add(&w.tags, tag_of(TAG_MANAGED, SPAN("")));
        break;
    case EFFECT_CONFIGURATION:
        add_organizations(r, &w.tags);
        break;
    default:
        break;
    }
    return w;
}

bool purge_matters(const struct written *w) {
    return w->effect != EFFECT_NONE && w->effect != EFFECT_LET_IN;
}

/* ---- what follows ---- */

int64_t purge_answered_s(struct span date) {
    int64_t answered_s;
    if (date.len > 0 && clock_parse_http(date.ptr, date.len, &answered_s))
        return answered_s;
    return clock_wall_ms() / 1000;
}

static enum revoked revokes(const struct serve *s, const struct written *w) {
    if (w->effect == EFFECT_AGENT_DELETED)
        return REVOKED_DELETED;
    if (w->effect == EFFECT_AGENT_WRITTEN && w->status == PAYLOAD_SUSPENDED)
        return REVOKED_SUSPENDED;
    if (w->effect == EFFECT_REVOKED)
        return REVOKED_REGENERATED;
    if (w->effect == EFFECT_REGENERATED && s->shared->config->policy.revoke_on_regenerate)
        return REVOKED_REGENERATED;
    return REVOKED_NOT;
}

static void forget_agent(struct serve *s, const struct written *w, enum ending ending,
                         struct span date) {
    struct agents *agents = s->shared->agents;
    enum revoked revoked = ending == ENDED_WELL ? revokes(s, w) : REVOKED_NOT;
    struct agent *agent = agents_lock(agents, &w->agent, true);
    agents_purge(agents, agent);
    if (revoked != REVOKED_NOT)
        agents_revoke(agents, agent, revoked, purge_answered_s(date), clock_mono_ms());
    else if (ending == ENDED_WELL && w->status == PAYLOAD_NOT_SUSPENDED)
        agents_readmit(agents, agent);
    agents_unlock(agents, agent);
    refusals_forget(s->shared->refusals, &w->agent);
}

static void let_in(struct serve *s, const struct written *w) {
    struct agent *agent = agents_lock(s->shared->agents, &w->agent, false);
    if (!agent)
        return;
    bool still_true = agent->purged <= w->purges_seen;
    if (still_true)
        verdict_lift(s, agent);
    if (still_true)
        agents_readmit(s->shared->agents, agent);
    agents_unlock(s->shared->agents, agent);
}

static void make_stale(struct serve *s, const struct written *w) {
    uint64_t sequence = agents_count_purge(s->shared->agents);
    for (size_t i = 0; i < w->tags.count; i++)
        tags_write(s->shared->tags, w->tags.at[i], sequence);
}

/* A write that nobody we know of asked for has not happened when nobody says that it has: else
 * anyone could make us forget by a request that the controller stumbles over. */
static enum ending believed(const struct written *w, enum ending ending) {
    return ending == ENDED_UNKNOWN && !w->verified ? ENDED_BADLY : ending;
}

void purge_after(struct serve *s, const struct written *w, enum ending ending, struct span date) {
    ending = believed(w, ending);
    switch (w->effect) {
    case EFFECT_NONE:
        return;
    case EFFECT_LET_IN:
        if (ending == ENDED_WELL)
            let_in(s, w);
        return;
    case EFFECT_AGENT_WRITTEN:
    case EFFECT_AGENT_DELETED:
    case EFFECT_REGENERATED:
    case EFFECT_REVOKED:
        if (ending != ENDED_BADLY)
            forget_agent(s, w, ending, date);
        return;
    default:
        if (ending != ENDED_BADLY)
            make_stale(s, w);
    }
}
