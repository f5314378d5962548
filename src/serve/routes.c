#include "serve/routes.h"

#include "serve/connect.h"
#include "serve/disconnect.h"
#include "serve/forward.h"
#include "serve/heartbeat.h"

static const struct route routes[] = {
    {"POST", "/agents/:id/connect", WHO_ANYONE, EFFECT_LET_IN, true, "/connect", ROUTE_CONNECT,
     connect_journey},
    {"POST", "/agents/:id/heartbeat", WHO_AGENT, EFFECT_NONE, true, "/heartbeat", ROUTE_HEARTBEAT,
     heartbeat_journey},
    {"POST", "/agents/:id/disconnect", WHO_AGENT_OR_USER, EFFECT_NONE, true, "/disconnect",
     ROUTE_DISCONNECT, disconnect_journey},
    {"POST", "/agents/:id/credentials/regenerate", WHO_NOT_AGENTS, EFFECT_FORGET_AGENT, true,
     "/credentials/regenerate", ROUTE_FORWARD, forward_journey},
    {"PUT", "/agents/:id", WHO_ANYONE, EFFECT_FORGET_AGENT, false, "", ROUTE_FORWARD,
     forward_journey},
    {"DELETE", "/agents/:id", WHO_ANYONE, EFFECT_FORGET_AGENT, false, "", ROUTE_FORWARD,
     forward_journey},
    {NULL, NULL, WHO_ANYONE, EFFECT_NONE, false, NULL, ROUTE_FORWARD, forward_journey},
};

const struct route *routes_find(struct span method, const struct route_path *path,
                                struct span params[ROUTE_PARAMS_MAX]) {
    const struct route *r = routes;
    while (r->pattern &&
           !(span_equal(span_of(r->method), method) && route_matches(r->pattern, path, params)))
        r++;
    return r;
}
