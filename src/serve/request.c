#include "serve/request.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/panic.h"
#include "base/random.h"
#include "serve/access.h"
#include "serve/browsers.h"
#include "serve/limits/limiting.h"
#include "serve/limits/shedding.h"

#include <stdio.h>
#include <stdlib.h>

enum { ERROR_PATH_MAX = 2048 };

#define JSON_TYPE "application/json; charset=utf-8"

/* ---- spelling ---- */

struct answering {
    struct exchange *x;
    struct span path, query;
    struct span correlation_id;
    struct span allowance; /* whole fields, or empty */
};

static void spell_fields(struct str *fields, struct span content_type, struct span correlation_id) {
    str_clear(fields);
    STR_ADD(fields, "x-correlation-id: ");
    str_add(fields, correlation_id);
    STR_ADD(fields, "\r\nContent-Type: ");
    str_add(fields, content_type);
    STR_ADD(fields, "\r\n");
}

/* The controller's error shape. `code` NULL: none; `errors`: up to two static texts or NULL. */
static void spell_error(struct str *body, int status, const char *message,
                        const struct answering *to, const char *const *errors, const char *code) {
    char now[CLOCK_ISO_SIZE], memory[ERROR_PATH_MAX];
    struct str path;
    str_init_fixed(&path, memory, sizeof memory);
    str_add(&path, to->path);
    str_add(&path, to->query);
    clock_iso(now, clock_wall_ms());
    str_clear(body);
    STR_ADD(body, "{\"statusCode\":");
    str_add_int(body, status);
    STR_ADD(body, ",\"message\":");
    str_add_json(body, span_of(message));
    STR_ADD(body, ",\"timestamp\":\"");
    str_add(body, span_of(now));
    STR_ADD(body, "\",\"path\":");
    str_add_json(body, str_span(&path));
    STR_ADD(body, ",\"correlationId\":");
    str_add_json(body, to->correlation_id);
    if (errors) {
        STR_ADD(body, ",\"errors\":[");
        for (int i = 0; i < 2 && errors[i]; i++) {
            if (i > 0)
                str_add_char(body, ',');
            str_add_json(body, span_of(errors[i]));
        }
        STR_ADD(body, "]");
    }
    if (code)
        str_addf(body, ",\"code\":\"%s\"", code);
    STR_ADD(body, "}");
}

static void answer_error(struct serve *s, struct answering to, int status, const char *message,
                         const char *const *errors, const char *code, int retry_after_s) {
    spell_fields(&s->fields, SPAN(JSON_TYPE), to.correlation_id);
    if (retry_after_s > 0)
        str_addf(&s->fields, "Retry-After: %d\r\n", retry_after_s);
    str_add(&s->fields, to.allowance);
    spell_error(&s->body, status, message, &to, errors, code);
    exchange_answer(to.x, &(struct answer){status, str_span(&s->fields), false},
                    str_span(&s->body));
}

/* What can be tried again can be tried in a second, unless somebody knows better. */
static void answer_row(struct serve *s, struct answering to, enum err error, int retry_after_s) {
    const struct err_row *row = err_row(error);
    int usual_s = row->retryable ? 1 : 0;
    access_mark_refused(to.x, row->code);
    answer_error(s, to, row->status, row->message, NULL, row->code,
                 retry_after_s > 0 ? retry_after_s : usual_s);
}

static void answer_success(struct serve *s, struct answering to, bool in_memory) {
    access_mark(to.x, s->redis && !in_memory ? OUTCOME_STORED : OUTCOME_HELD);
    spell_fields(&s->fields, SPAN(JSON_TYPE), to.correlation_id);
    if (in_memory)
        STR_ADD(&s->fields, "X-AIWM-Ack: memory\r\n");
    exchange_answer(to.x, &(struct answer){201, str_span(&s->fields), false},
                    SPAN("{\"success\":true}"));
}

static struct answering to_request(const struct request *r) {
    return (struct answering){
        r->x, r->path, r->http->query, r->correlation_id, {r->allowance, r->allowance_len}};
}

static struct answering to_caller(const struct caller *c) {
    return (struct answering){c->x, span_of(c->path), SPAN_NONE, caller_correlation(c), SPAN_NONE};
}

void request_answer_success(struct serve *s, struct request *r, bool in_memory) {
    answer_success(s, to_request(r), in_memory);
}

/* In the controller's words, of which one names the agent. */
static void refuse_deleted(struct serve *s, struct request *r) {
    char id[AGENT_ID_HEX], message[64];
    access_mark_refused(r->x, err_row(ERR_AGENT_DELETED)->code);
    agent_id_text(&r->claims.agent, id);
    (void)snprintf(message, sizeof message, "Agent with ID %.*s not found", AGENT_ID_HEX, id);
    request_refuse_verdict(s, r, err_row(ERR_AGENT_DELETED)->status, message);
}

void request_refuse_until(struct serve *s, struct request *r, enum err error, int retry_after_s) {
    if (error == ERR_AGENT_DELETED)
        refuse_deleted(s, r);
    else
        answer_row(s, to_request(r), error, retry_after_s);
}

void request_refuse(struct serve *s, struct request *r, enum err error) {
    request_refuse_until(s, r, error, 0);
}

void request_refuse_payload(struct serve *s, struct request *r, const struct payload_verdict *v) {
    bool syntax = v->kind == PAYLOAD_SYNTAX;
    access_mark_refused(r->x, NULL);
    answer_error(s, to_request(r), 400, syntax ? v->message : "Validation failed",
                 syntax ? NULL : v->errors, NULL, 0);
}

void request_refuse_verdict(struct serve *s, struct request *r, int status, const char *message) {
    access_mark(r->x, OUTCOME_REPEATED);
    answer_error(s, to_request(r), status, message, NULL, NULL, 0);
}

void caller_answer_success(struct serve *s, struct caller *c, bool in_memory) {
    answer_success(s, to_caller(c), in_memory);
}

void caller_refuse(struct serve *s, struct caller *c, enum err error) {
    answer_row(s, to_caller(c), error, 0);
}

void caller_refuse_until(struct serve *s, struct caller *c, enum err error, int retry_after_s) {
    answer_row(s, to_caller(c), error, retry_after_s);
}

void caller_refuse_verdict(struct serve *s, struct caller *c, int status, const char *message) {
    access_mark(c->x, OUTCOME_REPEATED);
    answer_error(s, to_caller(c), status, message, NULL, NULL, 0);
}

void caller_answer(struct serve *s, struct caller *c, int status, struct span content_type,
                   struct span fields, struct span body) {
    access_mark(c->x, OUTCOME_FORWARDED);
    spell_fields(&s->fields, content_type.len ? content_type : SPAN(JSON_TYPE),
                 caller_correlation(c));
    str_add(&s->fields, fields);
    exchange_answer(c->x, &(struct answer){status, str_span(&s->fields), false}, body);
}

/* ---- callers ---- */

void caller_keep(struct caller *c, const struct request *r) {
    struct answering to = to_request(r);
    c->x = r->x;
    size_t path_len = to.path.len, query_len = to.query.len;
    c->path = must_alloc(path_len + query_len + 1);
    memcpy(c->path, to.path.ptr, path_len);
    if (query_len > 0)
        memcpy(c->path + path_len, to.query.ptr, query_len);
    c->path[path_len + query_len] = '\0';
    c->correlation_len = (uint8_t)r->correlation_id.len;
    memcpy(c->correlation, r->correlation_id.ptr, r->correlation_id.len);
}

void caller_release(struct caller *c) {
    free(c->path);
    c->path = NULL;
    c->x = NULL;
}

struct span caller_correlation(const struct caller *c) {
    return (struct span){c->correlation, c->correlation_len};
}

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

/* ---- what the server tells ---- */

static void note_correlation(struct request *r) {
    struct span given = r->http->fields.known[HTTP_CORRELATION_ID];
    if (headers_correlation_ok(given)) {
        r->correlation_id = given;
        return;
    }
    random_uuid(r->correlation_memory);
    r->correlation_id = (struct span){r->correlation_memory, RANDOM_UUID};
}

/* Which route it is and what that leaves open: once per request, s->match keeps it. */
static enum err match(struct serve *s, const struct http_request *http) {
    struct span prefix = span_of(s->shared->config->upstream.strip_prefix);
    return routes_match(http->method_text, http->path, prefix, &s->match);
}

/* The beginning of every request, from its match; `x` NULL: its body is still to come. */
static void begin(const struct serve *s, struct exchange *x, const struct http_request *http,
                  struct request *r) {
    r->x = x;
    r->http = http;
    r->route = s->match.route;
    memcpy(r->params, s->match.params, sizeof r->params);
    r->has_agent = s->match.has_agent;
    r->agent = s->match.agent;
    r->path = s->match.path;
    r->body = r->token = SPAN_NONE;
    r->authenticated = r->verified = false;
    r->attempt = (struct attempt){0};
    r->allowance_len = 0;
}

/* Bodies that are worth refusing before they are read. To refuse costs the connection: what comes
 * together with its head, or nearly, is read, and refused on a connection that goes on. */
static bool comes_late(const struct http_request *http) {
    enum { TOGETHER_MAX = 16384 };
    return http->content_length < 0 || http->content_length > TOGETHER_MAX;
}

/* May it be served at all? Once per request. Heartbeats and connects have limits of their own. */
static enum err judge_load(struct serve *s, struct request *r, int *retry_after_s) {
    enum err error = shedding_judge(s, r, retry_after_s);
    bool is_call = r->route->counted != ROUTE_HEARTBEAT && r->route->counted != ROUTE_CONNECT;
    return error == ERR_OK && is_call ? limiting_call(s, r, retry_after_s) : error;
}

static enum err judge_early(struct serve *s, const struct http_request *http) {
    struct request r;
    begin(s, NULL, http, &r);
    return judge_load(s, &r, &s->refusal_retry_after_s);
}

static struct server_verdict on_head(void *arg, const struct http_request *http) {
    struct serve *s = arg;
    s->refusal_retry_after_s = 0;
    enum err error = match(s, http);
    if (error == ERR_OK && comes_late(http))
        error = judge_early(s, http);
    size_t max = s->match.route->agent_call ? ROUTES_AGENT_BODY_MAX
                                            : (size_t)s->shared->config->forward.max_body;
    return (struct server_verdict){error, max};
}

/* on_head has refused what cannot be matched. */
static void on_head_again(void *arg, const struct http_request *http) {
    (void)match(arg, http);
}

static void on_request(void *arg, struct exchange *x, const struct http_request *http,
                       struct span body) {
    struct serve *s = arg;
    struct request r;
    int retry_after_s = 0;
    begin(s, x, http, &r);
    r.body = body;
    r.client = client_address(exchange_peer(x), &s->shared->limits.trusted_proxies, &http->fields);
    note_correlation(&r);
    metric_add(METRIC_REQUESTS_CONNECT + (enum metric)r.route->counted, 1);
    access_begin(s, &r);
    enum err error = comes_late(http) ? ERR_OK : judge_load(s, &r, &retry_after_s);
    browsers_mark(s, x, http);
    if (error != ERR_OK)
        request_refuse_until(s, &r, error, retry_after_s);
    else if (!browsers_answer(s, &r))
        r.route->journey(s, &r);
    access_keep(s);
}

static void on_refusal(void *arg, struct exchange *x, enum err error,
                       const struct http_request *http, struct str *fields, struct str *body) {
    struct serve *s = arg;
    const struct err_row *row = err_row(error);
    int retry_after_s = s->refusal_retry_after_s > 0 ? s->refusal_retry_after_s : row->retryable;
    char id[RANDOM_UUID];
    s->refusal_retry_after_s = 0;
    random_uuid(id);
    struct answering to = {.correlation_id = {id, sizeof id}};
    if (http)
        to.path = http->target;
    if (http && headers_correlation_ok(http->fields.known[HTTP_CORRELATION_ID]))
        to.correlation_id = http->fields.known[HTTP_CORRELATION_ID];
    access_refused(s, x, error, http, to.correlation_id);
    if (http)
        browsers_mark(s, x, http);
    spell_fields(fields, SPAN(JSON_TYPE), to.correlation_id);
    if (retry_after_s > 0)
        str_addf(fields, "Retry-After: %d\r\n", retry_after_s);
    spell_error(body, row->status, row->message, &to, NULL, row->code);
}

const struct server_events serve_events = {on_head, on_head_again, on_request, on_refusal,
                                           access_end};

/* ---- to the controller ---- */

bool request_upgrades(const struct request *r) {
    return r->http->wants_upgrade && !r->route->agent_call;
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
        .uncoded = r->route->agent_call,
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
