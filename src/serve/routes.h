/* The product's table of contents: what an agent or admin can ask for, and what becomes of it. */
#pragma once

#include "base/span.h"
#include "rules/route.h"

struct serve;
struct request;

enum who {
    WHO_ANYONE,        /* the controller judges the token, if any */
    WHO_AGENT,         /* a verified token of this very agent */
    WHO_AGENT_OR_USER, /* the same, or a verified token of a user */
    WHO_NOT_AGENTS,    /* agents' tokens are refused, others are the controller's business */
};

/* What a forwarded call changes here. */
enum effect {
    EFFECT_NONE,
    EFFECT_LET_IN,       /* a connect: 2xx lifts what the controller said to heartbeats */
    EFFECT_FORGET_AGENT, /* credentials or settings: 2xx, or an unknown outcome, forgets the cached
                          * connect; never cancelled */
};

struct route {
    const char *method;  /* NULL: any */
    const char *pattern; /* NULL: any path */
    enum who who;
    enum effect effect;
    bool agent_call;       /* bodies up to 102,400 bytes, as the controller's parser takes them */
    const char *canonical; /* what follows /agents/<id> when forwarded; NULL: the path as sent */
    enum metric_route { ROUTE_CONNECT, ROUTE_HEARTBEAT, ROUTE_DISCONNECT, ROUTE_FORWARD } counted;
    void (*journey)(struct serve *s, struct request *r);
};

/* Always finds one: the last row takes everything. */
const struct route *routes_find(struct span method, const struct route_path *path,
                                struct span params[ROUTE_PARAMS_MAX]);
