#include "serve/request/access.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/panic.h"
#include "rules/gate/limit.h"
#include "rules/wire/access.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    /* Of what is kept, and shown; longer ones lose their ends. */
    METHOD_MAX = 16,
    PATH_MAX_SHOWN = 256,
    QUERY_MAX_SHOWN = 256,
    MEMORY_MAX = METHOD_MAX + PATH_MAX_SHOWN + QUERY_MAX_SHOWN + HEADERS_CORRELATION_MAX,
    UPSTREAM_MAX = 72,
    SPARE_MAX = 256,     /* records kept for later; more are freed */
    BURST_S = 10,        /* seconds' worth of lines that may come at once */
    TOKEN_TAIL_MAX = 64, /* a signature: what tells tokens apart */
};

struct record {
    struct list link; /* in access->spare */
    /* Borrowed from the request, until it is kept: then they point into `memory`. */
    struct span method, path, query, correlation, authorization;
    struct address client;
    const struct route *route; /* NULL: none was found */
    bool has_agent;
    struct agent_id agent;
    enum outcome_kind outcome;
    const char *code;
    bool asked, has_token;
    uint32_t token;
    int64_t upstream_us;
    char upstream[UPSTREAM_MAX];
    char memory[MEMORY_MAX];
};

struct access {
    struct serve *serve;
    struct record current; /* of the request in hand */
    struct exchange *x;    /* whose; NULL: none, or it has ended */
    uint64_t beats;        /* good ones seen */
    struct list spare;
    size_t spare_count;
};

/* ---- life ---- */

struct access *access_new(struct serve *s) {
    struct access *a = must_zalloc(sizeof *a);
    a->serve = s;
    list_init(&a->spare);
    return a;
}

void access_free(struct access *a) {
    list_each_safe (at, &a->spare)
        free(container_of(at, struct record, link));
    free(a);
}

static struct record *take_spare(struct access *a) {
    if (list_empty(&a->spare))
        return must_alloc(sizeof(struct record));
    struct list *first = a->spare.next;
    list_remove(first);
    a->spare_count--;
    return container_of(first, struct record, link);
}

static void give_back(struct access *a, struct record *record) {
    if (record == &a->current)
        return;
    if (a->spare_count == SPARE_MAX) {
        free(record);
        return;
    }
    list_push_back(&a->spare, &record->link);
    a->spare_count++;
}

/* ---- while the request is there ---- */

static bool is_on(const struct serve *s) {
    return s->shared->config->log.access != ACCESS_OFF;
}

/* A name that nobody knows may be anything. */
static struct span method_of(const struct http_request *http) {
    return http->method == HTTP_OTHER ? SPAN("OTHER") : http->method_text;
}

static struct record *start(struct access *a, struct exchange *x, int kind) {
    struct record *record = &a->current;
    memset(record, 0, offsetof(struct record, upstream));
    a->x = x;
    exchange_tag(x, kind, record);
    return record;
}

void access_begin(struct serve *s, const struct request *r) {
    if (!is_on(s)) {
        exchange_tag(r->x, (int)r->route->counted, NULL);
        return;
    }
    struct record *record = start(s->access, r->x, (int)r->route->counted);
    record->method = method_of(r->http);
    record->path = r->path;
    record->query = r->http->query;
    record->correlation = r->correlation_id;
    record->authorization = r->http->fields.known[HTTP_AUTHORIZATION];
    record->client = r->client;
    record->route = r->route;
    record->has_agent = r->has_agent;
    record->agent = r->agent;
}

void access_mark(struct exchange *x, enum outcome_kind outcome) {
    struct record *record = x ? exchange_record(x) : NULL;
    if (record && record->outcome == OUTCOME_NONE)
        record->outcome = outcome;
}

void access_mark_refused(struct exchange *x, const char *code) {
    struct record *record = x ? exchange_record(x) : NULL;
    if (!record || record->outcome != OUTCOME_NONE)
        return;
    record->outcome = OUTCOME_REFUSED;
    record->code = code;
}

void access_mark_asked(struct exchange *x, const struct serve *s, int64_t took_us) {
    struct record *record = x ? exchange_record(x) : NULL;
    if (!record)
        return;
    record->asked = true;
    record->upstream_us = took_us;
    (void)snprintf(record->upstream, sizeof record->upstream, "%s", s->shared->upstream_authority);
}

/* ---- when its bytes go ---- */

/* Under the secret key of the agents' table, which replicas share. Not verified: a stranger may
 * present whatever he likes. */
static void note_token(const struct serve *s, struct record *r) {
    struct span token = r->authorization;
    if (token.len == 0)
        return;
    (void)token_from_authorization(r->authorization, &token);
    if (token.len > TOKEN_TAIL_MAX)
        token = span_from(token, token.len - TOKEN_TAIL_MAX);
    r->token = (uint32_t)agents_token_hash(s->shared->agents, token);
    r->has_token = true;
    r->authorization = SPAN_NONE;
}

static struct span hold(char **memory, struct span from, size_t max) {
    struct span held = {*memory, from.len < max ? from.len : max};
    if (held.len > 0)
        memcpy(*memory, from.ptr, held.len);
    *memory += max;
    return held;
}

/* A path that is cut ends with a whole segment: a part of one is not what was judged. */
static struct span fitting(struct span path) {
    if (path.len <= PATH_MAX_SHOWN)
        return path;
    path.len = PATH_MAX_SHOWN;
    while (path.len > 0 && path.ptr[path.len - 1] != '/')
        path.len--;
    return path;
}

/* `to` may be `from`. */
static void hold_all(const struct serve *s, struct record *to, struct record *from) {
    char *memory = to->memory;
    bool shows_query = s->shared->config->log.access_query[0] != '\0';
    note_token(s, from);
    if (to != from)
        memcpy(to, from, offsetof(struct record, upstream));
    if (to != from && from->asked)
        memcpy(to->upstream, from->upstream, sizeof to->upstream);
    to->method = hold(&memory, from->method, METHOD_MAX);
    to->path = hold(&memory, fitting(from->path), PATH_MAX_SHOWN);
    to->correlation = hold(&memory, from->correlation, HEADERS_CORRELATION_MAX);
    to->query = shows_query && from->query.len <= QUERY_MAX_SHOWN
                    ? hold(&memory, from->query, QUERY_MAX_SHOWN)
                    : SPAN_NONE;
}

void access_keep(struct serve *s) {
    struct access *a = s->access;
    if (!a->x)
        return;
    struct record *kept = take_spare(a);
    hold_all(s, kept, &a->current);
    exchange_tag(a->x, (int)kept->route->counted, kept);
    a->x = NULL;
}

void access_refused(struct serve *s, struct exchange *x, enum err error,
                    const struct http_request *http, struct span correlation_id) {
    if (!is_on(s))
        return;
    struct record *record = start(s->access, x, -1);
    record->correlation = correlation_id;
    record->client = *exchange_peer(x);
    record->outcome = OUTCOME_REFUSED;
    record->code = err_row(error)->code;
    if (http) {
        record->client =
            client_address(exchange_peer(x), &s->shared->limits.trusted_proxies, &http->fields);
        record->method = method_of(http);
        record->path = http->path;
        record->query = http->query;
        record->authorization = http->fields.known[HTTP_AUTHORIZATION];
    }
    hold_all(s, record, record); /* the id goes before the answer comes */
}

/* ---- the line ---- */

static const char *const outcomes[] = {
    [OUTCOME_NONE] = "answered",       [OUTCOME_FORWARDED] = "forwarded",
    [OUTCOME_COLLAPSED] = "collapsed", [OUTCOME_HIT] = "hit",
    [OUTCOME_STALE] = "stale",         [OUTCOME_STORED] = "stored",
    [OUTCOME_HELD] = "held",           [OUTCOME_REPEATED] = "repeated",
    [OUTCOME_REFUSED] = "refused",     [OUTCOME_PREFLIGHT] = "preflight",
};

static const char *const classes[] = {[ROUTE_CONNECT] = "connect",
                                      [ROUTE_HEARTBEAT] = "heartbeat",
                                      [ROUTE_DISCONNECT] = "disconnect",
                                      [ROUTE_FORWARD] = "forward"};

static const char *outcome_of(const struct record *r, const struct exchange_report *report) {
    if (report->end == EXCHANGE_CUT)
        return "cut";
    return report->end == EXCHANGE_LEFT ? "left" : outcomes[r->outcome];
}

static const char *route_of(const struct record *r) {
    if (!r->route)
        return NULL;
    return r->route->pattern ? r->route->pattern : "other";
}

static int64_t duration_us(const struct exchange_report *report) {
    int64_t took_us = clock_exact_us() - report->began_us;
    return took_us > 0 ? took_us : 0;
}

struct line {
    const struct record *r;
    const struct exchange *x;
    const struct exchange_report *report;
    int64_t left_out;
    struct str path, query;
    char path_memory[PATH_MAX_SHOWN], query_memory[QUERY_MAX_SHOWN];
    char client[ADDRESS_TEXT], agent[AGENT_ID_HEX + 1], token[9];
};

static void spell_path(struct line *line) {
    const struct record *r = line->r;
    str_init_fixed(&line->path, line->path_memory, sizeof line->path_memory);
    if (r->has_agent)
        str_addf(&line->path, "/agents/%s%s", line->agent, r->route->canonical);
    else
        access_spell_path(&line->path, fitting(r->path));
}

static void spell(const struct config *config, struct line *line) {
    const struct record *r = line->r;
    agent_id_text(&r->agent, line->agent);
    spell_path(line);
    str_init_fixed(&line->query, line->query_memory, sizeof line->query_memory);
    access_spell_query(&line->query, r->query, span_of(config->log.access_query));
    address_text(&r->client, line->client);
    (void)snprintf(line->token, sizeof line->token, "%08x", r->token);
}

/* The fields of a line, in order: name, kind, whether it is there, its value. This is the
 * allow-list; docs/logs.md explains each. */
#define ACCESS_FIELDS(X)                                                                           \
    X(request_id, SPAN, true, r->correlation)                                                      \
    X(agent, TEXT, r->has_agent, line->agent)                                                      \
    X(route, TEXT, r->route, route_of(r))                                                          \
    X(class, TEXT, r->route, classes[r->route->counted])                                           \
    X(method, SPAN, r->method.len > 0, r->method)                                                  \
    X(path, SPAN, line->path.len > 0, str_span(&line->path))                                       \
    X(query, SPAN, line->query.len > 0, str_span(&line->query))                                    \
    X(status, INT, report->status != 0, report->status)                                            \
    X(outcome, TEXT, true, outcome_of(r, report))                                                  \
    X(code, TEXT, r->code, r->code)                                                                \
    X(bytes_in, INT, true, report->received)                                                       \
    X(bytes_out, INT, true, report->sent)                                                          \
    X(duration_us, INT, true, duration_us(report))                                                 \
    X(upstream, TEXT, r->asked, r->upstream)                                                       \
    X(upstream_us, INT, r->asked, r->upstream_us)                                                  \
    X(client, TEXT, true, line->client)                                                            \
    X(tls, TEXT, exchange_is_tls(line->x), exchange_tls_version(line->x))                          \
    X(tls_resumed, INT, exchange_is_tls(line->x), exchange_tls_resumed(line->x))                   \
    X(token, TEXT, r->has_token, line->token)                                                      \
    X(left_out, INT, line->left_out > 0, line->left_out)

/* Each says whether it is there. */
#define X(name, kind, there, value)                                                                \
    static bool field_##name(const struct line *line, struct log_field *out) {                     \
        const struct record *r = line->r;                                                          \
        const struct exchange_report *report = line->report;                                       \
        (void)r;                                                                                   \
        (void)report;                                                                              \
        if (!(there))                                                                              \
            return false;                                                                          \
        *out = F_##kind(#name, value);                                                             \
        return true;                                                                               \
    }
ACCESS_FIELDS(X)
#undef X

static bool (*const field_rows[])(const struct line *line, struct log_field *out) = {
#define X(name, kind, there, value) field_##name,
    ACCESS_FIELDS(X)
#undef X
};

static void write_line(const struct line *line) {
    struct log_field fields[sizeof field_rows / sizeof *field_rows + 1];
    size_t n = 0;
    for (size_t i = 0; i < sizeof field_rows / sizeof *field_rows; i++)
        n += field_rows[i](line, &fields[n]);
    fields[n] = F_NONE;
    log_write(LOG_INFO, "request", fields);
}

/* ---- the end ---- */

static bool is_failure(const struct record *r, const struct exchange_report *report) {
    return report->status >= 500 || report->end == EXCHANGE_CUT || r->outcome == OUTCOME_REFUSED;
}

static enum access_kind kind_of(const struct record *r, const struct exchange_report *report) {
    if (is_failure(r, report))
        return ACCESS_FAILED;
    bool is_good = report->end == EXCHANGE_ANSWERED && report->status / 100 == 2;
    return is_good && report->kind == ROUTE_HEARTBEAT ? ACCESS_GOOD_BEAT : ACCESS_OTHER;
}

/* Is there room for it? A flood of failures leaves the others theirs. */
static bool take_room(struct shared *shared, enum access_kind kind) {
    const struct config *config = shared->config;
    int64_t rate = config->log.access_rate;
    if (config->log.access == ACCESS_ALL)
        return true;
    struct limit limit = limit_per_second(rate, rate * BURST_S);
    if (limit_take_shared(&shared->access_arrival_us[kind == ACCESS_FAILED], &limit,
                          clock_mono_us()))
        return true;
    atomic_fetch_add(&shared->access_left_out, 1);
    metric_add(METRIC_ACCESS_LEFT_OUT, 1);
    return false;
}

static void conclude(struct access *a, struct exchange *x, struct record *r,
                     const struct exchange_report *report) {
    struct serve *s = a->serve;
    const struct config *config = s->shared->config;
    enum access_kind kind = kind_of(r, report);
    a->beats += kind == ACCESS_GOOD_BEAT;
    if (!access_is_wanted((enum access_mode)config->log.access, kind, a->beats,
                          config->log.access_sample) ||
        !take_room(s->shared, kind))
        return;
    struct line line = {.r = r, .x = x, .report = report};
    note_token(s, r);
    spell(config, &line);
    line.left_out = atomic_exchange(&s->shared->access_left_out, 0);
    write_line(&line);
}

static void time_request(const struct exchange_report *report) {
    if (report->kind >= 0 && report->answered_us != 0)
        metric_time(METRIC_TIME_REQUEST_CONNECT + (enum metric_time)report->kind,
                    report->answered_us - report->began_us);
}

/* Rows of METRIC_ANSWERS: a route's status classes stand together, before all routes those of
 * none (-1). */
static void count_answer(const struct exchange_report *report) {
    enum { CLASSES = 4 };
    int class = report->status / 100 - 2;
    if (class >= 0 && class < CLASSES)
        metric_add(METRIC_ANSWERS_NONE_2XX + (enum metric)((report->kind + 1) * CLASSES + class),
                   1);
}

void access_end(void *serve, struct exchange *x, const struct exchange_report *report) {
    struct serve *s = serve;
    struct record *record = report->record;
    time_request(report);
    count_answer(report);
    if (!record)
        return;
    if (s->access->x == x)
        s->access->x = NULL;
    conclude(s->access, x, record, report);
    give_back(s->access, record);
}
