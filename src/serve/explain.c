#include "serve/explain.h"

#include "serve/routes.h"

#include <stddef.h>

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
    [EFFECT_PURGED] = "forgets the agent's cached connect",
    [EFFECT_INSTRUCTION] = "makes cached connects with this instruction stale",
    [EFFECT_DEPLOYMENT] = "makes cached connects with this deployment stale",
    [EFFECT_MODELS] = "makes cached connects of all managed agents stale",
    [EFFECT_CONFIGURATION] = "makes cached connects of the organization stale",
};

/* What bounds a route's requests. 0 switches a limit off. */
static const struct {
    enum metric_route route;
    const char *key;
    size_t at; /* of an int64_t in struct config */
    const char *bounds;
} limits[] = {
#define LIMIT(route, group, key, bounds)                                                           \
    { route, #group "." #key, offsetof(struct config, group.key), bounds }
    LIMIT(ROUTE_HEARTBEAT, heartbeat, max_rate, "a second of one agent"),
    LIMIT(ROUTE_HEARTBEAT, queue, heartbeat, "at the controller at once"),
    LIMIT(ROUTE_CONNECT, limits, connects_per_agent, "a minute that ask the controller"),
    LIMIT(ROUTE_CONNECT, limits, connect_failures_per_agent,
          "unknown secrets of an agent a minute"),
    LIMIT(ROUTE_CONNECT, limits, connect_failures_per_ip, "unknown secrets of an address a minute"),
    LIMIT(ROUTE_CONNECT, queue, connect, "at the controller at once"),
    LIMIT(ROUTE_DISCONNECT, limits, api_rate, "a second of one agent"),
    LIMIT(ROUTE_DISCONNECT, limits, api_burst, "of one agent at once"),
    LIMIT(ROUTE_DISCONNECT, limits, control_rate, "a second of one identity, agent or user"),
    LIMIT(ROUTE_DISCONNECT, limits, control_burst, "of one identity at once"),
    LIMIT(ROUTE_DISCONNECT, queue, control, "at the controller at once"),
    LIMIT(ROUTE_FORWARD, limits, api_rate, "a second of one agent"),
    LIMIT(ROUTE_FORWARD, limits, api_burst, "of one agent at once"),
    LIMIT(ROUTE_FORWARD, queue, api, "at the controller at once"),
    {ROUTE_FORWARD, "queue.long", offsetof(struct config, queue.long_calls),
     "long calls at the controller at once"},
    LIMIT(ROUTE_FORWARD, queue, streams, "websockets and event streams at once"),
#undef LIMIT
};

static void add_limits(struct str *out, const struct config *config, enum metric_route route) {
    const char *comma = "";
    STR_ADD(out, "\"limits\":[");
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        if (limits[i].route != route)
            continue;
        int64_t value = *(const int64_t *)(const void *)((const char *)config + limits[i].at);
        str_addf(out, "%s\n {\"key\":\"%s\",\"value\":%lld,\"bounds\":\"%s\"}", comma,
                 limits[i].key, (long long)value, limits[i].bounds);
        comma = ",";
    }
    STR_ADD(out, "]}\n");
}

static void add_cache_rule(struct str *out, const struct config *config, enum metric_route route) {
    if (route != ROUTE_CONNECT)
        STR_ADD(out, "\"cache\":\"never kept\",");
    else if (!config->connect_cache.enabled)
        STR_ADD(out, "\"cache\":\"off (connect_cache.enabled)\",");
    else
        str_addf(out,
                 "\"cache\":\"fresh for %lld s; then asked again, %lld a second for all agents; "
                 "the old one meanwhile, until %lld s before its token ends\",",
                 (long long)config->connect_cache.fresh_for_ms / 1000,
                 (long long)config->connect_cache.refresh_rate,
                 (long long)config->connect_cache.dead_before_expiry_ms / 1000);
}

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
    add_cache_rule(out, config, r->counted);
    str_addf(out, "\"body_max\":%lld,",
             r->call == CALL_AGENT ? (long long)ROUTES_AGENT_BODY_MAX
                                   : (long long)config->forward.max_body);
    add_limits(out, config, r->counted);
    return true;
}
