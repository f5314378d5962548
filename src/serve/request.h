/* From a request to its journey: match, authenticate, hand on. The only place that spells the
 * gateway's own answers and errors. */
#pragma once

#include "base/err.h"
#include "rules/wire/client_address.h"
#include "rules/wire/headers.h"
#include "rules/wire/payload.h"
#include "serve/routes.h"
#include "serve/serve.h"

enum { REQUEST_ALLOWANCE_MAX = 128 };

/* What a connect took from the limits (serve/limits/limiting); all zero: nothing. */
struct attempt {
    uint64_t agent, site, pair; /* keys */
    bool unknown;               /* the secret: a refusal counts against its address and agent */
    bool taken, tried;          /* from the connects, from the tries */
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

/* What an answer needs after the request's bytes are gone. */
struct caller {
    struct exchange *x; /* NULL: the client has left */
    char *path;         /* with its query, terminated */
    uint8_t correlation_len;
    char correlation[HEADERS_CORRELATION_MAX];
};

void caller_keep(struct caller *c, const struct request *r);
void caller_release(struct caller *c);
struct span caller_correlation(const struct caller *c);

/* Counts a token that is refused, by reason. */
void request_count_refused_token(enum token_fault fault);
/* Verifies the presented token (once); r->verified and r->fault say the result. */
void request_authenticate(struct serve *s, struct request *r);
/* ERR_OK, or what the route's `who`, revocation and the policy say to this token. */
enum err request_authorize(struct serve *s, struct request *r);

/* ---- answers: to a request that is still here, or to a kept caller ---- */

/* 201 with a constant body; `in_memory`: with X-AIWM-Ack: memory, for it would not survive us. */
void request_answer_success(struct serve *s, struct request *r, bool in_memory);
void request_refuse(struct serve *s, struct request *r, enum err error);
/* With a Retry-After that somebody has worked out; 0: as above. */
void request_refuse_until(struct serve *s, struct request *r, enum err error, int retry_after_s);
/* The controller's 400: `message`, and `errors` unless they are NULL. */
void request_refuse_payload(struct serve *s, struct request *r, const struct payload_verdict *v);
/* The controller's own words, repeated. */
void request_refuse_verdict(struct serve *s, struct request *r, int status, const char *message);

void caller_answer_success(struct serve *s, struct caller *c, bool in_memory);
void caller_refuse(struct serve *s, struct caller *c, enum err error);
void caller_refuse_until(struct serve *s, struct caller *c, enum err error, int retry_after_s);
void caller_refuse_verdict(struct serve *s, struct caller *c, int status, const char *message);
/* `fields` beyond Content-Type and the correlation id; may be empty. */
void caller_answer(struct serve *s, struct caller *c, int status, struct span content_type,
                   struct span fields, struct span body);

/* Is a switch of protocols passed on? Never on agents' calls: the controller's server would take
 * them away from its routes. */
bool request_upgrades(const struct request *r);
/* Builds the head of the request as it goes to the controller, in s->head. */
void request_spell_upstream(struct serve *s, const struct request *r);
