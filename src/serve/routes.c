#include "serve/routes.h"

#include "serve/beats/disconnect.h"
#include "serve/beats/heartbeat.h"
#include "serve/connect/connect.h"
#include "serve/forward/forward.h"

static const struct route routes[] = {
    {"POST", "/agents/:id/heartbeat", WHO_AGENT, EFFECT_NONE, CALL_AGENT, "/heartbeat",
     ROUTE_HEARTBEAT, heartbeat_journey}, /* nearly all there is */
    {"POST", "/agents/:id/connect", WHO_ANYONE, EFFECT_LET_IN, CALL_AGENT, "/connect",
     ROUTE_CONNECT, connect_journey},
    {"POST", "/agents/:id/disconnect", WHO_AGENT_OR_USER, EFFECT_NONE, CALL_AGENT, "/disconnect",
     ROUTE_DISCONNECT, disconnect_journey},
    {"POST", "/agents/:id/credentials/regenerate", WHO_NOT_AGENTS, EFFECT_REGENERATED, CALL_AGENT,
     "/credentials/regenerate", ROUTE_FORWARD, forward_journey},
    {"PUT", "/agents/:id", WHO_ANYONE, EFFECT_AGENT_WRITTEN, CALL_OTHER, "", ROUTE_FORWARD,
     forward_journey},
    {"DELETE", "/agents/:id", WHO_ANYONE, EFFECT_AGENT_DELETED, CALL_OTHER, "", ROUTE_FORWARD,
     forward_journey},
    {"write", "/instructions/:id", WHO_ANYONE, EFFECT_INSTRUCTION, CALL_OTHER, NULL, ROUTE_FORWARD,
     forward_journey},
    {"write", "/deployments/:id", WHO_ANYONE, EFFECT_DEPLOYMENT, CALL_OTHER, NULL, ROUTE_FORWARD,
     forward_journey},
    {"write", "/deployments/:id/start", WHO_ANYONE, EFFECT_DEPLOYMENT, CALL_OTHER, NULL,
     ROUTE_FORWARD, forward_journey},
    {"write", "/deployments/:id/stop", WHO_ANYONE, EFFECT_DEPLOYMENT, CALL_OTHER, NULL,
     ROUTE_FORWARD, forward_journey},
    {"write", "/models/*", WHO_ANYONE, EFFECT_MODELS, CALL_OTHER, NULL, ROUTE_FORWARD,
     forward_journey},
    {"write", "/configurations/*", WHO_ANYONE, EFFECT_CONFIGURATION, CALL_OTHER, NULL,
     ROUTE_FORWARD, forward_journey},
    {NULL, "/deployments/:id/inference/*", WHO_ANYONE, EFFECT_NONE, CALL_LONG, NULL, ROUTE_FORWARD,
     forward_journey},
    {NULL, "/util/generate-text", WHO_ANYONE, EFFECT_NONE, CALL_LONG, NULL, ROUTE_FORWARD,
     forward_journey},
    {NULL, "/conversations/:id/summary", WHO_ANYONE, EFFECT_NONE, CALL_LONG, NULL, ROUTE_FORWARD,
     forward_journey},
    {NULL, "/resources/:id/exec", WHO_ANYONE, EFFECT_NONE, CALL_LONG, NULL, ROUTE_FORWARD,
     forward_journey},
    {"POST", "/mcp", WHO_ANYONE, EFFECT_NONE, CALL_LONG, NULL, ROUTE_FORWARD, forward_journey},
    {NULL, NULL, WHO_ANYONE, EFFECT_NONE, CALL_OTHER, NULL, ROUTE_FORWARD, forward_journey},
};

static bool is_method(const char *wanted, struct span method) {
    if (!wanted)
        return true;
    if (wanted[0] != 'w') /* of "write", which is no method */
        return span_equal(span_of(wanted), method);
    return !span_equal(method, SPAN("GET")) && !span_equal(method, SPAN("HEAD")) &&
           !span_equal(method, SPAN("OPTIONS"));
}

/* Every pattern begins with a word: most rows are told apart by its first letter. */
static bool begins_alike(const char *pattern, const struct route_path *path) {
    return path->count > 0 && ((pattern[1] ^ path->segment[0].ptr[0]) & ~0x20) == 0;
}

/* Always finds one: the last row takes everything. */
static const struct route *find(struct span method, const struct route_path *path,
                                struct span params[ROUTE_PARAMS_MAX]) {
    const struct route *r = routes;
    while (r->pattern && !(begins_alike(r->pattern, path) && is_method(r->method, method) &&
                           (r->call == CALL_LONG ? route_begins(r->pattern, path, params)
                                                 : route_matches(r->pattern, path, params))))
        r++;
    return r;
}

enum err routes_match(struct span method, struct span path, struct span prefix, struct match *out) {
    memset(out->params, 0, sizeof out->params);
    out->path = route_strip(path, prefix);
    enum err error = route_split(out->path, &out->parts);
    out->route = find(method, &out->parts, out->params);
    out->has_agent = out->route->canonical && agent_id_parse(out->params[0], &out->agent);
    return error;
}
