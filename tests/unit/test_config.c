#include "io/files.h"
#include "rules/config/config.h"
#include "rules/config/config_table.h"
#include "rules/config/config_values.h"
#include "rules/config/config_yaml.h"

#include "base/log.h"
#include "base/panic.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#define SECRET      "0123456789abcdef0123456789abcdef"
#define TEN_BYTES   "00112233445566778899"
#define TICKET_KEY  TEN_BYTES TEN_BYTES TEN_BYTES TEN_BYTES TEN_BYTES TEN_BYTES TEN_BYTES TEN_BYTES
#define JWT         "AIWM_GATEWAY_JWT_SECRET=" SECRET
#define MINIMAL     "upstream: {url: 'http://aiwm:3000'}\ntls: {enabled: false}\n"
#define ENV(...)    ((const char *const[]){__VA_ARGS__, NULL})
#define ROWS(table) (sizeof(table) / sizeof(table)[0])

/* ---- the world, faked ---- */

enum { ENVIRONMENT_MAX = 16 };

static const struct {
    const char *path, *content;
} files[] = {
    {"/secret", SECRET "\n"},
    {"/secret-crlf", SECRET "\r\n"},
    {"/secret-two", SECRET "\n\n"},
    {"/secret-bare", SECRET},
    {"/empty", "\n"},
    {"/cert", "certificate"},
    {"/key", "private key"},
    {"/ca", "authority"},
    {"/short", "short"},
    {"/previous", SECRET "-old"},
    {"/tickets", TICKET_KEY "\n"},
    {"/pem", "-----BEGIN PUBLIC KEY-----\n"},
};

static char *fake_read_file(void *arg, const char *path, size_t *len, const char **why) {
    (void)arg;
    for (size_t i = 0; i < ROWS(files); i++) {
        if (strcmp(files[i].path, path) == 0) {
            *len = strlen(files[i].content);
            return must_copy(files[i].content, *len);
        }
    }
    *why = "No such file";
    return NULL;
}

/* Something fit for any path: a secret, or ticket keys. */
static char *read_anything(void *arg, const char *path, size_t *len, const char **why) {
    (void)arg;
    (void)why;
    const char *content = strstr(path, "ticket") ? TICKET_KEY : SECRET;
    *len = strlen(content);
    return must_copy(content, *len);
}

struct outcome {
    struct config *config; /* NULL when refused */
    struct str complaints, warnings;
    char complaint_text[16384], warning_text[16384]; /* terminated */
};

static void read_span(struct outcome *o, struct span yaml, const char *const *environment) {
    char *variables[ENVIRONMENT_MAX] = {NULL};
    for (size_t i = 0; environment[i]; i++) {
        cr_assert_lt(i + 1, ENVIRONMENT_MAX);
        variables[i] = must_strdup(environment[i]);
    }
    struct config_sources sources = {.file_name = yaml.ptr ? "g.yaml" : NULL,
                                     .file = yaml,
                                     .environ = variables,
                                     .read_file = fake_read_file};
    memset(o, 0, sizeof *o);
    str_init_fixed(&o->complaints, o->complaint_text, sizeof o->complaint_text - 1);
    str_init_fixed(&o->warnings, o->warning_text, sizeof o->warning_text - 1);
    o->config = config_read(&sources, &o->complaints, &o->warnings);
    for (size_t i = 0; i < ENVIRONMENT_MAX; i++)
        free(variables[i]);
    cr_assert_eq(o->config == NULL, o->complaints.len > 0, "refused without a word, or both");
}

static void read_text(struct outcome *o, const char *yaml, const char *const *environment) {
    read_span(o, span_of(yaml), environment);
}

/* A configuration that must be fine; the caller frees it. */
static struct config *read_fine(const char *yaml, const char *const *environment) {
    struct outcome o;
    read_text(&o, yaml, environment);
    cr_assert(o.config, "refused: %s", o.complaint_text);
    return o.config;
}

static bool secret_is(const struct config_secret *s, const char *text) {
    return span_equal((struct span){s->bytes, s->len}, span_of(text));
}

static size_t count_lines(const char *text) {
    size_t lines = 0;
    for (; *text; text++)
        lines += *text == '\n';
    return lines;
}

/* ---- the table ---- */

Test(config, every_row_is_complete_and_has_names_of_its_own) {
    for (config_row_each(row)) {
        char variable[CONFIG_VARIABLE_MAX], other[CONFIG_VARIABLE_MAX];
        config_row_variable(row, variable);
        cr_expect(row->help && *row->help, "%s has no help", row->key);
        cr_expect(strlen(row->key) <= CONFIG_KEY_MAX, "%s", row->key);
        cr_expect_eq(row, config_row_find(span_of(row->key)), "%s stands twice", row->key);
        for (config_row_each(twin)) {
            config_row_variable(twin, other);
            cr_expect(row == twin || strcmp(variable, other) != 0, "%s: %s", row->key, twin->key);
            if (twin->type == CONFIG_FILE) {
                config_row_content_variable(twin, other);
                cr_expect_str_neq(variable, other, "%s and the content of %s", row->key, twin->key);
            }
        }
    }
}

Test(config, rows_of_a_section_stand_together) {
    for (config_row_each(row)) {
        bool is_first = true;
        for (const struct config_row *before = config_rows; before < row; before++)
            is_first = is_first && !span_equal(config_row_section(before), config_row_section(row));
        cr_expect(is_first || span_equal(config_row_section(row - 1), config_row_section(row)),
                  "%s", row->key);
    }
}

Test(config, defaults_are_the_documented_ones) {
    struct config *c = read_fine(MINIMAL, ENV(JWT));
    cr_expect_str_eq(c->listen.address, "0.0.0.0");
    cr_expect_eq(c->listen.port, 8443);
    cr_expect_eq(c->listen.max_connections, 20000);
    cr_expect_str_eq(c->health.address, "0.0.0.0");
    cr_expect_eq(c->health.port, 9902);
    cr_expect_str_eq(c->upstream.strip_prefix, "");
    cr_expect_str_eq(c->upstream.ca_file, "");
    cr_expect_null(c->upstream.ca.bytes);
    cr_expect_eq(c->upstream.connect_timeout_ms, 2000);
    cr_expect_eq(c->upstream.response_timeout_ms, 60000);
    cr_expect_eq(c->upstream.long_timeout_ms, 300000);
    cr_expect_eq(c->queue.control, 16);
    cr_expect_eq(c->queue.long_calls, 256);
    cr_expect_not(c->queue.adaptive_api);
    cr_expect_eq(c->breaker.open_ms, 500);
    cr_expect_eq(c->forward.max_body, 1048576);
    cr_expect_eq(c->jwt.leeway_ms, 0);
    cr_expect_eq(c->jwt.binding, CONFIG_BINDING_ENFORCE);
    cr_expect_eq(c->jwt.allow_public_default, false);
    cr_expect_null(c->jwt.previous_secret.bytes);
    cr_expect_eq(c->policy.agent_tokens_on_regenerate, 0);
    cr_expect_eq(c->connect_cache.enabled, true);
    cr_expect_null(c->connect_cache.key.bytes);
    cr_expect_eq(c->connect_cache.fresh_for_ms, 60000);
    cr_expect_eq(c->connect_cache.stale_after_ms, 3300000);
    cr_expect_eq(c->connect_cache.dead_before_expiry_ms, 300000);
    cr_expect_eq(c->connect_cache.redis_budget_ms, 50);
    cr_expect_eq(c->connect_cache.memory, 64 * 1048576);
    cr_expect_eq(c->heartbeat.forward_interval_ms, 120000);
    cr_expect_eq(c->heartbeat.max_hold_ms, 75000);
    cr_expect_eq(c->heartbeat.expiry_ms, 90000);
    cr_expect_eq(c->heartbeat.min_forward_gap_ms, 10000);
    cr_expect_eq(c->heartbeat.max_rate, 10);
    cr_expect_eq(c->drain.delay_ms, 5000);
    cr_expect_eq(c->drain.timeout_ms, 30000);
    cr_expect_eq(c->workers, 0);
    cr_expect_eq(c->log.level, LOG_INFO);
    cr_expect_eq(c->log.format, LOG_AUTO);
    config_free(c);
}

Test(config, tls_is_on_unless_told_otherwise) {
    struct config *c = read_fine("upstream: {url: 'http://aiwm:3000'}\n"
                                 "tls: {certificate_file: /cert, private_key_file: /key}\n",
                                 ENV(JWT));
    cr_expect(c->tls.enabled);
    cr_expect(secret_is(&c->tls.certificate, "certificate"));
    cr_expect(secret_is(&c->tls.private_key, "private key"));
    cr_expect_str_eq(c->tls.certificate_file, "/cert");
    config_free(c);
}

/* ---- values ---- */

Test(config, reads_numbers_with_their_units) {
    static const struct {
        const char *key, *text;
        int64_t number;
    } rows[] = {
        {"heartbeat.expiry", "500ms", 500},
        {"heartbeat.expiry", "60s", 60000},
        {"heartbeat.expiry", "5m", 300000},
        {"connect_cache.fresh_for", "24h", 86400000},
        {"connect_cache.fresh_for", "0s", 0},
        {"forward.max_body", "1024", 1024},
        {"forward.max_body", "1KiB", 1024},
        {"forward.max_body", "64MiB", 67108864},
        {"connect_cache.memory", "2GiB", INT64_C(2147483648)},
        {"listen.port", "0", 0},
        {"listen.port", "65535", 65535},
        {"workers", "64", 64},
        {"jwt.binding", "report", CONFIG_BINDING_REPORT},
        {"policy.agent_tokens_on_regenerate", "allow", 1},
        {"log.level", "debug", LOG_DEBUG},
        {"tls.enabled", "false", 0},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct config c = {0};
        char why[256];
        struct str text;
        str_init_fixed(&text, why, sizeof why);
        const struct config_row *row = config_row_find(span_of(rows[i].key));
        cr_assert(config_value_set(&c, row, span_of(rows[i].text), &text), "%s: %s: %.*s",
                  rows[i].key, rows[i].text, SPAN_ARG(str_span(&text)));
        cr_expect_eq(config_value_number(&c, row), rows[i].number, "%s: %s", rows[i].key,
                     rows[i].text);
    }
}

Test(config, refuses_values_that_only_look_like_values) {
    static const struct {
        const char *key, *text, *said;
    } rows[] = {
        {"forward.max_body", "84b3", "a size from 1KiB to 64MiB"},
        {"forward.max_body", "1MB", "a size"},
        {"forward.max_body", "1 MiB", "a size"},
        {"forward.max_body", "1.5MiB", "a size"},
        {"forward.max_body", "1023", "a size"},
        {"forward.max_body", "65MiB", "a size"},
        {"forward.max_body", "999999999999999999GiB", "a size"},
        {"forward.max_body", "9999999999999999999", "a size"},
        {"heartbeat.expiry", "60", "a number without a unit; write a duration from 100ms to 1h"},
        {"heartbeat.expiry", "0", "a number without a unit"},
        {"heartbeat.expiry", "60S", "a duration"},
        {"heartbeat.expiry", "1d", "a duration"},
        {"heartbeat.expiry", "1h30m", "a duration"},
        {"heartbeat.expiry", "-1s", "a duration"},
        {"heartbeat.expiry", "s", "a duration"},
        {"heartbeat.expiry", "", "a duration"},
        {"heartbeat.expiry", "99ms", "a duration from 100ms to 1h"},
        {"heartbeat.expiry", "2h", "a duration"},
        {"listen.port", "84b3", "a whole number from 0 to 65535"},
        {"listen.port", "65536", "a whole number"},
        {"listen.port", "+1", "a whole number"},
        {"listen.port", "-1", "a whole number"},
        {"listen.port", "0x10", "a whole number"},
        {"listen.port", "010", "a whole number"},
        {"listen.port", "1_000", "a whole number"},
        {"listen.port", " 1", "a whole number"},
        {"listen.max_connections", "0", "a whole number from 1"},
        {"workers", "65", "a whole number from 0 to 64"},
        {"tls.enabled", "yes", "true or false"},
        {"tls.enabled", "True", "true or false"},
        {"log.level", "INFO", "error, warn, info or debug"},
        {"log.format", "xml", "auto, json or text"},
        {"listen.address", "localhost", "not an IP address"},
        {"listen.address", "", "not an IP address"},
        {"listen.address", "1.2.3", "not an IP address"},
        {"listen.address", "[::]", "not an IP address"},
        {"upstream.url", "aiwm:3000", "does not begin with http"},
        {"upstream.url", "ftp://aiwm", "does not begin with http"},
        {"upstream.url", "http://", "no valid host"},
        {"upstream.url", "http://:80", "no valid host"},
        {"upstream.url", "http://[::1", "no valid host"},
        {"upstream.url", "http://[1.2.3.4]", "no valid host"},
        {"upstream.url", "http://aiwm/", "has a path"},
        {"upstream.url", "http://aiwm:3000/api", "has a path"},
        {"upstream.url", "http://aiwm?x", "has a path"},
        {"upstream.url", "http://aiwm:0", "no valid port"},
        {"upstream.url", "http://aiwm:65536", "no valid port"},
        {"upstream.url", "http://aiwm:", "no valid port"},
        {"upstream.url", "http://aiwm:80x", "no valid port"},
        {"upstream.url", "http://user:word@aiwm", "user or password"},
        {"upstream.url", "http://ai\nwm", "control or non-ASCII"},
        {"upstream.strip_prefix", "dev", "begin and not end with a slash"},
        {"upstream.strip_prefix", "/", "begin and not end with a slash"},
        {"upstream.strip_prefix", "/dev/", "begin and not end with a slash"},
        {"upstream.strip_prefix", "/dev//aiwm", "empty segment"},
        {"upstream.strip_prefix", "/dev/../x", "begins with a dot"},
        {"upstream.strip_prefix", "/d%65v", "letters, digits"},
        {"upstream.strip_prefix", "/dev?x", "letters, digits"},
        {"jwt.secret_file", "/a\x7f", "control or non-ASCII"},
        {"aiwm_events.stream", "", "a queue's stream"},
        {"aiwm_events.stream", ":events", "a queue's stream"},
        {"aiwm_events.stream", "bull:agents.queue", "a queue's stream"},
        {"aiwm_events.stream", "bull: agents:events", "a queue's stream"},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct config c = {0};
        char why[256] = "";
        struct str text;
        str_init_fixed(&text, why, sizeof why - 1);
        const struct config_row *row = config_row_find(span_of(rows[i].key));
        cr_expect_not(config_value_set(&c, row, span_of(rows[i].text), &text), "%s: %s",
                      rows[i].key, rows[i].text);
        cr_expect(strstr(why, rows[i].said), "%s: %s: said %s", rows[i].key, rows[i].text, why);
        cr_expect(strchr(why, ';') != NULL, "says not what to do: %s", why);
        config_value_free(&c, row);
    }
}

Test(config, takes_every_kind_of_address_url_and_prefix) {
    static const struct {
        const char *key, *text;
    } rows[] = {
        {"listen.address", "127.0.0.1"},
        {"listen.address", "::"},
        {"upstream.url", "http://aiwm"},
        {"upstream.url", "https://aiwm.example.org:443"},
        {"upstream.url", "http://[::1]:80"},
        {"upstream.url", "http://10.0.0.1:65535"},
        {"upstream.strip_prefix", ""},
        {"upstream.strip_prefix", "/dev"},
        {"upstream.strip_prefix", "/dev/a-_~.b"},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct config c = {0};
        char why[256] = "";
        struct str text;
        str_init_fixed(&text, why, sizeof why - 1);
        const struct config_row *row = config_row_find(span_of(rows[i].key));
        cr_expect(config_value_set(&c, row, span_of(rows[i].text), &text), "%s: %s", rows[i].text,
                  why);
        cr_expect_str_eq(config_value_text(&c, row), rows[i].text);
        config_value_free(&c, row);
    }
}

Test(config, cuts_long_values_in_complaints_and_refuses_long_texts) {
    struct config c = {0};
    char long_text[5000], why[512] = "";
    memset(long_text, 'x', sizeof long_text);
    struct span value = {long_text, sizeof long_text};
    struct str text;
    str_init_fixed(&text, why, sizeof why - 1);
    cr_expect_not(config_value_set(&c, config_row_find(SPAN("listen.port")), value, &text));
    cr_expect(strstr(why, "xxx\"...; write a whole number"), "%s", why);
    str_clear(&text);
    memset(why, 0, sizeof why);
    cr_expect_not(config_value_set(&c, config_row_find(SPAN("jwt.secret_file")), value, &text));
    cr_expect(strstr(why, "longer than 4096 bytes"), "%s", why);
}

/* ---- the file ---- */

Test(config, names_place_key_fault_and_remedy) {
    static const struct {
        const char *yaml, *complaint;
    } rows[] = {
        {"listen:\n  port: 84b3\n",
         "g.yaml:2:3: listen.port: is \"84b3\"; write a whole number from 0 to 65535\n"},
        {"listen: {prot: 1}\n", "g.yaml:1:10: listen.prot: is no key; did you mean listen.port\n"},
        {"lisen: {port: 1}\n", "g.yaml:1:1: lisen: is no key; did you mean listen\n"},
        {"worker: 1\n", "g.yaml:1:1: worker: is no key; did you mean workers\n"},
        {"zebra: 1\n", "g.yaml:1:1: zebra: is no key; --help-config lists them all\n"},
        {"jwt:\n  secret: hunter2\n",
         "g.yaml:2:3: jwt.secret: is not written in this file; give its path as jwt.secret_file\n"},
        {"listen:\n  port: 1\n  port: 2\n",
         "g.yaml:3:3: listen.port: is given twice, first on line 2; keep one\n"},
        {"listen: {port: 1}\nlog: {}\nlisten: {address: '::'}\n",
         "g.yaml:3:1: listen: is given twice, first on line 1; keep one\n"},
        {"listen.port: 1\nlisten: {port: 1}\n", "listen.port: is given twice"},
        {"listen: 8443\n", "g.yaml:1:1: listen: is a section; write its keys"},
        {"listen: [1, 2]\n", "g.yaml:1:9: listen: is a list; write a single value\n"},
        {"workers: {a: 1}\n", "g.yaml:1:1: workers: is a mapping; write a single value\n"},
        {"log: {level: {a: b}}\n", "g.yaml:1:7: log.level: is a mapping; write a single value"},
        {"forward: {cors: {origins: {a: b}}}\n",
         "g.yaml:1:27: forward.cors.origins: is nested too deeply"},
        {"forward: {cors: '*'}\n", "g.yaml:1:11: forward.cors: is a section; write its keys"},
        {"forward: {cors: {origin: x}}\n",
         "g.yaml:1:18: forward.cors.origin: is no key; did you mean forward.cors.origins"},
        {"forward: {cors: {origins: https://ui/}}\n", "forward.cors.origins: has an origin with"},
        {"forward: {cors: {origins: '*', credentials: true}}\n",
         "g.yaml:1:18: forward.cors.origins: is *, and forward.cors.credentials is true"},
        {"forward: {cors: {origins: 'https://ui', headers: '*', credentials: true}}\n",
         "forward.cors.headers: is *, and forward.cors.credentials is true"},
        {"log:\n  level:\n", "g.yaml:2:3: log.level: has no value; give one or remove the key\n"},
        {"log: {level: null}\n", "log.level: has no value"},
        {"workers: '4'\n", "g.yaml:1:1: workers: is a text; write it without quotes\n"},
        {"connect_cache: {enabled: \"true\"}\n", "connect_cache.enabled: is a text"},
        {"workers: &w 4\n", "g.yaml:1:10: anchors and aliases are not taken"},
        {"log: *w\n", "g.yaml:1:6: anchors and aliases are not taken"},
        {"log: &l {level: info}\n", "anchors and aliases are not taken"},
        {"? *k\n: 1\n", "anchors and aliases are not taken"},
        {"workers: !!int 4\n", "g.yaml:1:10: tags are not taken"},
        {"workers: ! 4\n", "tags are not taken"},
        {"log: !x {level: info}\n", "tags are not taken"},
        {"forward: !x []\n", "tags are not taken"},
        {"<<: {a: 1}\n", "g.yaml:1:1: <<: is no key"},
        {"? [a, b]\n: 1\n", "has a key that is no name"},
        {"---\nlog: {}\n---\nlog: {}\n", "g.yaml:3:1: a second document begins here"},
        {"log: {}\n...\n---\n", "a second document begins here"},
        {"just a text\n", "g.yaml:1:1: the file must hold keys and values"},
        {"- a\n", "g.yaml:1:1: the file must hold keys and values"},
        {"a: b: c\n", "g.yaml:1:5: is not valid YAML: mapping values are not allowed"},
        {"log: {\n", "is not valid YAML"},
        {"log:\n\tlevel: info\n", "g.yaml:2:1: is not valid YAML"},
        {"log:\n  level: \xff\n", "g.yaml:2:10: is not valid YAML: invalid leading UTF-8 octet"},
        {"log: \"\x01\"\n", "is not valid YAML: control characters are not allowed"},
        {"upstream: {url: \"http://x\\0y\"}\n", "upstream.url: holds a control or non-ASCII"},
        {"\"p\\0rt\\n\": 1\n", "g.yaml:1:1: p?rt?: is no key"},
        {"upstream: {ca_file: /missing}\n",
         "g.yaml:1:12: upstream.ca_file: cannot read /missing: No such file; check path"},
        {"upstream: {ca_file: /empty}\n", "upstream.ca_file: is empty; "},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct outcome o;
        read_text(&o, rows[i].yaml, ENV(JWT));
        cr_expect(!o.config && strstr(o.complaint_text, rows[i].complaint), "%s\nsaid: %s",
                  rows[i].yaml, o.complaint_text);
        config_free(o.config);
    }
}

Test(config, says_everything_at_once_and_each_thing_once) {
    struct outcome o;
    read_text(&o,
              "listen: {port: x}\n"
              "lisen: {port: 1, address: y}\n"
              "workers: 99\n"
              "jwt: {secret_file: /missing}\n"
              "upstream: {url: nonsense}\n"
              "health: {port: 1}\n",
              ENV("AIWM_GATEWAY_HEALTH_PORT=z"));
    cr_expect_null(o.config);
    static const char *const said[] = {"g.yaml:1:10: listen.port:",
                                       "g.yaml:2:1: lisen:",
                                       "g.yaml:3:1: workers:",
                                       "g.yaml:4:7: jwt.secret_file:",
                                       "g.yaml:5:12: upstream.url:",
                                       "environment: AIWM_GATEWAY_HEALTH_PORT:",
                                       "g.yaml: tls.certificate_file: is missing",
                                       "g.yaml: tls.private_key_file: is missing"};
    for (size_t i = 0; i < ROWS(said); i++)
        cr_expect(strstr(o.complaint_text, said[i]), "%s is not in\n%s", said[i], o.complaint_text);
    cr_expect_eq(count_lines(o.complaint_text), ROWS(said), "%s", o.complaint_text);
}

Test(config, does_not_call_missing_what_a_broken_file_may_hold) {
    struct outcome o;
    read_text(&o, "log: {level: info}\n}\nupstream: {url: 'http://x'}\n", ENV(NULL));
    cr_expect(strstr(o.complaint_text, "g.yaml:2:1: is not valid YAML"), "%s", o.complaint_text);
    cr_expect_not(strstr(o.complaint_text, "missing"), "%s", o.complaint_text);
}

Test(config, never_repeats_what_may_be_a_secret) {
    struct outcome o;
    read_text(&o,
              "jwt: {secret: hunter2, secret_file: \"hunter2\\n\"}\n"
              "upstream: {url: 'http://u:hunter2@x'}\nhunter: hunter2\n",
              ENV("AIWM_GATEWAY_CONNECT_CACHE_KEY=hunter2", "AIWM_GATEWAY_X=hunter2"));
    cr_expect_null(o.config);
    cr_expect_not(strstr(o.complaint_text, "hunter2"), "%s", o.complaint_text);
    cr_expect_not(strstr(o.warning_text, "hunter2"), "%s", o.warning_text);
}

Test(config, takes_json_a_byte_order_mark_and_sections_without_keys) {
    static const char *const texts[] = {
        "{\"upstream\": {\"url\": \"http://aiwm:3000\", \"response_timeout\": \"5s\"},"
        " \"tls\": {\"enabled\": false}, \"connect_cache\": {\"memory\": 1048576}}",
        "\xef\xbb\xbf" MINIMAL,
        MINIMAL "listen:\n  #port: 1\nlog: ~\nheartbeat: {}\n",
        "%YAML 1.1\n---\n" MINIMAL "...\n",
        "upstream.url: http://aiwm:3000\ntls.enabled: false\n",
    };
    for (size_t i = 0; i < ROWS(texts); i++) {
        struct config *c = read_fine(texts[i], ENV(JWT));
        cr_expect_str_eq(c->upstream.url, "http://aiwm:3000", "%s", texts[i]);
        config_free(c);
    }
}

Test(config, an_empty_file_or_none_leaves_it_to_the_environment) {
    static const char *const texts[] = {"",      "\n",           "# only a comment\n",
                                        "---\n", "\xef\xbb\xbf", NULL};
    for (size_t i = 0; i < ROWS(texts); i++) {
        struct config *c =
            read_fine(texts[i], ENV(JWT, "AIWM_GATEWAY_UPSTREAM_URL=https://aiwm",
                                    "AIWM_GATEWAY_TLS_ENABLED=false", "PATH=/bin", "AIWM_PORT=1"));
        cr_expect_str_eq(c->upstream.url, "https://aiwm", "text %zu", i);
        config_free(c);
    }
}

Test(config, survives_nesting_and_numbers_of_keys_without_end) {
    struct str text;
    struct outcome o;
    str_init(&text, 4 * 1048576);
    STR_ADD(&text, "a: ");
    for (int i = 0; i < 100000; i++)
        str_add_char(&text, '[');
    read_span(&o, str_span(&text), ENV(JWT));
    cr_expect_null(o.config);
    str_clear(&text);
    for (int i = 0; i < 5000; i++)
        str_addf(&text, "k%d: 1\n", i);
    read_span(&o, str_span(&text), ENV(JWT));
    cr_expect(strstr(o.complaint_text, "g.yaml:1001:1: k1000: is one key too many"));
    str_clear(&text);
    while (text.len <= 1048576)
        STR_ADD(&text, "# too large\n");
    read_span(&o, str_span(&text), ENV(JWT));
    cr_expect_str_eq(o.complaint_text, "g.yaml: is larger than 1 MiB; is this the right file?\n");
    str_release(&text);
}

/* ---- the environment ---- */

Test(config, the_environment_wins_over_the_file) {
    struct config *c = read_fine(MINIMAL "listen: {port: 1}\nlog: {level: debug}\n",
                                 ENV(JWT, "AIWM_GATEWAY_LISTEN_PORT=2",
                                     "AIWM_GATEWAY_HEARTBEAT_MIN_FORWARD_GAP=3s",
                                     "AIWM_GATEWAY_UPSTREAM_STRIP_PREFIX="));
    cr_expect_eq(c->listen.port, 2);
    cr_expect_eq(c->heartbeat.min_forward_gap_ms, 3000);
    cr_expect_eq(c->log.level, LOG_DEBUG);
    config_free(c);
}

Test(config, a_content_in_the_environment_replaces_the_file_and_it_is_not_read) {
    struct config *c = read_fine(MINIMAL "jwt: {secret_file: /missing}\n", ENV(JWT));
    cr_expect(secret_is(&c->jwt.secret, SECRET));
    cr_expect_str_eq(c->jwt.secret_file, "");
    config_free(c);
}

Test(config, every_file_can_come_from_the_environment) {
    struct config *c =
        read_fine("upstream: {url: 'https://aiwm'}",
                  ENV("AIWM_GATEWAY_JWT_SECRET=" SECRET "\n",
                      "AIWM_GATEWAY_JWT_PREVIOUS_SECRET_FILE=/previous",
                      "AIWM_GATEWAY_TLS_CERTIFICATE=cert", "AIWM_GATEWAY_TLS_PRIVATE_KEY=key",
                      "AIWM_GATEWAY_UPSTREAM_CA=ca", "AIWM_GATEWAY_CONNECT_CACHE_KEY=" SECRET));
    cr_expect(secret_is(&c->jwt.secret, SECRET));
    cr_expect(secret_is(&c->jwt.previous_secret, SECRET "-old"));
    cr_expect(secret_is(&c->tls.certificate, "cert"));
    cr_expect(secret_is(&c->tls.private_key, "key"));
    cr_expect(secret_is(&c->upstream.ca, "ca"));
    cr_expect(secret_is(&c->connect_cache.key, SECRET));
    config_free(c);
}

Test(config, refuses_a_path_and_a_content_in_the_environment_in_either_order) {
    struct outcome o;
    read_text(&o, MINIMAL, ENV(JWT, "AIWM_GATEWAY_JWT_SECRET_FILE=/secret"));
    cr_expect(strstr(o.complaint_text, "is given both as a path and as a value; keep one"));
    read_text(&o, MINIMAL, ENV("AIWM_GATEWAY_JWT_SECRET_FILE=/secret", JWT));
    cr_expect(strstr(o.complaint_text, "is given both as a path and as a value; keep one"));
}

Test(config, warns_of_unknown_variables_but_not_of_service_links) {
    struct outcome o;
    read_text(&o, MINIMAL,
              ENV(JWT, "AIWM_GATEWAY_LISTEN_PROT=1", "AIWM_GATEWAY_SERVICE_HOST=10.0.0.1",
                  "AIWM_GATEWAY_PORT=tcp://10.0.0.1:8443", "AIWM_GATEWAY_PORT_8443_TCP_PORT=8443"));
    cr_assert(o.config, "%s", o.complaint_text);
    cr_expect_str_eq(o.warning_text, "environment: \"AIWM_GATEWAY_LISTEN_PROT\": no key has this "
                                     "name; --help-config lists them all\n");
    config_free(o.config);
}

/* ---- secrets and certificates ---- */

Test(config, drops_one_newline_at_the_end_of_a_secret) {
    static const struct {
        const char *path, *secret;
    } rows[] = {{"/secret", SECRET},
                {"/secret-crlf", SECRET},
                {"/secret-bare", SECRET},
                {"/secret-two", SECRET "\n"}};
    for (size_t i = 0; i < ROWS(rows); i++) {
        char yaml[256];
        (void)snprintf(yaml, sizeof yaml, MINIMAL "jwt: {secret_file: %s}\n", rows[i].path);
        struct config *c = read_fine(yaml, ENV(NULL));
        cr_expect(secret_is(&c->jwt.secret, rows[i].secret), "%s", rows[i].path);
        config_free(c);
    }
}

Test(config, judges_what_files_hold_and_what_is_missing) {
    static const struct {
        const char *yaml, *complaint;
    } rows[] = {
        {MINIMAL, "g.yaml: jwt.secret_file: is missing; set jwt.secret_file or "
                  "AIWM_GATEWAY_JWT_SECRET to the controller's JWT_SECRET\n"},
        {MINIMAL "jwt: {secret_file: /pem}\n", "g.yaml:3:7: jwt.secret_file: is a PEM block"},
        {MINIMAL "jwt: {secret_file: /empty}\n", "g.yaml:3:7: jwt.secret_file: is empty"},
        {MINIMAL "jwt: {secret_file: /secret, previous_secret_file: /pem}\n",
         "g.yaml:3:29: jwt.previous_secret_file: is a PEM block"},
        {"tls: {enabled: false}\njwt: {secret_file: /secret}\n",
         "g.yaml: upstream.url: is missing; it has no default"},
        {"upstream: {url: 'http://x'}\ntls: {private_key_file: /key}\njwt: {secret_file: "
         "/secret}\n",
         "g.yaml: tls.certificate_file: is missing; set it or AIWM_GATEWAY_TLS_CERTIFICATE"},
        {"upstream: {url: 'http://x'}\ntls: {certificate_file: /cert}\njwt: {secret_file: "
         "/secret}\n",
         "g.yaml: tls.private_key_file: is missing; set it or AIWM_GATEWAY_TLS_PRIVATE_KEY"},
        {MINIMAL "jwt: {secret_file: /secret}\nconnect_cache: {key_file: /short}\n",
         "g.yaml:4:17: connect_cache.key_file: is shorter than 32 bytes; make one with"},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct outcome o;
        read_text(&o, rows[i].yaml, ENV(NULL));
        cr_expect(!o.config && strstr(o.complaint_text, rows[i].complaint), "%s\nsaid: %s",
                  rows[i].yaml, o.complaint_text);
        cr_expect_eq(count_lines(o.complaint_text), 1, "%s", o.complaint_text);
    }
}

Test(config, the_public_default_secret_is_refused_unless_allowed_and_then_loud) {
    struct outcome o;
    read_text(&o, MINIMAL, ENV("AIWM_GATEWAY_JWT_SECRET=R4md0m_S3cr3t"));
    cr_expect_null(o.config);
    cr_expect(strstr(o.complaint_text, "environment: AIWM_GATEWAY_JWT_SECRET: is the controller's "
                                       "public default"),
              "%s", o.complaint_text);
    read_text(&o, MINIMAL "jwt: {allow_public_default: true}\n",
              ENV("AIWM_GATEWAY_JWT_SECRET=R4md0m_S3cr3t"));
    cr_assert(o.config, "%s", o.complaint_text);
    cr_expect(strstr(o.warning_text, "public default"), "%s", o.warning_text);
    config_free(o.config);
}

Test(config, warns_of_a_short_jwt_secret_and_of_an_unused_authority) {
    struct outcome o;
    read_text(&o, MINIMAL "upstream.ca_file: /ca\n", ENV("AIWM_GATEWAY_JWT_SECRET=short"));
    cr_assert(o.config, "%s", o.complaint_text);
    cr_expect(strstr(o.warning_text, "AIWM_GATEWAY_JWT_SECRET: is shorter than 32 bytes"), "%s",
              o.warning_text);
    cr_expect(strstr(o.warning_text, "g.yaml:3:1: upstream.ca_file: is not used"), "%s",
              o.warning_text);
    config_free(o.config);
}

/* ---- keys against each other ---- */

Test(config, holds_keys_against_each_other) {
    static const struct {
        const char *yaml, *complaint;
    } rows[] = {
        {"connect_cache: {fresh_for: 2h}\n",
         "g.yaml:3:17: connect_cache.fresh_for: is 2h, more than connect_cache.stale_after, which "
         "is 55m; lower one or raise the other\n"},
        {"heartbeat: {min_forward_gap: 3m}\n", "more than heartbeat.forward_interval, which is 2m"},
        {"heartbeat: {max_hold: 91s}\n", "heartbeat.max_hold: is 91s, more than heartbeat.expiry"},
        {"health: {port: 8443}\n", "g.yaml:3:10: health.port: is listen.port as well"},
        {"health: {port: 8443, address: 127.0.0.1}\n", "health.port: is listen.port as well"},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct outcome o;
        char yaml[512];
        (void)snprintf(yaml, sizeof yaml, MINIMAL "%s", rows[i].yaml);
        read_text(&o, yaml, ENV(JWT));
        cr_expect(!o.config && strstr(o.complaint_text, rows[i].complaint), "%s\nsaid: %s", yaml,
                  o.complaint_text);
        config_free(o.config);
    }
}

Test(config, equal_bounds_free_ports_and_ports_of_two_addresses_are_fine) {
    static const char *const texts[] = {
        "connect_cache: {fresh_for: 3300s}\n",
        "heartbeat: {max_hold: 90s, min_forward_gap: 120s}\n",
        "listen: {port: 0}\nhealth: {port: 0}\n",
        "listen: {address: 10.0.0.1}\nhealth: {port: 8443, address: 127.0.0.1}\n",
    };
    for (size_t i = 0; i < ROWS(texts); i++) {
        char yaml[512];
        (void)snprintf(yaml, sizeof yaml, MINIMAL "%s", texts[i]);
        config_free(read_fine(yaml, ENV(JWT)));
    }
}

/* ---- printing ---- */

static const char everything_changed[] =
    "listen: {address: '::1', port: 1, max_connections: 2, trusted_proxies: 10.0.0.0/8,\n"
    "  proxy_protocol: v2}\n"
    "tls: {enabled: true, certificate_file: /cert, private_key_file: /key,\n"
    "  ticket_keys_file: /tickets}\n"
    "health: {address: 127.0.0.2, port: 3}\n"
    "admin: {address: 127.0.0.3, port: 4, token_file: /secret}\n"
    "upstream: {url: 'https://[::1]:5', strip_prefix: /dev/aiwm, ca_file: /ca,\n"
    "  connect_timeout: 1500ms, response_timeout: 1h, long_timeout: 2h,\n"
    "  service_token_file: /secret}\n"
    "forward: {max_body: 1025, cors: {origins: 'https://ui:1', methods: GET, headers: X-A,\n"
    "  expose: X-B, credentials: true, max_age: 1m}}\n"
    "jwt: {secret_file: /secret, previous_secret_file: /previous, leeway: 5s, binding: report,\n"
    "  allow_public_default: true}\n"
    "policy: {agent_tokens_on_regenerate: allow, revoke_on_regenerate: true}\n"
    "redis: {url: 'rediss://r:1/2', key_prefix: 'x:', username: u, password_file: /secret,\n"
    "  sentinel_password_file: /secret, ca_file: /ca, certificate_file: /cert,\n"
    "  private_key_file: /key, connect_timeout: 2s, command_timeout: 3s}\n"
    "aiwm_events: {redis_url: 'rediss://e:2', stream: 'q:events', username: v,\n"
    "  password_file: /secret, ca_file: /ca}\n"
    "connect_cache: {enabled: false, key_file: /secret, previous_key_file: /previous,\n"
    "  fresh_for: 1ms, stale_after: 2ms, dead_before_expiry: 24h, redis_budget: 51ms, "
    "refresh_rate: 6, refresh_burst: "
    "21, memory: 3GiB}\n"
    "heartbeat: {forward_interval: 7s, max_hold: 8s, expiry: 9s, min_forward_gap: 1s,\n"
    "  max_rate: 11, bulk: off, bulk_linger: 3s, ack_budget: 60ms}\n"
    "queue: {connect: 9, heartbeat: 33, control: 17, api: 129, long: 257, streams: 513,\n"
    "  adaptive: false, adaptive_api: true, wait: 9s, retry_reach: 301s, ramp: 31s}\n"
    "breaker: {failures: 6, window: 11s, min_calls: 21, failure_percent: 51, open: 6s,\n"
    "  max_open: 61s}\n"
    "limits: {connects_per_agent: 6, connect_failures_per_agent: 7, lockout_gap: 11s,\n"
    "  connect_failures_per_ip: 21, api_rate: 51, api_burst: 101, control_rate: 102,\n"
    "  control_burst: 501, rate_limit_fields: true, shared: "
    "false,\n"
    "  max_in_flight: 8193, request_memory: 65MiB, memory: 1GiB, max_loop_lag: 2s}\n"
    "drain: {delay: 1m, timeout: 90s}\n"
    "workers: 3\n"
    "log: {level: error, format: json, access: all, access_sample: 7, access_rate: 8,\n"
    "  access_query: 'page, limit'}\n";

Test(config, what_it_prints_reads_back_as_the_same) {
    struct config *first = read_fine(everything_changed, ENV(NULL));
    struct config *plain = read_fine(MINIMAL, ENV(JWT));
    struct str text;
    str_init(&text, 65536);
    config_print(first, &text);
    struct outcome o;
    read_span(&o, str_span(&text), ENV(NULL));
    cr_assert(o.config, "%s\n%.*s", o.complaint_text, SPAN_ARG(str_span(&text)));
    for (config_row_each(row)) {
        cr_expect(config_value_equal(first, o.config, row), "%s", row->key);
        cr_expect_not(config_value_equal(first, plain, row), "%s is at its default", row->key);
    }
    str_release(&text);
    config_free(o.config);
    config_free(first);
    config_free(plain);
}

Test(config, prints_that_secrets_are_set_but_never_what_they_are) {
    struct config *c = read_fine(MINIMAL "jwt: {previous_secret_file: /previous}\n", ENV(JWT));
    struct str text;
    str_init(&text, 65536);
    config_print(c, &text);
    str_add_char(&text, '\0');
    cr_expect_not(strstr(text.ptr, SECRET), "%s", text.ptr);
    cr_expect(strstr(text.ptr, "\n  # secret_file: (set)\n"), "%s", text.ptr);
    cr_expect(strstr(text.ptr, "\n  previous_secret_file: \"/previous\" # (set)\n"), "%s",
              text.ptr);
    cr_expect(strstr(text.ptr, "\n  # key_file: (not set)\n"), "%s", text.ptr);
    cr_expect(strstr(text.ptr, "\n  leeway: 0s\n"), "%s", text.ptr);
    str_release(&text);
    config_free(c);
}

Test(config, describes_every_key_with_its_variables) {
    struct str text;
    str_init(&text, 65536);
    config_describe(&text);
    str_add_char(&text, '\0');
    for (config_row_each(row)) {
        char line[256], variable[CONFIG_VARIABLE_MAX];
        (void)snprintf(line, sizeof line, "%s\n    %s\n", row->key, row->help);
        cr_expect(strstr(text.ptr, line), "%s", line);
        config_row_variable(row, variable);
        cr_expect(strstr(text.ptr, variable), "%s", variable);
    }
    cr_expect(strstr(text.ptr, "AIWM_GATEWAY_JWT_SECRET with the content itself"));
    cr_expect(strstr(text.ptr, "from 1KiB to 64MiB"));
    str_release(&text);
}

Test(config, tells_which_changes_need_a_restart) {
    struct config *a = read_fine(MINIMAL, ENV(JWT));
    struct config *b = read_fine(MINIMAL "listen: {port: 1}\nlog: {level: warn}\n", ENV(JWT));
    struct config *c = read_fine(MINIMAL "log: {level: warn}\n", ENV(JWT));
    char memory[512] = "";
    struct str text;
    str_init_fixed(&text, memory, sizeof memory - 1);
    cr_expect_not(config_needs_restart(a, c, &text));
    cr_expect_str_eq(memory, "");
    cr_expect(config_needs_restart(a, b, &text));
    cr_expect_str_eq(memory, "listen.port: has changed; restart to apply it\n");
    config_free(a);
    config_free(b);
    config_free(c);
}

Test(config, what_needs_a_restart_keeps_its_running_value) {
    struct config *a =
        read_fine(MINIMAL "redis: {url: 'redis://a', password_file: /secret}\n", ENV(JWT));
    struct config *b = read_fine(MINIMAL "listen: {port: 1, address: '::1'}\nlog: {level: warn}\n"
                                         "redis: {url: 'redis://b', password_file: /previous}\n",
                                 ENV(JWT));
    config_keep_running(a, b);
    cr_expect_eq(b->listen.port, a->listen.port);
    cr_expect_str_eq(b->listen.address, "0.0.0.0");
    cr_expect_str_eq(b->redis.url, "redis://a");
    cr_expect(secret_is(&b->redis.password, SECRET));
    cr_expect_eq(b->log.level, 1, "what can be reloaded is new");
    config_free(a);
    config_free(b);
}

Test(config, renewed_files_are_noticed_and_nothing_else) {
    struct config *a = read_fine(MINIMAL, ENV(JWT));
    struct config *same = read_fine(MINIMAL "log: {level: warn}\n", ENV(JWT));
    struct config *other = read_fine(MINIMAL, ENV(JWT "x"));
    cr_expect_not(config_contents_differ(a, same));
    cr_expect(config_contents_differ(a, other));
    config_free(a);
    config_free(same);
    config_free(other);
}

Test(config, a_tiny_room_for_complaints_is_enough_to_refuse) {
    char *const nothing[] = {NULL};
    struct config_sources sources = {.file_name = "g.yaml",
                                     .file = SPAN("listen: {port: x}\nzebra: 1\n- a"),
                                     .environ = nothing,
                                     .read_file = fake_read_file};
    char memory[8];
    struct str complaints, warnings;
    str_init_fixed(&complaints, memory, sizeof memory);
    str_init(&warnings, 0);
    cr_expect_null(config_read(&sources, &complaints, &warnings));
    cr_expect(complaints.overflow);
}

/* ---- conf/ ---- */

static char *read_conf(const char *name, size_t *len) {
    char path[300];
    const char *why = "";
    (void)snprintf(path, sizeof path, "conf/%s", name);
    char *text = files_read(NULL, path, len, &why);
    cr_assert(text, "%s: %s (run the tests from the project's directory)", path, why);
    return text;
}

static void expect_fine(const char *name, struct span text) {
    struct config_sources sources = {.file_name = name, .file = text, .read_file = read_anything};
    struct str complaints, warnings;
    str_init(&complaints, 65536);
    str_init(&warnings, 65536);
    struct config *c = config_read(&sources, &complaints, &warnings);
    cr_expect(c, "%.*s", SPAN_ARG(str_span(&complaints)));
    cr_expect_eq(warnings.len, 0, "%.*s", SPAN_ARG(str_span(&warnings)));
    config_free(c);
    str_release(&complaints);
    str_release(&warnings);
}

Test(config, every_example_is_fine) {
    DIR *directory = opendir("conf");
    cr_assert(directory, "no conf/ (run the tests from the project's directory)");
    size_t seen = 0;
    for (struct dirent *e; (e = readdir(directory));) {
        const char *dot = strrchr(e->d_name, '.');
        if (!dot || strcmp(dot, ".yaml") != 0)
            continue;
        size_t len;
        char *text = read_conf(e->d_name, &len);
        expect_fine(e->d_name, (struct span){text, len});
        free(text);
        seen++;
    }
    (void)closedir(directory);
    cr_expect_geq(seen, 2);
}

Test(config, the_deployment_s_file_is_fine) {
    size_t len;
    char *text = read_conf("../deploy/k8s/base/gateway.yaml", &len);
    expect_fine("deploy/k8s/base/gateway.yaml", (struct span){text, len});
    free(text);
}

/* In the example a key that is commented out has its '#' directly before it, prose has a space. */
static void uncomment(char *text) {
    for (char *line = text; line; line = strchr(line, '\n')) {
        line += strspn(line, "\n ");
        if (line[0] == '#' && line[1] >= 'a' && line[1] <= 'z')
            memmove(line, line + 1, strlen(line));
    }
}

static const struct config_entry *find_entry(struct list *entries, const char *key) {
    list_each (at, entries) {
        const struct config_entry *e = container_of(at, struct config_entry, link);
        if (strcmp(e->key, key) == 0)
            return e;
    }
    return NULL;
}

Test(config, the_example_shows_every_key_with_its_default) {
    size_t len;
    char *text = read_conf("aiwm-gateway.yaml", &len);
    uncomment(text);
    struct span all = span_of(text);
    expect_fine("aiwm-gateway.yaml, uncommented", (struct span){text, all.len});
    struct list entries;
    struct str complaints;
    bool broken;
    list_init(&entries);
    str_init(&complaints, 65536);
    cr_assert(config_yaml_read("aiwm-gateway.yaml", all, &entries, &complaints, &broken));
    for (config_row_each(row)) {
        const struct config_entry *e = find_entry(&entries, row->key);
        cr_expect(e, "%s is not in conf/aiwm-gateway.yaml", row->key);
        if (e && row->type != CONFIG_FILE && !row->required)
            cr_expect(span_equal((struct span){e->text, e->text_len}, span_of(row->preset)),
                      "%s is shown as %.*s, the default is %s", row->key, (int)e->text_len, e->text,
                      row->preset);
    }
    config_entries_free(&entries);
    str_release(&complaints);
    free(text);
}

/* ---- docs/ ---- */

static void expect_file_is(const char *path, void (*make)(struct str *out)) {
    size_t len;
    const char *why = NULL;
    struct str made;
    str_init(&made, 262144);
    make(&made);
    char *text = files_read(NULL, path, &len, &why);
    cr_assert(text, "%s: %s", path, why);
    cr_expect(span_equal((struct span){text, len}, str_span(&made)),
              "%s is not what the option table says: make docs", path);
    free(text);
    str_release(&made);
}

Test(config, the_docs_are_what_the_table_says) {
    expect_file_is("docs/config.md", config_markdown);
    expect_file_is("docs/config.schema.json", config_schema);
}
