#include "base/panic.h"
#include "base/secret.h"
#include "rules/config/config_reading.h"
#include "rules/config/config_values.h"
#include "rules/redis/redis_url.h"
#include "rules/trust/ticket_keys.h"
#include "rules/trust/token.h"
#include "rules/wire/cors.h"

#include <stdio.h>

enum {
    WHAT_MAX = 512,
    CACHE_KEY_MIN = 32, /* bytes; shorter than the hash it keys (RFC 2104 section 3) is weak */
};

static const struct config_row *row_of(const char *key) {
    const struct config_row *row = config_row_find(span_of(key));
    invariant(row);
    return row;
}

static bool is_faulty(struct config_reading *r, const char *key) {
    return config_origin(r, row_of(key))->is_faulty;
}

/* Was the content of a *_file key given by neither path nor environment? */
static bool has_no_content(struct config_reading *r, const char *key) {
    return !is_faulty(r, key) && !config_value_content(r->config, row_of(key))->bytes;
}

static void judge_required(struct config_reading *r) {
    for (config_row_each(row))
        if (row->required && !config_origin(r, row)->is_faulty &&
            *config_value_text(r->config, row) == '\0')
            config_complain(r, row, "is missing; it has no default, so write one");
}

static void judge_tls(struct config_reading *r) {
    if (!r->config->tls.enabled || is_faulty(r, "tls.enabled"))
        return;
    if (has_no_content(r, "tls.certificate_file"))
        config_complain(r, row_of("tls.certificate_file"),
                        "is missing; set it or AIWM_GATEWAY_TLS_CERTIFICATE, or tls.enabled: false "
                        "where something in front speaks TLS");
    if (has_no_content(r, "tls.private_key_file"))
        config_complain(r, row_of("tls.private_key_file"),
                        "is missing; set it or AIWM_GATEWAY_TLS_PRIVATE_KEY, or tls.enabled: false "
                        "where something in front speaks TLS");
}

static void judge_ticket_keys(struct config_reading *r) {
    const struct config_secret *content = &r->config->tls.ticket_keys;
    struct ticket_key keys[TICKET_KEYS_MAX];
    if (!content->bytes || is_faulty(r, "tls.ticket_keys_file"))
        return;
    bool fine = ticket_keys_parse((struct span){content->bytes, content->len}, keys) > 0;
    secret_cleanse(keys, sizeof keys);
    if (!fine)
        config_complain(r, row_of("tls.ticket_keys_file"),
                        "needs one to four lines of 160 hex digits; make one with `openssl rand "
                        "-hex 80`");
}

static void judge_upstream_ca(struct config_reading *r) {
    bool is_plain = span_starts(span_of(r->config->upstream.url), SPAN("http://"));
    if (is_plain && r->config->upstream.ca.bytes)
        config_warn(r, row_of("upstream.ca_file"), "is not used: upstream.url begins with http://");
}

static bool is_tls_redis(const char *text) {
    struct redis_url url;
    return !redis_url_parse(span_of(text), &url) && url.tls;
}

/* Files that speak of TLS where there is none are a sign that TLS was meant. */
static void judge_redis(struct config_reading *r) {
    static const char *const tls_keys[] = {"redis.ca_file", "redis.certificate_file",
                                           "redis.private_key_file"};
    const struct config *c = r->config;
    bool speaks_tls = c->redis.url[0] == '\0' || is_tls_redis(c->redis.url);
    for (size_t i = 0; i < sizeof tls_keys / sizeof tls_keys[0]; i++)
        if (!speaks_tls && config_value_content(r->config, row_of(tls_keys[i]))->bytes)
            config_warn(r, row_of(tls_keys[i]), "is not used: redis.url is no rediss: URL");
    if (!c->redis.certificate.bytes != !c->redis.private_key.bytes)
        config_complain(r, row_of("redis.certificate_file"),
                        "needs redis.private_key_file beside it, and the other way round");
    if (c->redis.username[0] != '\0' && has_no_content(r, "redis.password_file"))
        config_complain(r, row_of("redis.username"), "needs redis.password_file beside it");
}

/* Any page of the world, with the user's cookies: browsers refuse it, and rightly. */
static void judge_cors(struct config_reading *r) {
    static const char *const keys[] = {"forward.cors.origins", "forward.cors.methods",
                                       "forward.cors.headers", "forward.cors.expose"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (r->config->forward.cors.credentials && !is_faulty(r, keys[i]) &&
            cors_has_star(config_value_text(r->config, row_of(keys[i]))))
            config_complain(r, row_of(keys[i]),
                            "is *, and forward.cors.credentials is true; browsers refuse the two "
                            "together: name what you allow, or allow no credentials");
}

/* ---- admin ---- */

static bool is_this_machine(const char *address) {
    return strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0;
}

static void judge_admin(struct config_reading *r) {
    enum { TOKEN_MIN = 16 };
    const struct config *c = r->config;
    const struct config_secret *token = &c->admin.token;
    if (is_faulty(r, "admin.address") || is_faulty(r, "admin.token_file"))
        return;
    if (c->admin.address[0] != '\0' && !is_this_machine(c->admin.address) && !token->bytes)
        config_complain(r, row_of("admin.token_file"),
                        "is missing: others than this machine can reach admin.address; set it, or "
                        "admin.address: 127.0.0.1");
    if (token->bytes && token->len < TOKEN_MIN)
        config_complain(r, row_of("admin.token_file"),
                        "is shorter than 16 bytes; make one with `openssl rand -hex 32`");
}

static void judge_aiwm_events(struct config_reading *r) {
    const struct config *c = r->config;
    const char *url = c->aiwm_events.redis_url;
    if (url[0] != '\0' && !is_tls_redis(url) && c->aiwm_events.ca.bytes)
        config_warn(r, row_of("aiwm_events.ca_file"),
                    "is not used: aiwm_events.redis_url is no rediss: URL");
    if (c->aiwm_events.username[0] != '\0' && has_no_content(r, "aiwm_events.password_file"))
        config_complain(r, row_of("aiwm_events.username"),
                        "needs aiwm_events.password_file beside it");
}

/* ---- jwt ---- */

static void judge_secret(struct config_reading *r, const char *key) {
    const struct config_row *row = row_of(key);
    const struct config_secret *content = config_value_content(r->config, row);
    if (is_faulty(r, key) || !content->bytes)
        return;
    struct span secret = {content->bytes, content->len};
    bool is_loud = false;
    const char *complaint =
        token_secret_complaint(secret, r->config->jwt.allow_public_default, &is_loud);
    if (complaint) {
        char what[WHAT_MAX];
        (void)snprintf(what, sizeof what, "%s; give the controller a strong JWT_SECRET and use it",
                       complaint);
        config_complain(r, row, what);
    } else if (is_loud && token_secret_complaint(secret, false, &is_loud)) {
        config_warn(r, row,
                    "is the controller's public default: anybody can sign tokens with it; "
                    "never use this but for trials");
    } else if (is_loud) {
        config_warn(r, row, "is shorter than 32 bytes and may be guessed; use a longer JWT_SECRET");
    }
}

static void judge_jwt(struct config_reading *r) {
    if (has_no_content(r, "jwt.secret_file"))
        config_complain(r, row_of("jwt.secret_file"),
                        "is missing; set jwt.secret_file or AIWM_GATEWAY_JWT_SECRET to the "
                        "controller's JWT_SECRET");
    judge_secret(r, "jwt.secret_file");
    judge_secret(r, "jwt.previous_secret_file");
}

static void judge_cache_key(struct config_reading *r) {
    const struct config_secret *key = &r->config->connect_cache.key;
    if (key->bytes && !is_faulty(r, "connect_cache.key_file") && key->len < CACHE_KEY_MIN)
        config_complain(r, row_of("connect_cache.key_file"),
                        "is shorter than 32 bytes; make one with `openssl rand -hex 32`");
}

/* ---- two keys against each other ---- */

static const struct {
    const char *smaller, *larger;
} orders[] = {
    {"connect_cache.fresh_for", "connect_cache.stale_after"},
    {"heartbeat.min_forward_gap", "heartbeat.forward_interval"},
    {"heartbeat.max_hold", "heartbeat.expiry"},
};

static void judge_order(struct config_reading *r, const char *smaller, const char *larger) {
    if (is_faulty(r, smaller) || is_faulty(r, larger))
        return;
    if (config_value_number(r->config, row_of(smaller)) <=
        config_value_number(r->config, row_of(larger)))
        return;
    char memory[WHAT_MAX];
    struct str what;
    str_init_fixed(&what, memory, sizeof memory);
    STR_ADD(&what, "is ");
    config_value_print(r->config, row_of(smaller), &what);
    str_addf(&what, ", more than %s, which is ", larger);
    config_value_print(r->config, row_of(larger), &what);
    STR_ADD(&what, "; lower one or raise the other");
    str_add_char(&what, '\0');
    config_complain(r, row_of(smaller), memory);
}

static bool is_wildcard(const char *address) {
    return strcmp(address, "0.0.0.0") == 0 || strcmp(address, "::") == 0;
}

/* Ports of the same address. */
static void judge_port(struct config_reading *r, const char *section, const char *other) {
    char address[64], port[64], other_address[64], other_port[64];
    (void)snprintf(address, sizeof address, "%s.address", section);
    (void)snprintf(port, sizeof port, "%s.port", section);
    (void)snprintf(other_address, sizeof other_address, "%s.address", other);
    (void)snprintf(other_port, sizeof other_port, "%s.port", other);
    const char *mine = config_value_text(r->config, row_of(address));
    const char *theirs = config_value_text(r->config, row_of(other_address));
    bool meet = strcmp(mine, theirs) == 0 || is_wildcard(mine) || is_wildcard(theirs);
    int64_t number = config_value_number(r->config, row_of(port));
    if (is_faulty(r, port) || is_faulty(r, other_port) || !meet || mine[0] == '\0' || number == 0)
        return;
    char what[WHAT_MAX];
    (void)snprintf(what, sizeof what, "is %s as well; choose another", other_port);
    if (number == config_value_number(r->config, row_of(other_port)))
        config_complain(r, row_of(port), what);
}

static void judge_ports(struct config_reading *r) {
    judge_port(r, "health", "listen");
    judge_port(r, "admin", "listen");
    judge_port(r, "admin", "health");
}

void config_judge(struct config_reading *r) {
    if (r->broken)
        return;
    judge_required(r);
    judge_tls(r);
    judge_ticket_keys(r);
    judge_upstream_ca(r);
    judge_redis(r);
    judge_cors(r);
    judge_admin(r);
    judge_aiwm_events(r);
    judge_jwt(r);
    judge_cache_key(r);
    for (size_t i = 0; i < sizeof orders / sizeof orders[0]; i++)
        judge_order(r, orders[i].smaller, orders[i].larger);
    judge_ports(r);
}
