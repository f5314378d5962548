#include "serve/connect/replay.h"

#include "base/clock.h"
#include "base/metric.h"
#include "base/panic.h"
#include "base/secret.h"
#include "serve/request/access.h"

#include <stdlib.h>

const char *const replay_reason_texts[] = {
    [REPLAY_MISS] = "fwd=miss", [REPLAY_STALE] = "fwd=stale", [REPLAY_REQUEST] = "fwd=request"};

struct grant_policy replay_policy(const struct serve *s) {
    const struct config *config = s->shared->config;
    return (struct grant_policy){config->connect_cache.fresh_for_ms,
                                 config->connect_cache.stale_after_ms,
                                 config->connect_cache.dead_before_expiry_ms};
}

void replay_add_cache_fields(struct str *fields, const char *cache_status) {
    STR_ADD(fields, "Cache-Control: no-store\r\nCache-Status: aiwm-gateway; ");
    str_add(fields, span_of(cache_status));
    STR_ADD(fields, "\r\n");
}

/* Seconds for which it is fresh; negative: since when it is not (RFC 9211 section 2.5). */
static int64_t time_to_live_s(const struct grant *g, const struct grant_policy *policy,
                              int64_t now_ms) {
    int64_t stale_at_ms = g->fetched_ms + policy->fresh_for_ms;
    int64_t dead_at_ms = g->expires_s * 1000 - policy->dead_before_expiry_ms;
    return ((stale_at_ms < dead_at_ms ? stale_at_ms : dead_at_ms) - now_ms) / 1000;
}

static void add_age_fields(struct str *fields, const struct serve *s, const struct grant *g,
                           const char *detail, int64_t now_ms) {
    struct grant_policy policy = replay_policy(s);
    char memory[96];
    struct str status;
    str_init_fixed(&status, memory, sizeof memory);
    STR_ADD(&status, "hit; ttl=");
    str_add_int(&status, time_to_live_s(g, &policy, now_ms));
    if (detail) {
        STR_ADD(&status, "; detail=");
        str_add(&status, span_of(detail));
    }
    str_add_char(&status, '\0');
    int64_t age_s = now_ms > g->fetched_ms ? (now_ms - g->fetched_ms) / 1000 : 0;
    STR_ADD(fields, "Age: ");
    str_add_int(fields, age_s);
    STR_ADD(fields, "\r\n");
    replay_add_cache_fields(fields, memory);
}

bool replay_is_taken(struct serve *s, const struct grant *g, const struct grant_pass *pass) {
    struct connect_answer answer;
    struct token_claims claims;
    char *opened = must_alloc(g->body_len + 1);
    bool taken = grant_open(g, pass, opened) &&
                 payload_read_connect_answer((struct span){opened, g->body_len}, &answer) &&
                 token_verify(s->verifier, answer.token, clock_wall_ms() / 1000, &claims, NULL) ==
                     TOKEN_FINE;
    secret_cleanse(opened, g->body_len);
    free(opened);
    return taken;
}

bool replay_answer(struct serve *s, struct caller *c, const struct grant *g,
                   const struct grant_pass *pass, const char *detail) {
    enum { FIELDS_MAX = 256 };
    int64_t now_ms = clock_wall_ms();
    char *opened = must_alloc(GRANT_HEADROOM + g->body_len);
    bool fine = grant_open(g, pass, opened + GRANT_HEADROOM);
    if (fine) {
        struct span body = grant_splice_expiry(g, opened + GRANT_HEADROOM, now_ms / 1000);
        char memory[FIELDS_MAX];
        struct str fields;
        str_init_fixed(&fields, memory, sizeof memory);
        add_age_fields(&fields, s, g, detail, now_ms);
        exchange_vouch(c->x);
        access_mark(c->x, detail ? OUTCOME_STALE : OUTCOME_HIT);
        caller_answer(s, c, g->status, span_of(g->content_type), str_span(&fields), body);
        metric_add(METRIC_BCRYPTS_AVOIDED, 1);
    }
    secret_cleanse(opened, GRANT_HEADROOM + g->body_len);
    free(opened);
    return fine;
}
