/* A connect answered from what the controller said before. */
#pragma once

#include "rules/trust/grant.h"
#include "serve/request/answer.h"

/* Opens the grant and answers with what is left of its life, status, type and body as they came.
 * `detail` (may be NULL) says in Cache-Status why an old answer is given. False: it would not open,
 * and nothing was answered. */
bool replay_answer(struct serve *s, struct caller *c, const struct grant *g,
                   const struct grant_pass *pass, const char *detail);

/* Would the token inside be taken here? Not after its JWT secret was rotated out. */
bool replay_is_taken(struct serve *s, const struct grant *g, const struct grant_pass *pass);

/* The cache's ages, as configured. */
struct grant_policy replay_policy(const struct serve *s);

/* Why the controller is asked instead, and what Cache-Status says of that (RFC 9211, fwd). */
enum replay_reason { REPLAY_MISS, REPLAY_STALE, REPLAY_REQUEST };
extern const char *const replay_reason_texts[];

/* Cache-Status and Cache-Control of an answer that came from the controller. */
void replay_add_cache_fields(struct str *fields, const char *cache_status);
