#include "serve/explain.h"

#include "serve/routes.h"

static const char *const journeys[] = {
    [ROUTE_CONNECT] = "answered from the cache, or by the controller: once for all who ask at the "
                      "same time",
    [ROUTE_HEARTBEAT] = "acknowledged here, delivered later; the controller's no comes with the "
                        "next one",
    [ROUTE_DISCONNECT] = "forwarded, in its turn among the agent's heartbeats",
    [ROUTE_FORWARD] = "forwarded as it comes, the answer streamed",
};

static const char *const who[] = {
    [WHO_ANYONE] = "anyone: the controller judges the token, if there is one",
    [WHO_AGENT] = "a verified token of this very agent",
    [WHO_AGENT_OR_USER] = "a verified token of this very agent, or of a user",
    [WHO_NOT_AGENTS] = "not agents (policy.agent_tokens_on_regenerate)",
};

static const char *const effects[] = {
    [EFFECT_NONE] = "nothing",
    [EFFECT_LET_IN] = "lifts what the controller has said against the agent",
    [EFFECT_AGENT_WRITTEN] = "forgets the agent's cached connect; suspended: its tokens too",
    [EFFECT_AGENT_DELETED] = "forgets the agent's cached connect and refuses its tokens",
    [EFFECT_REGENERATED] = "forgets the agent's cached connect",
    [EFFECT_REVOKED] = "refuses the agent's tokens",
    [EFFECT_INSTRUCTION] = "makes cached connects with this instruction stale",
    [EFFECT_DEPLOYMENT] = "makes cached connects with this deployment stale",
    [EFFECT_MODELS] = "makes cached connects of all managed agents stale",
    [EFFECT_CONFIGURATION] = "makes cached connects of the organization stale",
};

static void add(struct str *out, const char *name, struct span value) {
    str_addf(out, "\"%s\":", name);
    str_add_json(out, value);
    STR_ADD(out, ",");
}

bool explain(const struct shared *shared, struct span method, struct span target, struct str *out) {
    const struct config *config = shared->config;
    const char *query = target.len > 0 ? memchr(target.ptr, '?', target.len) : NULL;
    struct span path = {target.ptr, query ? (size_t)(query - target.ptr) : target.len};
    struct match match;
    if (method.len == 0 || path.len == 0 || path.ptr[0] != '/' ||
        routes_match(method, path, span_of(config->upstream.strip_prefix), &match) != ERR_OK)
        return false;
    const struct route *r = match.route;
    STR_ADD(out, "{");
    add(out, "method", method);
    add(out, "path", match.path);
    add(out, "route", span_of(r->pattern ? r->pattern : "(any other)"));
    add(out, "who", span_of(who[r->who]));
    add(out, "journey", span_of(journeys[r->counted]));
    add(out, "afterwards", span_of(effects[r->effect]));
    str_addf(out, "\"body_max\":%lld}\n",
             r->agent_call ? (long long)ROUTES_AGENT_BODY_MAX
                           : (long long)config->forward.max_body);
    return true;
}
