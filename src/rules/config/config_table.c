#include "rules/config/config_table.h"

#include "base/log.h"
#include "base/panic.h"
#include "rules/config/config_values.h"
#include "rules/wire/access.h"
#include "rules/wire/cors.h"

/* What a change of the key needs. */
#define RELOAD  true
#define RESTART false

#define AT(section, member) offsetof(struct config, section.member)

#define NUMBER(type_, key_, at_, preset_, min_, max_, when_, help_)                                \
    {                                                                                              \
        .key = (key_), .type = (type_), .at = (at_), .preset = (preset_), .min = (min_),           \
        .max = (max_), .reloadable = (when_), .help = (help_)                                      \
    }
#define INTEGER(section, name, preset, min, max, when, help)                                       \
    NUMBER(CONFIG_INTEGER, #section "." #name, AT(section, name), preset, min, max, when, help)
#define DURATION(section, name, preset, min, max, when, help)                                      \
    NUMBER(CONFIG_DURATION, #section "." #name, AT(section, name##_ms), preset, min, max, when,    \
           help)
#define SIZE(section, name, preset, min, max, when, help)                                          \
    NUMBER(CONFIG_SIZE, #section "." #name, AT(section, name), preset, min, max, when, help)
#define BOOL(section, name, preset_, when_, help_)                                                 \
    {                                                                                              \
        .key = #section "." #name, .type = CONFIG_BOOL, .at = AT(section, name),                   \
        .preset = (preset_), .reloadable = (when_), .help = (help_)                                \
    }
#define CHOICE(section, name, preset_, choices_, when_, help_)                                     \
    {                                                                                              \
        .key = #section "." #name, .type = CONFIG_CHOICE, .at = AT(section, name),                 \
        .preset = (preset_), .choices = (choices_), .reloadable = (when_), .help = (help_)         \
    }
#define TEXT(section, name, preset_, complaint_, required_, when_, help_)                          \
    {                                                                                              \
        .key = #section "." #name, .type = CONFIG_TEXT, .at = AT(section, name),                   \
        .preset = (preset_), .complaint = (complaint_), .required = (required_),                   \
        .reloadable = (when_), .help = (help_)                                                     \
    }
/* The key is <name>_file; the member <name> takes what stands in the file. */
#define CONTENT(section, name, help_)                                                              \
    {                                                                                              \
        .key = #section "." #name "_file", .type = CONFIG_FILE, .at = AT(section, name##_file),    \
        .content_at = AT(section, name), .preset = "", .reloadable = RELOAD, .help = (help_)       \
    }

/* The same, but what was read at the start stays. */
#define CONTENT_AT_START(section, name, help_)                                                     \
    {                                                                                              \
        .key = #section "." #name "_file", .type = CONFIG_FILE, .at = AT(section, name##_file),    \
        .content_at = AT(section, name), .preset = "", .reloadable = RESTART, .help = (help_)      \
    }

static const char *const proxy_protocols[] = {
    [CONFIG_PROXY_PROTOCOL_OFF] = "off", [CONFIG_PROXY_PROTOCOL_V2] = "v2", NULL};
static const char *const bindings[] = {
    [CONFIG_BINDING_ENFORCE] = "enforce", [CONFIG_BINDING_REPORT] = "report", NULL};
static const char *const deny_or_allow[] = {"deny", "allow", NULL};
static const char *const off_or_auto[] = {"off", "auto", NULL};
static const char *const log_levels[] = {
    [LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug", NULL};
static const char *const log_formats[] = {
    [LOG_AUTO] = "auto", [LOG_JSON] = "json", [LOG_TEXT] = "text", NULL};

static const char *const access_modes[] = {[ACCESS_OFF] = "off",
                                           [ACCESS_ERRORS] = "errors",
                                           [ACCESS_SAMPLED] = "sampled",
                                           [ACCESS_ALL] = "all",
                                           NULL};

const struct config_row config_rows[] = {
    TEXT(listen, address, "0.0.0.0", config_address_complaint, false, RESTART,
         "IP address on which agents are served"),
    INTEGER(listen, port, "8443", "0", "65535", RESTART,
            "port on which agents are served; 0 takes any free one"),
    INTEGER(listen, max_connections, "20000", "1", "1000000", RESTART,
            "client connections served at the same time, all workers together"),
    TEXT(listen, trusted_proxies, "", config_networks_complaint, false, RESTART,
         "addresses and networks of the proxies in front, which are believed whom they speak for"),
    CHOICE(listen, proxy_protocol, "off", proxy_protocols, RESTART,
           "v2: every connection begins with a PROXY protocol header, or is closed"),

    BOOL(tls, enabled, "true", RESTART,
         "serve agents over TLS; false only where something in front does"),
    CONTENT(tls, certificate, "certificate chain, PEM, own certificate first"),
    CONTENT(tls, private_key, "private key of the certificate, PEM"),
    CONTENT(tls, ticket_keys,
            "keys of session tickets that replicas share, one per line (openssl rand -hex 80); the "
            "first makes tickets, all open them; else each gateway has its own, new every 12 h"),

    TEXT(health, address, "0.0.0.0", config_address_complaint, false, RESTART,
         "IP address of /livez, /readyz, /startupz and /metrics"),
    INTEGER(health, port, "9902", "0", "65535", RESTART,
            "port of /livez, /readyz, /startupz and /metrics; 0 takes any free one"),

    TEXT(admin, address, "127.0.0.1", config_address_or_none_complaint, false, RESTART,
         "IP address of the admin port: state, purge, revoke, drain; empty: no admin port"),
    INTEGER(admin, port, "9901", "0", "65535", RESTART,
            "port of the admin pages; 0 takes any free one"),
    CONTENT(admin, token,
            "whoever shows this may change things on the admin port; without it nobody may"),

    TEXT(upstream, url, "", config_url_complaint, true, RELOAD,
         "the controller: http://host:port or https://host:port, without a path"),
    TEXT(upstream, strip_prefix, "", config_prefix_complaint, false, RELOAD,
         "path prefix that agents use and the controller does not know, such as /dev/aiwm"),
    CONTENT(upstream, ca,
            "CA certificates, PEM, that may vouch for an https controller; else the system's"),
    DURATION(upstream, connect_timeout, "2s", "50ms", "60s", RELOAD,
             "longest wait for a connection to the controller"),
    DURATION(upstream, response_timeout, "60s", "100ms", "1h", RELOAD,
             "longest wait for the controller's answer"),
    DURATION(upstream, long_timeout, "300s", "100ms", "24h", RELOAD,
             "longest wait for the first byte of the answer to a long call: inference, "
             "generate-text, summaries, exec, POST /mcp; once begun it may be silent"),
    CONTENT(upstream, service_token,
            "token with which the gateway delivers heartbeats in bulk; see docs"),

    SIZE(forward, max_body, "1MiB", "1KiB", "64MiB", RELOAD,
         "largest request body forwarded to the controller"),
    TEXT(forward.cors, origins, "", cors_origins_complaint, false, RELOAD,
         "pages that browsers may let call the API, such as https://ui.example.com; * is all; "
         "empty: CORS is the controller's business"),
    TEXT(forward.cors, methods, "GET, HEAD, POST, PUT, PATCH, DELETE", cors_names_complaint, false,
         RELOAD, "methods they may use"),
    TEXT(forward.cors, headers, "Authorization, Content-Type, X-Correlation-Id, X-Organization-Id",
         cors_names_complaint, false, RELOAD, "fields they may send"),
    TEXT(forward.cors, expose, "X-Correlation-Id, Retry-After", cors_names_complaint, false, RELOAD,
         "fields of answers they may read"),
    BOOL(forward.cors, credentials, "false", RELOAD,
         "cookies and client certificates may come along; bearer tokens do not need it"),
    DURATION(forward.cors, max_age, "10m", "0s", "24h", RELOAD,
             "for how long a browser need not ask again whether it may"),

    CONTENT(jwt, secret, "the controller's JWT_SECRET, with which it signs tokens"),
    CONTENT(jwt, previous_secret, "the JWT_SECRET before the last change, accepted as well"),
    DURATION(jwt, leeway, "0s", "0s", "5m", RELOAD,
             "how long past its end a token is still accepted (the controller: not at all)"),
    CHOICE(jwt, binding, "enforce", bindings, RELOAD,
           "a heartbeat with another agent's token: refuse it, or only report it"),
    BOOL(jwt, allow_public_default, "false", RELOAD,
         "accept the secret that the controller falls back to and everybody knows; for trials"),

    CHOICE(policy, agent_tokens_on_regenerate, "deny", deny_or_allow, RELOAD,
           "may an agent's token regenerate credentials"),
    BOOL(policy, revoke_on_regenerate, "false", RELOAD,
         "refuse an agent's older tokens once its credentials were regenerated"),

    TEXT(redis, url, "", config_redis_url_complaint, false, RESTART,
         "Redis that replicas share and that keeps acknowledged heartbeats: redis://host:6379, "
         "rediss://..., unix:/path, redis+sentinel://h1,h2,h3/master; empty: none"),
    TEXT(redis, key_prefix, "aiwm-gateway:", config_redis_prefix_complaint, false, RESTART,
         "what every key in Redis begins with; one for each fleet of gateways"),
    TEXT(redis, username, "", NULL, false, RESTART, "user of Redis' ACL; empty: the default user"),
    CONTENT_AT_START(redis, password, "password of Redis"),
    CONTENT_AT_START(redis, sentinel_password, "password of the sentinels, where they want one"),
    CONTENT_AT_START(redis, ca,
                     "CA certificates, PEM, that may vouch for rediss:; else the system's"),
    CONTENT_AT_START(redis, certificate, "our certificate, PEM, for a Redis that wants one"),
    CONTENT_AT_START(redis, private_key, "private key of redis.certificate_file, PEM"),
    DURATION(redis, connect_timeout, "1s", "50ms", "60s", RESTART,
             "longest wait until a connection to Redis is ready for use"),
    DURATION(redis, command_timeout, "1s", "50ms", "60s", RESTART,
             "a Redis that is silent for longer is given up and connected to anew"),

    TEXT(aiwm_events, redis_url, "", config_redis_url_complaint, false, RESTART,
         "the controller's own Redis: agents' updates and deletions that bypass the gateway are "
         "seen there; written like redis.url; empty: not followed"),
    TEXT(aiwm_events, stream, "bull:agents.queue:events", config_stream_complaint, false, RESTART,
         "where the controller's queue of agents tells its events"),
    TEXT(aiwm_events, username, "", NULL, false, RESTART,
         "user of that Redis' ACL; empty: the default user"),
    CONTENT_AT_START(aiwm_events, password, "password of that Redis"),
    CONTENT_AT_START(aiwm_events, ca,
                     "CA certificates, PEM, that may vouch for it; else the system's"),

    BOOL(connect_cache, enabled, "true", RELOAD, "answer known agents' connects from the cache"),
    CONTENT(connect_cache, key,
            "key that seals cached answers, 32 bytes or more; else derived from the JWT secret"),
    CONTENT(connect_cache, previous_key,
            "the key before the last change: what it sealed still opens; else derived likewise"),
    DURATION(connect_cache, fresh_for, "60s", "0s", "24h", RELOAD,
             "a younger answer is given without asking the controller"),
    DURATION(connect_cache, stale_after, "3300s", "0s", "24h", RELOAD,
             "for an older answer the controller is given more time to give a new one"),
    DURATION(connect_cache, dead_before_expiry, "300s", "0s", "24h", RELOAD,
             "an answer whose token ends sooner is never given from the cache"),
    DURATION(connect_cache, redis_budget, "50ms", "1ms", "10s", RELOAD,
             "a connect waits no longer for what other replicas have put into Redis"),
    INTEGER(connect_cache, refresh_rate, "5", "1", "1000", RELOAD,
            "connects of known agents for which the controller is asked in a second"),
    INTEGER(connect_cache, refresh_burst, "20", "1", "10000", RELOAD,
            "how many of them may come at once after a calm"),
    SIZE(connect_cache, memory, "64MiB", "1MiB", "64GiB", RESTART,
         "memory for cached answers, all workers together"),

    DURATION(heartbeat, forward_interval, "120s", "100ms", "1h", RELOAD,
             "how often an agent's heartbeat is passed on while nothing changes"),
    DURATION(heartbeat, max_hold, "75s", "0s", "1h", RELOAD,
             "a heartbeat is passed on no later than this after it came"),
    DURATION(heartbeat, expiry, "90s", "100ms", "1h", RELOAD,
             "an older heartbeat is not passed on: it would forge life"),
    DURATION(heartbeat, min_forward_gap, "10s", "0s", "1h", RELOAD,
             "shortest time between two heartbeats of an agent that are passed on"),
    DURATION(heartbeat, ack_budget, "50ms", "1ms", "10s", RELOAD,
             "an agent waits no longer for Redis to have its heartbeat; then it is held in memory "
             "and acknowledged with X-AIWM-Ack: memory"),
    INTEGER(heartbeat, max_rate, "10", "1", "1000", RELOAD,
            "heartbeats accepted from an agent in a second"),
    CHOICE(heartbeat, bulk, "auto", off_or_auto, RELOAD,
           "deliver heartbeats in bulk where the controller offers it and a service token is set"),
    DURATION(heartbeat, bulk_linger, "2s", "0s", "60s", RELOAD,
             "a due heartbeat waits this long for others to travel with; with Redis 10 s at most"),

    INTEGER(queue, connect, "8", "1", "1000", RELOAD,
            "connects the controller is asked at once, all replicas of the gateway together"),
    INTEGER(queue, heartbeat, "32", "1", "10000", RELOAD, "held heartbeats sent at once"),
    INTEGER(queue, control, "16", "1", "10000", RELOAD,
            "disconnects, and heartbeats that are forwarded while their agent waits, at once"),
    INTEGER(queue, api, "128", "1", "10000", RELOAD, "other calls it is asked at once"),
    NUMBER(CONFIG_INTEGER, "queue.long", AT(queue, long_calls), "256", "1", "100000", RELOAD,
           "long calls at once: inference, generate-text, summaries, exec, POST /mcp"),
    INTEGER(queue, streams, "512", "1", "100000", RELOAD,
            "upgraded connections, event streams and long polls at once"),
    BOOL(queue, adaptive, "true", RELOAD,
         "adapt the concurrency limits of connects and heartbeats to the controller's latency"),
    BOOL(queue, adaptive_api, "false", RELOAD,
         "likewise that of other calls (queue.api): slow calls of one client then lower it for "
         "all"),
    DURATION(queue, wait, "8s", "100ms", "60s", RELOAD,
             "a call that cannot be answered within this time is refused at once"),
    DURATION(queue, retry_reach, "300s", "1s", "1h", RESTART,
             "the largest Retry-After of a refused connect"),
    DURATION(queue, ramp, "30s", "0s", "10m", RELOAD,
             "so long after an outage connects get half their places"),

    INTEGER(breaker, failures, "5", "1", "1000", RELOAD,
            "consecutive failures that open the circuit breaker: connections that cannot be made, "
            "failed probes of /health, connects and held heartbeats without an answer (where one "
            "agent or an unknown secret may be the reason only if a probe fails, too)"),
    DURATION(breaker, window, "10s", "1s", "10m", RELOAD,
             "or failure_percent of the calls within this time"),
    INTEGER(breaker, min_calls, "20", "1", "100000", RELOAD,
            "fewer calls within the window are not judged"),
    INTEGER(breaker, failure_percent, "50", "1", "100", RELOAD,
            "a higher share of failures than this opens the circuit breaker"),
    DURATION(breaker, open, "500ms", "100ms", "10m", RELOAD,
             "interval between probes of /health while the circuit breaker is open"),
    DURATION(breaker, max_open, "500ms", "100ms", "1h", RELOAD,
             "the interval doubles with each failed probe up to this; not above breaker.open: it "
             "stays the same"),

    INTEGER(limits, connects_per_agent, "5", "0", "10000", RELOAD,
            "connects per agent and minute for which the controller is asked; 0: no limit"),
    INTEGER(limits, connect_failures_per_agent, "5", "0", "10000", RELOAD,
            "wrong secrets per agent and minute; more lock it for unknown secrets; 0: no limit"),
    DURATION(limits, lockout_gap, "10s", "100ms", "10m", RELOAD,
             "how often an unknown secret of a locked agent is tried all the same"),
    INTEGER(limits, connect_failures_per_ip, "20", "0", "10000", RELOAD,
            "failed connects per address (IPv6: /64) and minute, and two more for each agent "
            "known there; 0: no limit"),
    INTEGER(limits, api_rate, "50", "0", "10000", RELOAD,
            "calls per agent and second, heartbeats and connects excepted; 0: no limit"),
    INTEGER(limits, api_burst, "100", "1", "100000", RELOAD,
            "how many of them may come at once after a calm"),
    INTEGER(limits, control_rate, "100", "0", "10000", RELOAD,
            "disconnects, and heartbeats that are forwarded while their agent waits, per identity "
            "(agent or user) and second; 0: no limit"),
    INTEGER(limits, control_burst, "500", "1", "100000", RELOAD,
            "how many of them may come at once"),
    BOOL(limits, rate_limit_fields, "false", RELOAD,
         "tell agents what is left of their calls (RateLimit and RateLimit-Policy)"),
    BOOL(limits, shared, "true", RELOAD,
         "with Redis: count what clients take together with the other replicas"),
    INTEGER(limits, max_in_flight, "8192", "1", "1000000", RELOAD,
            "requests that wait for an answer, all clients together"),
    SIZE(limits, request_memory, "64MiB", "1MiB", "64GiB", RESTART,
         "requests being received or waiting for an answer, all clients together"),
    SIZE(limits, memory, "0", "0", "1024GiB", RELOAD,
         "what the process may use before it gives up connects, then calls, then heartbeats; "
         "0: what the container may have"),
    DURATION(
        limits, max_loop_lag, "1s", "10ms", "1m", RELOAD,
        "how late the gateway may be before it gives up connects, then calls, then heartbeats"),

    DURATION(drain, delay, "5s", "0s", "10m", RELOAD,
             "after SIGTERM keep serving this long while /readyz already says no, until load "
             "balancers and Kubernetes' endpoints have noticed"),
    DURATION(drain, timeout, "30s", "0s", "1h", RELOAD,
             "then give requests in flight this long to end"),

    NUMBER(CONFIG_INTEGER, "workers", offsetof(struct config, workers), "0", "0", "64", RESTART,
           "worker threads; 0 takes as many as there are processors for us"),

    CHOICE(log, level, "info", log_levels, RELOAD, "least important lines that are written"),
    CHOICE(log, format, "auto", log_formats, RESTART, "auto is text on a terminal, else json"),
    CHOICE(log, access, "errors", access_modes, RELOAD,
           "a line for each request: none; what fails or the gateway refuses; these and all others "
           "but good heartbeats, of which one in access_sample; all, without a bound"),
    INTEGER(log, access_sample, "100", "1", "1000000", RELOAD,
            "of so many good heartbeats one is written (log.access: sampled)"),
    INTEGER(log, access_rate, "10", "1", "10000", RELOAD,
            "request lines in a second, ten times as many at once, for failures and for all others "
            "each; what exceeds it is counted (not with log.access: all)"),
    TEXT(log, access_query, "", access_names_complaint, false, RELOAD,
         "names of the query parameters that request lines show; of others nothing is written"),
};

enum { ROW_COUNT = sizeof config_rows / sizeof config_rows[0] };
_Static_assert((int)ROW_COUNT <= (int)CONFIG_ROWS_MAX, "raise CONFIG_ROWS_MAX");

size_t config_row_count(void) {
    return ROW_COUNT;
}

const struct config_row *config_row_find(struct span key) {
    for (config_row_each(row))
        if (span_equal(span_of(row->key), key))
            return row;
    return NULL;
}

struct span config_row_section(const struct config_row *row) {
    const char *dot = strrchr(row->key, '.');
    return dot ? (struct span){row->key, (size_t)(dot - row->key)} : SPAN_NONE;
}

struct span config_row_name(const struct config_row *row) {
    const char *dot = strrchr(row->key, '.');
    return span_of(dot ? dot + 1 : row->key);
}

bool config_is_section(struct span name) {
    for (config_row_each(row))
        if (name.len > 0 && span_equal(config_row_section(row), name))
            return true;
    return false;
}

/* ---- the environment's spelling ---- */

static void spell_variable(struct span key, char out[CONFIG_VARIABLE_MAX]) {
    struct str name;
    str_init_fixed(&name, out, CONFIG_VARIABLE_MAX);
    STR_ADD(&name, "AIWM_GATEWAY_");
    for (size_t i = 0; i < key.len; i++) {
        char c = key.ptr[i];
        str_add_char(&name, c == '.' ? '_' : c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c);
    }
    str_add_char(&name, '\0');
    invariant(!name.overflow);
}

void config_row_variable(const struct config_row *row, char out[CONFIG_VARIABLE_MAX]) {
    spell_variable(span_of(row->key), out);
}

void config_row_content_variable(const struct config_row *row, char out[CONFIG_VARIABLE_MAX]) {
    invariant(row->type == CONFIG_FILE);
    struct span key = span_of(row->key);
    key.len -= strlen("_file");
    spell_variable(key, out);
}

/* ---- "did you mean" ---- */

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Levenshtein's distance with one row of memory; `b` is at most CONFIG_KEY_MAX long. */
static size_t distance(struct span a, struct span b) {
    size_t cost[CONFIG_KEY_MAX + 1];
    for (size_t j = 0; j <= b.len; j++)
        cost[j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        size_t diagonal = cost[0];
        cost[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t swap = diagonal + (a.ptr[i - 1] != b.ptr[j - 1]);
            diagonal = cost[j];
            cost[j] = least(swap, least(cost[j], cost[j - 1]) + 1);
        }
    }
    return cost[b.len];
}

struct nearest {
    struct span name;
    size_t distance;
};

static void keep_nearer(struct nearest *best, struct span candidate, struct span name) {
    size_t d = distance(candidate, name);
    if (d < best->distance)
        *best = (struct nearest){candidate, d};
}

struct span config_nearest(struct span name) {
    if (name.len > CONFIG_KEY_MAX)
        return SPAN_NONE;
    /* More than a third of the letters wrong is no misspelling but another word. */
    size_t too_far = (name.len < 3 ? 1 : name.len / 3) + 1;
    struct nearest best = {SPAN_NONE, too_far};
    for (config_row_each(row)) {
        keep_nearer(&best, span_of(row->key), name);
        keep_nearer(&best, config_row_section(row), name);
    }
    return best.name;
}
