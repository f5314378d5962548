/* What a row of the table of routes (serve/routes.c) says, and what a path has led to. */
#pragma once

#include "base/span.h"
#include "rules/agents/agent_id.h"
#include "rules/wire/route.h"

struct serve;
struct request;

enum who {
    WHO_ANYONE,        /* the controller judges the token, if any */
    WHO_AGENT,         /* a verified token of this very agent */
    WHO_AGENT_OR_USER, /* the same, or a verified token of a user */
    WHO_NOT_AGENTS,    /* agents' tokens are refused, others are the controller's business */
};

/* What a forwarded call changes here (serve/cache/purge.h). */
enum effect {
    EFFECT_NONE,
    EFFECT_LET_IN,        /* a connect: 2xx lifts what the controller said before */
    EFFECT_AGENT_WRITTEN, /* settings, role, status */
    EFFECT_AGENT_DELETED,
    EFFECT_REGENERATED, /* credentials */
    EFFECT_REVOKED,     /* by an operator: no route has it */
    EFFECT_PURGED,      /* likewise: the cached connect only */
    EFFECT_INSTRUCTION, /* by the path's first parameter */
    EFFECT_DEPLOYMENT,  /* likewise */
    EFFECT_MODELS,
    EFFECT_CONFIGURATION, /* of an organization */
};

enum { ROUTES_AGENT_BODY_MAX = 102400 /* of agent calls; Express' json parser: 100kb */ };

struct route {
    const char *method;  /* NULL: any; "write": any that may change something */
    const char *pattern; /* NULL: any path */
    enum who who;
    enum effect effect;
    enum call_kind {
        CALL_AGENT, /* bodies up to 102,400 bytes, as the controller's parser takes them */
        CALL_OTHER,
        CALL_LONG, /* likewise, and the controller may take minutes by design: permits and timeout
                      of long calls (queue.long, upstream.long_timeout) */
    } call;
    /* A path of one agent: its first parameter is the id, and this follows /agents/<id> when it is
     * forwarded. NULL: any other path, forwarded as it was sent. */
    const char *canonical;
    enum metric_route { ROUTE_CONNECT, ROUTE_HEARTBEAT, ROUTE_DISCONNECT, ROUTE_FORWARD } counted;
    void (*journey)(struct serve *s, struct request *r);
};

/* A request's path with what it leads to. Borrows the path and itself: not to be copied. */
struct match {
    const struct route *route;
    struct span path;                     /* after the prefix was stripped */
    struct route_path parts;              /* what it was taken apart to */
    struct span params[ROUTE_PARAMS_MAX]; /* the route's parameters, decoded */
    bool has_agent; /* the path is one of an agent's, and names a well-formed id */
    struct agent_id agent;
};
