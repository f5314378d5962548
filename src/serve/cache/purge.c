#include "serve/cache/purge.h"

#include "base/clock.h"
#include "serve/cache/peers.h"
#include "serve/request/request.h"

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
                        .purges_seen = agents_purges(s->shared->agents),
                        .peers_seen = peers_seen(s->shared)};
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

static struct notice notice_about(const struct agent *agent) {
    return (struct notice){.kind = NOTICE_AGENT, .agent = agent->id, .seen = INT64_MAX};
}

void purge_forget(struct shared *shared, struct agent *agent, bool only_if_shared) {
    struct notice n = notice_about(agent);
    n.forget = true;
    n.only_if_shared = only_if_shared;
    agents_purge(shared->agents, agent);
    peers_tell(shared, &n);
}

/* Others are told when it is news: a stranger may hear of it as often as he asks. */
void purge_suspend(struct shared *shared, struct agent *agent, int64_t cutoff_s) {
    struct notice n = notice_about(agent);
    n.access = NOTICE_SUSPENDED;
    n.cutoff_s = cutoff_s;
    if (agent->revoked.why != REVOKED_SUSPENDED)
        peers_tell(shared, &n);
    agents_revoke(shared->agents, agent, REVOKED_SUSPENDED, cutoff_s, clock_mono_ms());
}

void purge_readmit(struct shared *shared, struct agent *agent, int64_t seen) {
    struct notice n = notice_about(agent);
    n.access = NOTICE_READMITTED;
    n.seen = seen;
    if (agent->revoked.why != REVOKED_NOT)
        peers_tell(shared, &n);
    agents_readmit(shared->agents, agent);
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

static void add_access(struct notice *n, enum revoked revoked, bool readmits, int64_t cutoff_s) {
    if (revoked == REVOKED_REGENERATED) {
        n->regenerated_s = cutoff_s;
    } else if (revoked != REVOKED_NOT) {
        n->access = revoked == REVOKED_DELETED ? NOTICE_DELETED : NOTICE_SUSPENDED;
        n->cutoff_s = cutoff_s;
    } else if (readmits) {
        n->access = NOTICE_READMITTED;
    }
}

static void forget_agent(struct serve *s, const struct written *w, enum ending ending,
                         struct span date) {
    struct agents *agents = s->shared->agents;
    enum revoked revoked = ending == ENDED_WELL ? revokes(s, w) : REVOKED_NOT;
    bool readmits = ending == ENDED_WELL && w->status == PAYLOAD_NOT_SUSPENDED;
    int64_t cutoff_s = purge_answered_s(date);
    struct agent *agent = agents_lock(agents, &w->agent, true);
    struct notice n = notice_about(agent);
    n.forget = true;
    add_access(&n, revoked, readmits, cutoff_s);
    agents_purge(agents, agent);
    if (revoked != REVOKED_NOT)
        agents_revoke(agents, agent, revoked, cutoff_s, clock_mono_ms());
    else if (readmits)
        agents_readmit(agents, agent);
    peers_tell(s->shared, &n);
    agents_unlock(agents, agent);
    refusals_forget(s->shared->refusals, &w->agent);
}

static void make_stale(struct serve *s, const struct written *w) {
    struct notice n = {.kind = NOTICE_TAGS};
    uint64_t sequence = agents_count_purge(s->shared->agents);
    for (size_t i = 0; i < w->tags.count; i++) {
        tags_write(s->shared->tags, w->tags.at[i], sequence);
        n.slots[n.slot_count++] = w->tags.at[i].slot;
    }
    peers_tell(s->shared, &n);
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
    case EFFECT_LET_IN: /* makes nothing untrue */
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
