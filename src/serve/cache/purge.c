#include "serve/cache/purge.h"

#include "base/clock.h"
#include "serve/cache/peers.h"
#include "serve/request/request.h"

/* ---- what is written ---- */

/* The organizations whose configuration this may be: the header's, to which it moves the request of
 * those who may, and the token's. Of a token that we cannot verify the controller knows. */
static void add_organizations(const struct request *r, struct tag_set *tags) {
    struct span named = http_field(&r->http->fields, SPAN("x-organization-id"));
    if (named.len > 0 && (!r->verified || r->claims.is_universal))
        tag_set_add(tags, tag_of(TAG_ORGANIZATION, named));
    if (r->verified && r->claims.org[0] != '\0')
        tag_set_add(tags, tag_of(TAG_ORGANIZATION, span_of(r->claims.org)));
    if (tags->count == 0)
        tag_set_add(tags, tag_of(TAG_EVERYTHING, SPAN("")));
    /* Answers whose organization we could not read. */
    tag_set_add(tags, tag_of(TAG_ORGANIZATION, SPAN("")));
}

static void note_writer(struct serve *s, struct request *r, struct written *w) {
    request_authenticate(s, r);
    if (!r->verified || r->claims.is_agent)
        return;
    if (r->claims.is_universal) {
        w->writer = WRITER_ANYWHERE;
    } else if (r->claims.org[0] != '\0') {
        w->writer = WRITER_OF_ORG;
        w->org = tag_of(TAG_ORGANIZATION, span_of(r->claims.org));
    }
}

struct written purge_plan(struct serve *s, struct request *r) {
    struct written w = {.effect = r->route->effect,
                        .agent = r->agent,
                        .purges_seen = agents_purges(s->shared->agents),
                        .peers_seen = peers_seen(s->shared)};
    if (purge_matters(&w))
        note_writer(s, r, &w);
    switch (w.effect) {
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

bool purge_reads_answer(const struct written *w) {
    return w->effect == EFFECT_AGENT_WRITTEN;
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

/* Others are told when it changes something: anybody may ask for it as often as he likes. */
static void revoke(struct shared *shared, struct agent *agent, enum revoked why,
                   enum notice_access access, int64_t cutoff_s) {
    struct notice n = notice_about(agent);
    n.access = access;
    n.cutoff_s = cutoff_s;
    if (agent->revoked.why != why)
        peers_tell(shared, &n);
    agents_revoke(shared->agents, agent, why, cutoff_s, clock_mono_ms());
}

void purge_suspend(struct shared *shared, struct agent *agent, int64_t cutoff_s) {
    revoke(shared, agent, REVOKED_SUSPENDED, NOTICE_SUSPENDED, cutoff_s);
}

void purge_delete(struct shared *shared, struct agent *agent, int64_t cutoff_s) {
    revoke(shared, agent, REVOKED_DELETED, NOTICE_DELETED, cutoff_s);
}

void purge_doubt(struct shared *shared, struct agent *agent) {
    struct notice n = notice_about(agent);
    n.asks = true;
    if (!agent->must_ask)
        peers_tell(shared, &n);
    agent->must_ask = true;
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

static void forget_agent(struct serve *s, const struct written *w, struct span date) {
    struct agents *agents = s->shared->agents;
    enum revoked revoked = revokes(s, w);
    bool readmits = w->status == PAYLOAD_NOT_SUSPENDED;
    int64_t cutoff_s = purge_answered_s(date);
    struct agent *agent = agents_lock(agents, &w->agent, true);
    struct notice n = notice_about(agent);
    n.forget = true;
    add_access(&n, revoked, readmits, cutoff_s);
    agents_purge(agents, agent);
    if (w->effect == EFFECT_AGENT_WRITTEN)
        n.asks = agent->must_ask = w->status == PAYLOAD_STATUS_UNSAID;
    if (revoked != REVOKED_NOT)
        agents_revoke(agents, agent, revoked, cutoff_s, clock_mono_ms());
    else if (readmits)
        agents_readmit(agents, agent);
    peers_tell(s->shared, &n);
    agents_unlock(agents, agent);
    refusals_forget(s->shared->refusals, &w->agent);
}

static void make_stale(struct serve *s, const struct tag_set *tags) {
    struct notice n = {.kind = NOTICE_TAGS};
    uint64_t sequence = agents_count_purge(s->shared->agents);
    for (size_t i = 0; i < tags->count; i++) {
        tags_write(s->shared->tags, tags->at[i], sequence);
        n.slots[n.slot_count++] = tags->at[i].slot;
    }
    peers_tell(s->shared, &n);
}

static bool is_about_one_agent(const struct written *w) {
    return w->effect == EFFECT_AGENT_WRITTEN || w->effect == EFFECT_AGENT_DELETED ||
           w->effect == EFFECT_REGENERATED || w->effect == EFFECT_REVOKED ||
           w->effect == EFFECT_PURGED;
}

/* What the writer may have written, as far as the agent's cached connect says whose it is. Where
 * only another replica knows, the writer's organization stands for it. */
static struct tag tag_of_claim(struct serve *s, const struct written *w, bool *is_foreign) {
    char id[AGENT_ID_HEX];
    struct agent *agent = agents_lock(s->shared->agents, &w->agent, false);
    bool is_known = agent && agent->grant;
    *is_foreign = w->writer == WRITER_OF_ORG && is_known && !tag_set_has(&agent->tags, w->org);
    if (agent)
        agents_unlock(s->shared->agents, agent);
    agent_id_text(&w->agent, id);
    return w->writer == WRITER_OF_ORG && !is_known
               ? w->org
               : tag_of(TAG_AGENT, (struct span){id, sizeof id});
}

static void suspect_agent(struct serve *s, const struct written *w) {
    bool is_foreign;
    struct tag_set tags = {0};
    tag_set_add(&tags, tag_of_claim(s, w, &is_foreign));
    if (!is_foreign)
        make_stale(s, &tags);
}

/* Nobody knows whether it was written. Where we do not know of which organization that would be,
 * the writer's own stands for it. */
static void suspect(struct serve *s, const struct written *w) {
    struct tag_set own = {0};
    tag_set_add(&own, w->org);
    if (w->writer == WRITER_UNKNOWN)
        return;
    if (is_about_one_agent(w))
        suspect_agent(s, w);
    else
        make_stale(s, w->writer == WRITER_ANYWHERE ? &w->tags : &own);
}

void purge_after(struct serve *s, const struct written *w, enum ending ending, struct span date) {
    if (!purge_matters(w) || ending == ENDED_BADLY)
        return;
    if (ending == ENDED_UNKNOWN)
        suspect(s, w);
    else if (is_about_one_agent(w))
        forget_agent(s, w, date);
    else
        make_stale(s, &w->tags);
}
