/* The configuration: one row per key in config_table.c drives YAML, environment, defaults, ranges,
 * --check-config, --print-config and the docs. Adding a key is adding a row and a member.
 *
 * Sources, the later wins: default, YAML file (JSON is YAML), environment AIWM_GATEWAY_<PATH>
 * (dots become underscores, upper case). Every key that ends in _file may be given in the
 * environment without _FILE as the value itself; secrets come from nowhere else. */
#pragma once

#include "base/span.h"
#include "base/str.h"

#include <stdint.h>

/* Bytes read from a *_file or the environment; owned by the config, cleansed when freed. */
struct config_secret {
    char *bytes; /* NULL: not configured */
    size_t len;
};

enum config_proxy_protocol { CONFIG_PROXY_PROTOCOL_OFF, CONFIG_PROXY_PROTOCOL_V2 };
enum config_binding { CONFIG_BINDING_ENFORCE, CONFIG_BINDING_REPORT };

/* Texts (char *) are never NULL: "" is "not set". A *_file is "" when its content came from the
 * environment. */
struct config {
    struct {
        char *address;
        int64_t port; /* 0: any free port, logged at start */
        int64_t max_connections;
        char *trusted_proxies;  /* networks, as rules/wire/address reads them */
        int64_t proxy_protocol; /* enum config_proxy_protocol */
    } listen;
    struct {
        bool enabled;
        char *certificate_file;
        char *private_key_file;
        struct config_secret certificate; /* contents, PEM */
        struct config_secret private_key;
        char *ticket_keys_file;
        struct config_secret ticket_keys; /* see rules/trust/ticket_keys.h */
    } tls;
    struct {
        char *address;
        int64_t port;
    } health;
    struct {
        char *address; /* "": there is no admin port */
        int64_t port;
        char *token_file;
        struct config_secret token; /* without it nothing can be changed there */
    } admin;
    struct {
        char *url;          /* http://host[:port] or https://host[:port], no path */
        char *strip_prefix; /* "" or "/dev/aiwm" */
        char *ca_file;
        struct config_secret ca; /* contents; empty: the system's */
        int64_t connect_timeout_ms;
        int64_t response_timeout_ms;
        int64_t long_timeout_ms; /* first byte of a long call */
        char *service_token_file;
        struct config_secret service_token; /* for heartbeats in bulk */
    } upstream;
    struct {
        int64_t max_body; /* bytes */
        struct {
            char *origins; /* "": off; see rules/wire/cors.h */
            char *methods;
            char *headers;
            char *expose;
            bool credentials;
            int64_t max_age_ms;
        } cors;
    } forward;
    struct {
        char *secret_file;
        char *previous_secret_file;
        struct config_secret secret;
        struct config_secret previous_secret;
        int64_t leeway_ms;
        int64_t binding; /* enum config_binding */
        bool allow_public_default;
    } jwt;
    struct {
        int64_t agent_tokens_on_regenerate; /* 0 deny, 1 allow */
        bool revoke_on_regenerate;
    } policy;
    struct {
        char *url;        /* see rules/redis/redis_url.h; "": no Redis */
        char *key_prefix; /* of every key */
        char *username;
        char *password_file;
        struct config_secret password;
        char *sentinel_password_file;
        struct config_secret sentinel_password;
        char *ca_file;
        struct config_secret ca; /* contents; empty: the system's */
        char *certificate_file;
        struct config_secret certificate; /* ours, for a Redis that wants one */
        char *private_key_file;
        struct config_secret private_key;
        int64_t connect_timeout_ms;
        int64_t command_timeout_ms;
    } redis;
    struct {
        char *redis_url; /* the controller's own Redis; "": not followed */
        char *stream;
        char *username;
        char *password_file;
        struct config_secret password;
        char *ca_file;
        struct config_secret ca;
    } aiwm_events;
    struct {
        bool enabled;
        char *key_file;
        struct config_secret key;
        char *previous_key_file;
        struct config_secret previous_key;
        int64_t fresh_for_ms;
        int64_t stale_after_ms;
        int64_t dead_before_expiry_ms;
        int64_t redis_budget_ms;
        int64_t refresh_rate; /* per second */
        int64_t refresh_burst;
        int64_t memory; /* bytes */
    } connect_cache;
    struct {
        int64_t forward_interval_ms;
        int64_t max_hold_ms;
        int64_t expiry_ms;
        int64_t min_forward_gap_ms;
        int64_t max_rate; /* per agent and second */
        int64_t bulk;     /* 0 off, 1 auto */
        int64_t bulk_linger_ms;
        int64_t ack_budget_ms;
    } heartbeat;
    struct {
        int64_t connect; /* calls at once, over all replicas */
        int64_t heartbeat;
        int64_t control;
        int64_t api;
        int64_t long_calls;
        int64_t streams;
        bool adaptive; /* connects and heartbeats */
        bool adaptive_api;
        int64_t wait_ms;
        int64_t retry_reach_ms;
        int64_t ramp_ms;
    } queue;
    struct {
        int64_t failures;
        int64_t window_ms;
        int64_t min_calls;
        int64_t failure_percent;
        int64_t open_ms;
        int64_t max_open_ms;
    } breaker;
    struct {
        int64_t connects_per_agent; /* a minute; 0: no limit, here and below */
        int64_t connect_failures_per_agent;
        int64_t lockout_gap_ms;
        int64_t connect_failures_per_ip;
        int64_t api_rate; /* per agent and second */
        int64_t api_burst;
        int64_t control_rate; /* disconnects and forwarded heartbeats, per identity and second */
        int64_t control_burst;
        bool rate_limit_fields;
        bool shared; /* with other replicas, through Redis */
        int64_t max_in_flight;
        int64_t request_memory; /* bytes */
        int64_t memory;         /* bytes; 0: what the container may have */
        int64_t max_loop_lag_ms;
    } limits;
    struct {
        int64_t delay_ms;
        int64_t timeout_ms;
    } drain;
    int64_t workers; /* 0: as many as processors we may use */
    struct {
        int64_t level;  /* enum log_level */
        int64_t format; /* enum log_format */
        int64_t access; /* enum access_mode */
        int64_t access_sample;
        int64_t access_rate; /* lines a second */
        char *access_query;  /* names of query parameters */
    } log;
};

/* How the rules reach the world: given by io/files and main, faked in tests. */
struct config_sources {
    const char *file_name; /* for messages; NULL: no file */
    struct span file;      /* the YAML text */
    char *const *environ;  /* NULL-terminated NAME=value */
    /* Reads a whole file (at most 1 MiB). NULL and *why on failure; the result is malloc'ed. */
    char *(*read_file)(void *arg, const char *path, size_t *len, const char **why);
    void *arg;
};

/* Reads everything and reports every complaint at once, one per line, into `complaints`
 * ("file:line:column: key: what is wrong; what to do", "environment: NAME: ..."). Warnings (used,
 * but say it loudly) go to `warnings`, one per line. NULL if there was any complaint.
 * Also judged here: ranges, URLs, that tls files are given when tls.enabled, jwt secrets
 * (token_secret_complaint), unknown and duplicate keys, cross-field rules
 * (fresh_for <= stale_after, min_forward_gap <= forward_interval, ...). */
struct config *config_read(const struct config_sources *sources, struct str *complaints,
                           struct str *warnings);
void config_free(struct config *config);

/* The effective configuration as YAML, secrets as "(set)" or "(not set)"; what it prints can be
 * fed back as a config file (masked values excepted, as comments). */
void config_print(const struct config *config, struct str *out);

/* Every key with default, range, unit, environment name and help, for --help-config and docs. */
void config_describe(struct str *out);
/* The same as docs/config.md, and as a JSON schema for editors. */
void config_markdown(struct str *out);
void config_schema(struct str *out);

/* Does anything that stands in *_file keys differ (renewed certificates, rotated secrets)? */
bool config_contents_differ(const struct config *a, const struct config *b);
/* Gives `wanted` the running values of all keys that cannot be reloaded. */
void config_keep_running(const struct config *running, struct config *wanted);
/* Which keys differ and take effect only after a restart: one line each into `out`, for the log of
 * a reload. False when there are none. */
bool config_needs_restart(const struct config *running, const struct config *wanted,
                          struct str *out);
