/* A request that is being judged: which route it took, whose it is, what it may, and how it looks
 * to the controller. */
#pragma once

#include "base/err.h"
#include "rules/gate/lockout.h"
#include "rules/wire/client_address.h"
#include "rules/wire/headers.h"
#include "rules/wire/payload.h"
#include "serve/request/context.h"
#include "serve/request/route.h"

enum { REQUEST_ALLOWANCE_MAX = 128 };

/* What a connect took from the limits (serve/limits/limiting); all zero: nothing. */
struct attempt {
    uint64_t agent, site, pair; /* keys; of the site 0: it counts against no address */
    bool unknown;               /* the secret: a refusal counts against its agent, too */
    bool taken;                 /* from the connects */
    enum lockout_hold hold;     /* of the agent's tries */
};

/* A request being judged; lives on the stack. Spans borrow the server's bytes. */
struct request {
    struct exchange *x;
    const struct http_request *http;
    struct span body;
    const struct route *route;
    struct span params[ROUTE_PARAMS_MAX]; /* the route's parameters, decoded */
    bool has_agent; /* the path is one of an agent's, and names a well-formed id */
    struct agent_id agent;
    struct address client; /* whose request it is: the peer, or whom a trusted proxy names */
    struct span path;      /* after the prefix was stripped: what errors quote with the query */
    struct span correlation_id;
    char correlation_memory[HEADERS_CORRELATION_MAX];
    struct span token;          /* presented, perhaps not verified; empty: none */
    struct token_claims claims; /* valid when `verified` */
    bool authenticated;         /* has been done */
    bool verified;
    enum token_fault fault;
    struct attempt attempt;
    char allowance[REQUEST_ALLOWANCE_MAX]; /* RateLimit fields of the answer (serve/limits/limiting)
                                            */
    size_t allowance_len;
};

/* Counts a token that is refused, by reason. */
void request_count_refused_token(enum token_fault fault);
/* Verifies the presented token (once); r->verified and r->fault say the result. */
void request_authenticate(struct serve *s, struct request *r);
/* ERR_OK, or what the route's `who`, revocation and the policy say to this token. */
enum err request_authorize(struct serve *s, struct request *r);
/* Is it of the agent that the path names, by its own token? Another's (jwt.binding: report) proves
 * nothing of this one. */
bool request_is_own(const struct request *r);

/* Is a switch of protocols passed on? Never on agents' calls: the controller's server would take
 * them away from its routes. */
bool request_upgrades(const struct request *r);
/* Builds the head of the request as it goes to the controller, in s->head. */
void request_spell_upstream(struct serve *s, const struct request *r);
