#include "serve/serve.h"

#include "base/metric.h"
#include "base/random.h"
#include "base/siphash.h"
#include "serve/beats/beats.h"
#include "serve/cache/shelf.h"
#include "serve/limits/limiting.h"
#include "serve/limits/shedding.h"
#include "serve/request/access.h"
#include "serve/request/answer.h"
#include "serve/request/browsers.h"
#include "serve/routes.h"

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
    size_t max = s->match.route->call == CALL_AGENT ? ROUTES_AGENT_BODY_MAX
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
    int retry_after_s =
        s->refusal_retry_after_s > 0 ? s->refusal_retry_after_s : err_row(error)->retryable;
    char id[RANDOM_UUID];
    s->refusal_retry_after_s = 0;
    random_uuid(id);
    struct span correlation_id = {id, sizeof id};
    if (http && headers_correlation_ok(http->fields.known[HTTP_CORRELATION_ID]))
        correlation_id = http->fields.known[HTTP_CORRELATION_ID];
    access_refused(s, x, error, http, correlation_id);
    if (http)
        browsers_mark(s, x, http);
    answer_spell_refusal(fields, body, error, retry_after_s, http ? http->target : SPAN_NONE,
                         correlation_id);
}

const struct server_events serve_events = {on_head, on_head_again, on_request, on_refusal,
                                           access_end};

/* ---- life ---- */

static struct token_verifier *make_verifier(const struct config *config) {
    enum { CACHE_ENTRIES = 16384 };
    uint8_t hash_key[16];
    random_fill(hash_key, sizeof hash_key);
    struct token_secrets secrets = {
        {config->jwt.secret.bytes, config->jwt.secret.len},
        {config->jwt.previous_secret.bytes, config->jwt.previous_secret.len}};
    return token_verifier_new(&secrets, config->jwt.leeway_ms / 1000, CACHE_ENTRIES, hash_key);
}

/* All workers come to the same. It stays in this process, so the key need not be secret. */
static uint64_t trust_of(const struct config *config) {
    static const uint8_t key[2][16] = {{1}, {2}};
    const struct config_secret *now = &config->jwt.secret, *before = &config->jwt.previous_secret;
    uint64_t trust = siphash(key[0], (struct span){now->bytes, now->len}) ^
                     siphash(key[1], (struct span){before->bytes, before->len});
    return trust ? trust : 1;
}

/* What is to be done when Redis comes back, or is gone. */
static void on_redis(void *arg, bool here) {
    struct serve *s = arg;
    beats_on_redis(s, here);
    shelf_note_redis(s->shelf, here);
}

void serve_init(struct serve *s, struct shared *shared, size_t worker, struct loop *loop,
                struct upstream *upstream) {
    enum { FIELDS_MAX = 2 * HTTP_HEAD_MAX, BODY_MAX = 65536 + GRANT_BODY_MAX };
    *s = (struct serve){.shared = shared, .worker = worker, .loop = loop, .upstream = upstream};
    list_init(&s->turns);
    str_init(&s->fields, FIELDS_MAX);
    str_init(&s->head, FIELDS_MAX);
    str_init(&s->body, BODY_MAX);
    s->verifier = make_verifier(shared->config);
    s->trust = trust_of(shared->config);
    s->access = access_new(s);
    if (shared->redis)
        s->redis = redis_new(loop, shared->redis, on_redis, s);
}

void serve_adopt(struct serve *s, const struct config *config) {
    token_verifier_free(s->verifier);
    s->verifier = make_verifier(config);
    s->trust = trust_of(config);
    beats_adopt(s);
}

void serve_release(struct serve *s) {
    redis_free(s->redis);
    access_free(s->access);
    token_verifier_free(s->verifier);
    str_release(&s->fields);
    str_release(&s->head);
    str_release(&s->body);
}
