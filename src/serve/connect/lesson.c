#include "serve/connect/lesson.h"

#include "base/clock.h"
#include "rules/agents/refusals.h"
#include "rules/agents/tags.h"
#include "rules/wire/payload.h"
#include "serve/beats/verdict.h"
#include "serve/cache/purge.h"

/* What the answer depends on. */
static struct tag_set tags_of(const struct connect_answer *answer, const struct agent_id *agent) {
    struct tag_set tags = {0};
    char id[AGENT_ID_HEX];
    agent_id_text(agent, id);
    tag_set_add(&tags, tag_of(TAG_AGENT, (struct span){id, sizeof id}));
    tag_set_add(&tags, tag_of(TAG_EVERYTHING, SPAN("")));
    tag_set_add(&tags, tag_of(TAG_ORGANIZATION, span_of(answer->org)));
    if (answer->instruction.len > 0)
        tag_set_add(&tags, tag_of(TAG_INSTRUCTION, answer->instruction));
    if (answer->deployment.len > 0)
        tag_set_add(&tags, tag_of(TAG_DEPLOYMENT, answer->deployment));
    if (answer->has_deployment)
        tag_set_add(&tags, tag_of(TAG_MANAGED, SPAN("")));
    return tags;
}

/* A grant of this answer, or NULL where it is none to keep. */
static struct grant *make_grant(const struct serve *s, const struct grant_pass *pass,
                                const struct fetched *f, struct lesson *l) {
    struct connect_answer answer;
    bool keepable = s->shared->config->connect_cache.enabled && f->error == ERR_OK &&
                    (f->status == 200 || f->status == 201) &&
                    payload_read_connect_answer(f->body, &answer);
    if (!keepable)
        return NULL;
    l->tags = tags_of(&answer, &pass->id);
    if (answer.org[0] != '\0')
        l->flow = flows_of(agents_token_hash(s->shared->agents, span_of(answer.org)));
    struct grant_facts facts = {.status = f->status,
                                .fetched_ms = clock_wall_ms(),
                                .expires_s = answer.expires_s,
                                .expires_in_at = answer.expires_in_at,
                                .expires_in_len = answer.expires_in_len,
                                .content_type = f->content_type};
    return grant_seal(pass, &facts, f->body);
}

void lesson_take(struct lesson *l, struct serve *s, const struct grant_pass *pass,
                 const struct fetched *fetched, uint64_t purges_seen, int64_t peers_seen) {
    *l = (struct lesson){
        .pass = pass, .fetched = fetched, .purges_seen = purges_seen, .peers_seen = peers_seen};
    l->grant = make_grant(s, pass, fetched, l);
}

void lesson_release(struct lesson *l) {
    grant_unref(l->grant);
}

/* Noes that are about the agent, whatever the secret. A stranger's wrong secret leaves the agent's
 * own grant alone. */
static bool is_about_agent(int status, const char *message) {
    return status == 404 || strcmp(message, "Agent is suspended") == 0 ||
           strcmp(message, "Agent has no secret configured") == 0;
}

static void learn_refusal(const struct lesson *l, struct shared *shared, struct agent *agent,
                          const char *message) {
    const struct fetched *f = l->fetched;
    bool opened = agent->grant && grant_is_of(agent->grant, l->pass);
    bool is_suspended = f->status == 401 && strcmp(message, "Agent is suspended") == 0;
    /* An id that was never let in here may be anybody's guess. */
    bool is_deleted = f->status == 404 && agent->grant;
    if (opened || is_about_agent(f->status, message))
        purge_forget(shared, agent, !opened); /* flights that took off earlier bring nothing now */
    if (is_suspended)
        purge_suspend(shared, agent, purge_answered_s(f->date));
    if (is_deleted)
        purge_delete(shared, agent, purge_answered_s(f->date));
    else if (f->status == 404 && agent->beat.sequence != 0)
        purge_doubt(shared, agent);
    if (f->status == 401 || f->status == 404)
        refusals_add(shared->refusals, &agent->id, l->pass->proof, f->status, message,
                     clock_mono_ms());
}

static void learn_grant(const struct lesson *l, const struct serve *s, struct agent *agent) {
    struct shared *shared = s->shared;
    agents_set_grant(shared->agents, agent, grant_ref(l->grant));
    agent->tags = l->tags;
    agent->learnt = l->purges_seen;
    agent->trusted = s->trust; /* the controller's word: it is no older than that */
    agent->outdated = false;
    agent->owed = false;
    if (l->flow != FLOW_UNKNOWN)
        flows_note(shared->flows, agent->hash, l->flow);
}

bool lesson_learn(const struct lesson *l, struct serve *s, struct agent *agent) {
    char message[256];
    const struct fetched *f = l->fetched;
    if (agent->purged > l->purges_seen || (agent->grant && agent->learnt > l->purges_seen))
        return false;
    if (l->grant)
        learn_grant(l, s, agent);
    if (fetched_is_verdict(f, message))
        learn_refusal(l, s->shared, agent, message);
    /* Let in by the controller itself: whatever it said to heartbeats before is over. */
    if (f->error == ERR_OK && f->status / 100 == 2)
        verdict_let_in(s, agent, l->peers_seen);
    return l->grant != NULL;
}
