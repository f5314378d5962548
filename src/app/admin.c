#include "app/admin.h"

#include "app/admin_agents.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/panic.h"
#include "rules/agents/tags.h"
#include "serve/cache/purge.h"
#include "serve/explain.h"
#include "serve/gate/admission.h"

#include <openssl/crypto.h>
#include <stdlib.h>

struct admin {
    struct admin_parts parts;
    struct operator_port *port;
    struct operator_site site;
    int64_t started_ms;
};

static const struct config *config_of(const struct admin *a) {
    return a->parts.shared->config;
}

/* ---- who may ---- */

static int refuse_with(struct str *body, int status, const char *what) {
    STR_ADD(body, "{\"error\":");
    str_add_json(body, span_of(what));
    STR_ADD(body, "}\n");
    return status;
}

static struct span host_without_port(struct span host) {
    if (host.len > 0 && host.ptr[0] == '[') {
        const char *end = memchr(host.ptr, ']', host.len);
        return end ? (struct span){host.ptr, (size_t)(end - host.ptr) + 1} : host;
    }
    const char *colon = host.len > 0 ? memchr(host.ptr, ':', host.len) : NULL;
    return colon ? (struct span){host.ptr, (size_t)(colon - host.ptr)} : host;
}

/* A name that an attacker's DNS may point here is none of ours; an address cannot be rebound. */
static bool is_our_host(const struct admin *a, struct span host) {
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};
    struct span name = host_without_port(host);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (span_equal_nocase(name, span_of(names[i])))
            return true;
    return span_equal(name, span_of(config_of(a)->admin.address));
}

/* Browsers send Origin with whatever a page makes them ask; ours is the one with this Host. */
static bool is_our_origin(struct span origin, struct span host) {
    if (origin.len == 0)
        return true;
    return span_starts(origin, SPAN("http://")) && span_equal(span_from(origin, 7), host);
}

static bool shows_token(const struct admin *a, const struct operator_request *r) {
    const struct config_secret *token = &config_of(a)->admin.token;
    struct span value = operator_field(r, "Authorization");
    if (!token->bytes || value.len < 7 ||
        !span_equal_nocase((struct span){value.ptr, 7}, SPAN("Bearer ")))
        return false;
    struct span shown = span_from(value, 7);
    return shown.len == token->len && CRYPTO_memcmp(shown.ptr, token->bytes, token->len) == 0;
}

static bool is_this_machine(const struct admin *a) {
    const char *address = config_of(a)->admin.address;
    return strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0;
}

static int refuse(void *arg, const struct operator_request *r, struct str *body) {
    const struct admin *a = arg;
    struct span host = operator_field(r, "Host");
    if (!is_our_host(a, host))
        return refuse_with(body, 421, "this is not my Host: use the address of admin.address");
    if (!is_our_origin(operator_field(r, "Origin"), host))
        return refuse_with(body, 403, "pages of other origins may not ask here");
    if ((!operator_is_post(r) && is_this_machine(a)) || shows_token(a, r))
        return 0;
    if (!config_of(a)->admin.token.bytes)
        return refuse_with(body, 403, "nothing can be changed here: admin.token_file is not set");
    return refuse_with(body, 401, "show the token: Authorization: Bearer ..., or ctl --token-file");
}

/* ---- what is seen ---- */

static const char *yes_no(bool value) {
    return value ? "true" : "false";
}

struct figure {
    const char *name;
    enum metric metric;
};

static void add_figures(struct str *body, const char *name, const struct figure *figures,
                        size_t count) {
    str_addf(body, ",\n \"%s\":{", name);
    for (size_t i = 0; i < count; i++)
        str_addf(body, "%s\"%s\":%lld", i ? "," : "", figures[i].name,
                 (long long)metric_read(figures[i].metric));
    STR_ADD(body, "}");
}

#define ADD_FIGURES(body, name, rows) add_figures(body, name, rows, sizeof rows / sizeof rows[0])

static const struct figure client_figures[] = {{"connections", METRIC_CONNECTIONS},
                                               {"accepted", METRIC_CONNECTIONS_ACCEPTED},
                                               {"malformed_requests", METRIC_REQUESTS_MALFORMED}};
static const struct figure agent_figures[] = {{"known", METRIC_AGENTS_KNOWN},
                                              {"cached_connects", METRIC_CONNECT_CACHED},
                                              {"bcrypts_avoided", METRIC_BCRYPTS_AVOIDED}};
static const struct figure beat_figures[] = {{"received", METRIC_BEATS_RECEIVED},
                                             {"delivered", METRIC_BEATS_DELIVERED},
                                             {"superseded", METRIC_BEATS_SUPERSEDED},
                                             {"expired", METRIC_BEATS_EXPIRED},
                                             {"held", METRIC_BEATS_HELD}};
static const struct figure upstream_figures[] = {{"calls", METRIC_UPSTREAM_CALLS},
                                                 {"failed", METRIC_UPSTREAM_FAILED},
                                                 {"retried", METRIC_UPSTREAM_RETRIED},
                                                 {"connections", METRIC_UPSTREAM_CONNECTIONS}};

/* Calls to the controller by class, and whether the breaker lets them. */
static void add_gate(const struct shared *shared, struct str *body) {
    static const char *const breaker_names[] = {
        [BREAKER_CLOSED] = "closed", [BREAKER_OPEN] = "open", [BREAKER_PROBING] = "half-open"};
    struct admission_view view;
    admission_look(shared, &view);
    str_addf(body, ",\n \"breaker\":\"%s\",\"calls\":{", breaker_names[view.breaker]);
    for (enum gate_class class = 0; class < GATE_CLASSES; class ++)
        str_addf(body, "%s\"%s\":{\"limit\":%lld,\"running\":%lld,\"waiting\":%lld}",
                 class ? "," : "", admission_class_names[class], (long long)view.limit[class],
                 (long long)view.inside[class], (long long)view.waiting[class]);
    STR_ADD(body, "}");
}

static void add_redis(const struct shared *shared, struct str *body) {
    if (!shared->redis)
        return;
    const struct redis_health *health = shared->redis->health;
    enum redis_trouble trouble = (enum redis_trouble)atomic_load(&health->trouble);
    STR_ADD(body, ",\n \"redis\":{\"url\":");
    str_add_json(body, span_of(shared->config->redis.url));
    str_addf(body, ",\"connections\":%d,\"durable\":%s,\"trouble\":", atomic_load(&health->here),
             yes_no(atomic_load(&health->durable)));
    if (trouble == REDIS_NONE)
        STR_ADD(body, "null}");
    else
        str_addf(body, "\"%s\"}", redis_trouble_row(trouble)->name);
}

static int show_state(void *arg, const struct operator_request *request, struct str *body) {
    (void)request;
    static const char *const controller_names[] = {"unknown", "up", "down"};
    const struct admin *a = arg;
    const struct shared *shared = a->parts.shared;
    const struct page_state *pages = a->parts.pages;
    str_addf(body,
             "{\"version\":\"" GATEWAY_VERSION "\",\"uptime_s\":%lld,\"workers\":%zu,"
             "\"started\":%s,\"draining\":%s,\n \"controller\":{\"address\":\"%s\","
             "\"state\":\"%s\"}",
             (long long)((clock_mono_ms() - a->started_ms) / 1000), shared->worker_count,
             yes_no(pages->started), yes_no(pages->draining), shared->upstream_authority,
             controller_names[admission_controller(shared)]);
    add_gate(shared, body);
    add_redis(shared, body);
    ADD_FIGURES(body, "clients", client_figures);
    ADD_FIGURES(body, "agents", agent_figures);
    ADD_FIGURES(body, "heartbeats", beat_figures);
    ADD_FIGURES(body, "upstream", upstream_figures);
    STR_ADD(body, "}\n");
    return 200;
}

static int show_config(void *arg, const struct operator_request *request, struct str *body) {
    (void)request;
    config_print(config_of(arg), body);
    return 200;
}

static int show_agents(void *arg, const struct operator_request *request, struct str *body) {
    const struct admin *a = arg;
    return admin_show_agents(a->parts.shared->agents, request, body);
}

static int show_agent(void *arg, const struct operator_request *request, struct str *body) {
    const struct admin *a = arg;
    return admin_show_agent(a->parts.shared->agents, request, body);
}

static int show_explanation(void *arg, const struct operator_request *request, struct str *body) {
    const struct admin *a = arg;
    if (explain(a->parts.shared, operator_parameter(request, "method"),
                operator_parameter(request, "path"), body))
        return 200;
    str_clear(body);
    return refuse_with(body, 400, "give a method and a path, such as ?method=POST&path=/agents/x");
}

/* ---- what is changed ---- */

static int done(struct str *body, const char *what) {
    str_addf(body, "{\"done\":\"%s\"}\n", what);
    log_info("by an operator", F_TEXT("did", what));
    return 200;
}

/* A purge is done by a worker, as if the write had passed by there. */
struct purge_letter {
    struct letter letter;
    struct written written;
};

static void on_purge(struct letter *letter, void *receiver) {
    struct purge_letter *l = container_of(letter, struct purge_letter, letter);
    purge_after(receiver, &l->written, ENDED_WELL, SPAN_NONE);
    free(l);
}

static void purge(struct admin *a, const struct written *written) {
    struct purge_letter *l = must_zalloc(sizeof *l);
    l->letter.deliver = on_purge;
    l->written = *written;
    l->written.writer = WRITER_ANYWHERE;
    mailbox_post(a->parts.shared->mailbox[0], &l->letter);
}

/* What a purge may be asked for: one of these. */
static const struct selector {
    const char *parameter;
    enum effect effect;
    enum tag_kind tag;
} selectors[] = {
    {"agent", EFFECT_PURGED, 0}, /* by its id, not by a tag */
    {"instruction", EFFECT_INSTRUCTION, TAG_INSTRUCTION},
    {"deployment", EFFECT_DEPLOYMENT, TAG_DEPLOYMENT},
    {"organization", EFFECT_CONFIGURATION, TAG_ORGANIZATION},
    {"everything", EFFECT_CONFIGURATION, TAG_EVERYTHING},
};

/* NULL: there is none, or more than one. */
static const struct selector *only_selector(const struct operator_request *request) {
    const struct selector *found = NULL;
    for (size_t i = 0; i < sizeof selectors / sizeof selectors[0]; i++) {
        if (!operator_parameter(request, selectors[i].parameter).ptr)
            continue;
        if (found)
            return NULL;
        found = &selectors[i];
    }
    return found;
}

static bool agent_parameter(const struct operator_request *request, struct agent_id *id) {
    return agent_id_parse(operator_parameter(request, "agent"), id);
}

static int do_purge(void *arg, const struct operator_request *request, struct str *body) {
    const struct selector *by = only_selector(request);
    if (!by)
        return refuse_with(body, 400,
                           "say what, and only one: agent=<24 hex digits>, instruction=<id>, "
                           "deployment=<id>, organization=<id> or everything=yes");
    struct written written = {.effect = by->effect};
    struct span value = operator_parameter(request, by->parameter);
    if (by->effect == EFFECT_PURGED) {
        if (!agent_parameter(request, &written.agent))
            return refuse_with(body, 400, "agent must be an id: agent=<24 hex digits>");
        purge(arg, &written);
        return done(body, "the agent's cached connect is forgotten");
    }
    if (by->tag == TAG_EVERYTHING && !span_equal(value, SPAN("yes")))
        return refuse_with(body, 400, "nothing is purged: write everything=yes if you mean it");
    if (value.len == 0)
        return refuse_with(body, 400, "an id is missing: instruction=, deployment=, organization=");
    tag_set_add(&written.tags, tag_of(by->tag, by->tag == TAG_EVERYTHING ? SPAN("") : value));
    purge(arg, &written);
    return done(body, "cached connects that depend on it are stale");
}

static int do_revoke(void *arg, const struct operator_request *request, struct str *body) {
    struct written written = {.effect = EFFECT_REVOKED};
    if (!agent_parameter(request, &written.agent))
        return refuse_with(body, 400, "say whose: agent=<24 hex digits>");
    purge(arg, &written);
    return done(body, "the agent's tokens given out until now are refused");
}

static int do_drain(void *arg, const struct operator_request *request, struct str *body) {
    (void)request;
    struct admin *a = arg;
    a->parts.drain(a->parts.arg);
    return done(body, "draining, then the process ends");
}

static int do_reload(void *arg, const struct operator_request *request, struct str *body) {
    (void)request;
    struct admin *a = arg;
    reload_now(a->parts.reload);
    return done(body, "reloading; the log says what came of it");
}

static int set_log_level(void *arg, const struct operator_request *request, struct str *body) {
    (void)arg;
    static const char *const levels[] = {
        [LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug"};
    struct span wanted = operator_parameter(request, "level");
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        if (!span_equal(wanted, span_of(levels[i])))
            continue;
        log_set_level((enum log_level)i);
        return done(body, "the log's level is set, until the next reload");
    }
    return refuse_with(body, 400, "level must be error, warn, info or debug");
}

/* ---- the whole ---- */

#define JSON "application/json; charset=utf-8"

static const struct operator_page pages[] = {
    {"GET", "/state", JSON, "", show_state},
    {"GET", "/config", "application/yaml; charset=utf-8", "", show_config},
    {"GET", "/agents", JSON, "only prefix status limit after ", show_agents},
    {"GET", "/agents/:", JSON, "", show_agent},
    {"GET", "/explain", JSON, "method path ", show_explanation},
    {"POST", "/purge", JSON, "agent instruction deployment organization everything ", do_purge},
    {"POST", "/revoke", JSON, "agent ", do_revoke},
    {"POST", "/drain", JSON, "", do_drain},
    {"POST", "/reload", JSON, "", do_reload},
    {"POST", "/log-level", JSON, "level ", set_log_level},
    {NULL, NULL, NULL, NULL, NULL},
};

struct admin *admin_new(struct loop *loop, int listen_fd, const struct admin_parts *parts) {
    struct admin *a = must_zalloc(sizeof *a);
    a->parts = *parts;
    a->started_ms = clock_mono_ms();
    a->site = (struct operator_site){.pages = pages, .arg = a, .refuse = refuse};
    a->port = operator_new(loop, listen_fd, parts->max_connections, &a->site);
    return a;
}

void admin_free(struct admin *a) {
    if (!a)
        return;
    operator_free(a->port);
    free(a);
}
