#include "serve/request/request.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"

#include <stdio.h>

/* ---- who ---- */

_Static_assert((int)METRIC_TOKENS_REFUSED_NO_SUBJECT - (int)METRIC_TOKENS_REFUSED_ABSENT ==
                   (int)TOKEN_NO_SUBJECT - (int)TOKEN_ABSENT,
               "each fault has its row of tokens_refused_total, in the same order");

void request_count_refused_token(enum token_fault fault) {
    metric_add(METRIC_TOKENS_REFUSED_ABSENT + (enum metric)(fault - TOKEN_ABSENT), 1);
}

void request_authenticate(struct serve *s, struct request *r) {
    bool cached = false;
    struct span value = r->http->fields.known[HTTP_AUTHORIZATION];
    if (r->authenticated)
        return;
    r->authenticated = true;
    r->fault = TOKEN_ABSENT;
    if (value.ptr && token_from_authorization(value, &r->token))
        r->fault = token_verify(s->verifier, r->token, clock_wall_ms() / 1000, &r->claims, &cached);
    r->verified = r->fault == TOKEN_FINE;
    if (r->verified && r->x)
        exchange_vouch(r->x);
    if (cached)
        metric_add(METRIC_TOKENS_CACHED, 1);
}

/* Once a minute and worker; the metric has them all. */
static void report_foreign(struct serve *s, const struct request *r) {
    enum { REPORT_MS = 60000 };
    char id[AGENT_ID_HEX] = {0};
    int64_t now_ms = clock_mono_ms();
    if (s->reported_foreign_ms > 0 && now_ms - s->reported_foreign_ms < REPORT_MS)
        return;
    s->reported_foreign_ms = now_ms;
    if (r->has_agent)
        agent_id_text(&r->agent, id);
    log_warn("another agent's or a user's token was let through (jwt.binding: report)",
             F_SPAN("agent", ((struct span){id, r->has_agent ? sizeof id : 0})),
             F_TEXT("route", r->route->pattern ? r->route->pattern : ""));
}

static enum err agent_is_this_one(struct serve *s, const struct request *r) {
    bool same = r->claims.is_agent && r->has_agent && agent_id_equal(&r->claims.agent, &r->agent);
    if (same)
        return ERR_OK;
    metric_add(METRIC_TOKENS_FOREIGN, 1);
    if (s->shared->config->jwt.binding != CONFIG_BINDING_REPORT)
        return ERR_AGENT_MISMATCH;
    report_foreign(s, r);
    return ERR_OK;
}

/* An agent's token from before it was deleted or suspended is refused wherever it is presented. */
static enum err judge_revocation(struct serve *s, const struct request *r) {
    static const enum err refusals[] = {[REVOKED_NOT] = ERR_OK,
                                        [REVOKED_DELETED] = ERR_AGENT_DELETED,
                                        [REVOKED_SUSPENDED] = ERR_AGENT_SUSPENDED,
                                        [REVOKED_REGENERATED] = ERR_UNAUTHORIZED};
    struct agents *agents = s->shared->agents;
    if (!r->verified || !r->claims.is_agent)
        return ERR_OK;
    struct agent *agent = agents_lock(agents, &r->claims.agent, false);
    if (!agent)
        return ERR_OK;
    enum revoked why = agents_revoked(agents, agent, r->claims.issued_s, clock_mono_ms());
    agents_unlock(agents, agent);
    metric_add(METRIC_TOKENS_REVOKED, why != REVOKED_NOT);
    return refusals[why];
}

static enum err judge_who(struct serve *s, const struct request *r) {
    switch (r->route->who) {
    case WHO_AGENT:
        return r->verified ? agent_is_this_one(s, r) : token_fault_err(r->fault);
    case WHO_AGENT_OR_USER:
        if (!r->verified)
            return token_fault_err(r->fault);
        return r->claims.is_agent ? agent_is_this_one(s, r) : ERR_OK;
    case WHO_NOT_AGENTS:
        return r->verified && r->claims.is_agent &&
                       s->shared->config->policy.agent_tokens_on_regenerate == 0
                   ? ERR_AGENT_TOKEN_DENIED
                   : ERR_OK;
    default:
        return ERR_OK;
    }
}

/* A bearer token that the controller's lenient parser might find where our strict one does not
 * (RFC 6750 section 2.1: "Bearer", spaces, one token68) would pass every check made here. Nobody
 * honest spells it so. */
static bool is_plainly_spelled(const struct request *r) {
    struct span value = r->http->fields.known[HTTP_AUTHORIZATION], token;
    bool speaks_of_bearer = false;
    for (size_t i = 0; value.ptr && i + 6 <= value.len && !speaks_of_bearer; i++)
        speaks_of_bearer = span_equal_nocase((struct span){value.ptr + i, 6}, SPAN("bearer"));
    if (!speaks_of_bearer)
        return true;
    return token_from_authorization(value, &token) && headers_is_token68(token);
}

bool request_is_own(const struct request *r) {
    return r->claims.is_agent && agent_id_equal(&r->claims.agent, &r->agent);
}

enum err request_authorize(struct serve *s, struct request *r) {
    bool any_revoked = agents_any_revoked(s->shared->agents);
    if (!r->verified && !is_plainly_spelled(r))
        return ERR_UNAUTHORIZED;
    if (r->route->who == WHO_ANYONE && !any_revoked)
        return ERR_OK;
    request_authenticate(s, r);
    enum err error = judge_who(s, r);
    return error == ERR_OK && any_revoked ? judge_revocation(s, r) : error;
}

/* ---- to the controller ---- */

bool request_upgrades(const struct request *r) {
    return r->http->wants_upgrade && r->route->call != CALL_AGENT &&
           r->route->effect ==
               EFFECT_NONE; /* a write goes on without its client, a tunnel cannot */
}

static bool client_uses_tls(struct serve *s, const struct request *r) {
    bool trusted = networks_contain(&s->shared->limits.trusted_proxies, exchange_peer(r->x));
    struct span said = trusted ? client_protocol(&r->http->fields) : SPAN_NONE;
    return said.ptr ? span_equal(said, SPAN("https")) : exchange_is_tls(r->x);
}

void request_spell_upstream(struct serve *s, const struct request *r) {
    char path[64], id[AGENT_ID_HEX], client[ADDRESS_TEXT];
    address_text(&r->client, client);
    struct headers_hop hop = {
        .method = r->http->method_text,
        .path = r->path,
        .query = r->http->query,
        .upstream_host = span_of(s->shared->upstream_authority),
        .client = span_of(client),
        .client_uses_tls = client_uses_tls(s, r),
        .correlation_id = r->correlation_id,
        .content_length =
            r->http->content_length == 0 && r->http->method == HTTP_GET ? -1 : (int64_t)r->body.len,
        /* These answers are read here, too. */
        .uncoded = r->route->call == CALL_AGENT || r->route->effect == EFFECT_AGENT_WRITTEN,
        .upgrade = request_upgrades(r),
    };
    /* What was authorised is what is forwarded: the plain spelling, not the client's. */
    if (r->has_agent) {
        agent_id_text(&r->agent, id);
        (void)snprintf(path, sizeof path, "/agents/%.*s%s", AGENT_ID_HEX, id, r->route->canonical);
        hop.path = span_of(path);
    }
    str_clear(&s->head);
    headers_to_upstream(&s->head, r->http, &hop);
}
