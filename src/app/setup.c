#include "app/setup.h"

#include "base/panic.h"
#include "io/files.h"
#include "io/tls.h"
#include "serve/redis/scripts.h"

#include <stdio.h>
#include <stdlib.h>

enum { TEXT_MAX = 65536 };

static bool read_config(struct setup *s, const char *config_file, char *const *environ,
                        struct str *complaints) {
    struct config_sources sources = {
        .file_name = config_file, .environ = environ, .read_file = files_read};
    char *text = NULL;
    if (config_file) {
        size_t len = 0;
        const char *why = NULL;
        text = files_read(NULL, config_file, &len, &why);
        if (!text) {
            str_addf(complaints, "%s: cannot be read: %s\n", config_file, why);
            return false;
        }
        sources.file = (struct span){text, len};
    }
    s->config = config_read(&sources, complaints, &s->warnings);
    free(text);
    return s->config != NULL;
}

static struct span secret_span(const struct config_secret *secret) {
    return (struct span){secret->bytes, secret->len};
}

static bool make_tls(struct setup *s, struct str *complaints) {
    const struct config *config = s->config;
    char why[TLS_WHY];
    if (!config->tls.enabled)
        return true;
    s->tls = tls_server_new(secret_span(&config->tls.certificate),
                            secret_span(&config->tls.private_key), why);
    if (!s->tls)
        str_addf(complaints, "tls.certificate_file, tls.private_key_file: %s\n", why);
    return s->tls != NULL;
}

/* The URL was judged by the configuration: http[s]://host[:port], perhaps a final slash. */
static void take_url(struct setup *s, bool *https) {
    struct span rest = span_of(s->config->upstream.url);
    *https = span_starts(rest, SPAN("https://"));
    rest = span_from(rest, *https ? 8 : 7);
    while (rest.len > 0 && rest.ptr[rest.len - 1] == '/')
        rest.len--;
    bool bracketed = rest.len > 0 && rest.ptr[0] == '[';
    const char *end = bracketed ? memchr(rest.ptr, ']', rest.len) : memchr(rest.ptr, ':', rest.len);
    size_t host_len = !end ? rest.len : (size_t)(end - rest.ptr) + bracketed;
    struct span port = span_from(rest, host_len);
    s->upstream_host =
        bracketed ? strndup(rest.ptr + 1, host_len - 2) : strndup(rest.ptr, host_len);
    invariant(s->upstream_host);
    s->upstream.host = s->upstream_host;
    s->upstream.port = port.len > 1 ? (int)strtol(port.ptr + 1, NULL, 10) : *https ? 443 : 80;
    (void)snprintf(s->upstream_authority, sizeof s->upstream_authority, "%.*s", SPAN_ARG(rest));
}

static bool make_upstream(struct setup *s, struct str *complaints) {
    const struct config *config = s->config;
    bool https;
    char why[TLS_WHY];
    take_url(s, &https);
    s->upstream.connect_timeout_ms = config->upstream.connect_timeout_ms;
    s->upstream.response_timeout_ms = config->upstream.response_timeout_ms;
    if (!https)
        return true;
    s->upstream.tls = tls_client_new(secret_span(&config->upstream.ca), why);
    if (!s->upstream.tls)
        str_addf(complaints, "upstream.ca_file: %s\n", why);
    return s->upstream.tls != NULL;
}

static bool make_redis_tls(struct setup *s, struct str *complaints) {
    const struct config *config = s->config;
    char why[TLS_WHY];
    s->redis.tls = tls_client_new(secret_span(&config->redis.ca), why);
    if (!s->redis.tls) {
        str_addf(complaints, "redis.ca_file: %s\n", why);
        return false;
    }
    if (!config->redis.certificate.bytes)
        return true;
    bool fine = tls_client_present(s->redis.tls, secret_span(&config->redis.certificate),
                                   secret_span(&config->redis.private_key), why);
    if (!fine)
        str_addf(complaints, "redis.certificate_file, redis.private_key_file: %s\n", why);
    return fine;
}

static bool make_redis(struct setup *s, struct str *complaints) {
    const struct config *config = s->config;
    if (config->redis.url[0] == '\0')
        return true;
    const char *complaint = redis_url_parse(span_of(config->redis.url), &s->redis_url);
    invariant(!complaint); /* the configuration was judged */
    s->redis = (struct redis_options){
        .name = "redis",
        .url = &s->redis_url,
        .username = span_of(config->redis.username),
        .password = secret_span(&config->redis.password),
        .sentinel_password = secret_span(&config->redis.sentinel_password),
        .connect_timeout_ms = config->redis.connect_timeout_ms,
        .command_timeout_ms = config->redis.command_timeout_ms,
        .scripts = serve_scripts,
        .script_count = SCRIPT_COUNT,
        .health = &s->redis_health,
    };
    return !s->redis_url.tls || make_redis_tls(s, complaints);
}

static bool make_events(struct setup *s, struct str *complaints) {
    const struct config *config = s->config;
    char why[TLS_WHY];
    if (config->aiwm_events.redis_url[0] == '\0')
        return true;
    const char *complaint = redis_url_parse(span_of(config->aiwm_events.redis_url), &s->events_url);
    invariant(!complaint); /* the configuration was judged */
    s->events = (struct redis_options){
        .name = "aiwm_events",
        .url = &s->events_url,
        .username = span_of(config->aiwm_events.username),
        .password = secret_span(&config->aiwm_events.password),
        .connect_timeout_ms = config->redis.connect_timeout_ms,
        .command_timeout_ms = config->redis.command_timeout_ms,
        .reads_only = true,
        .health = &s->events_health,
    };
    if (!s->events_url.tls)
        return true;
    s->events.tls = tls_client_new(secret_span(&config->aiwm_events.ca), why);
    if (!s->events.tls)
        str_addf(complaints, "aiwm_events.ca_file: %s\n", why);
    return s->events.tls != NULL;
}

static void keep_running(struct setup *s, const struct config *running) {
    (void)config_needs_restart(running, s->config, &s->warnings);
    config_keep_running(running, s->config);
}

bool setup_read(struct setup *s, const char *config_file, char *const *environ,
                const struct config *running, struct str *complaints) {
    *s = (struct setup){0};
    str_init(&s->warnings, TEXT_MAX);
    if (!read_config(s, config_file, environ, complaints))
        return false;
    if (running)
        keep_running(s, running);
    bool tls_fine = make_tls(s, complaints), redis_fine = make_redis(s, complaints);
    bool events_fine = make_events(s, complaints);
    return make_upstream(s, complaints) && tls_fine && redis_fine && events_fine;
}

bool setup_is_news(const char *config_file, char *const *environ, const struct config *running) {
    struct setup s = {0};
    struct str complaints;
    str_init(&complaints, TEXT_MAX);
    str_init(&s.warnings, TEXT_MAX);
    bool is_news = !read_config(&s, config_file, environ, &complaints);
    if (!is_news) {
        keep_running(&s, running);
        is_news = config_contents_differ(running, s.config);
    }
    setup_release(&s);
    str_release(&complaints);
    return is_news;
}

void setup_release(struct setup *s) {
    str_release(&s->warnings);
    SSL_CTX_free(s->tls);
    SSL_CTX_free(s->upstream.tls);
    SSL_CTX_free(s->redis.tls);
    SSL_CTX_free(s->events.tls);
    free(s->upstream_host);
    if (s->config)
        config_free(s->config);
}
