#include "agents/rig.h"

#include "agents/child.h"
#include "agents/own_redis.h"
#include "base/panic.h"
#include "io/tls.h"
#include "rules/wire/json_scan.h"
#include "stub/stub.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { START_MS = 15000, STOP_MS = 10000, PEM_MAX = 16384, NICE = 10 };

struct rig {
    struct rig_options o;
    char directory[PATH_MAX]; /* where our own program is: theirs are beside it */
    struct child stub, gateway;
    struct own_redis redis;
    int stub_port, control_port, data_port, health_port;
    char url[64];
    struct str certificate, key;
};

static bool complain(char why[RIG_WHY], const char *what, const char *about) {
    (void)snprintf(why, RIG_WHY, "%s: %.160s", what, about);
    return false;
}

static bool find_directory(struct rig *r) {
    ssize_t len = readlink("/proc/self/exe", r->directory, sizeof r->directory - 1);
    if (len <= 0)
        return false;
    r->directory[len] = '\0';
    char *slash = strrchr(r->directory, '/');
    if (slash)
        *slash = '\0';
    return slash != NULL;
}

static void path_of(const struct rig *r, const char *name, char path[PATH_MAX + 32]) {
    (void)snprintf(path, PATH_MAX + 32, "%s/%s", r->directory, name);
}

/* ---- the stub ---- */

static bool member(struct span line, struct span name, int64_t *out) {
    struct json_members members;
    return json_scan_object(line, &members) &&
           json_member_integer(json_member_find(&members, name), out);
}

static bool start_stub(struct rig *r, char why[RIG_WHY]) {
    char path[PATH_MAX + 32], agents[24], cost[24], processors[24], line[CHILD_LINE];
    path_of(r, "aiwm-stub", path);
    (void)snprintf(agents, sizeof agents, "%zu", r->o.agents);
    (void)snprintf(cost, sizeof cost, "%d", r->o.connect_cost_ms);
    (void)snprintf(processors, sizeof processors, "%d", r->o.processors);
    const char *argv[] = {path,       "--port",
                          "0",        "--agents",
                          agents,     "--connect-cost-ms",
                          cost,       "--processors",
                          processors, r->o.bulk ? "--bulk" : NULL,
                          NULL};
    int64_t port = 0, control = 0;
    /* It stands for another machine: it takes what the others leave. */
    if (!child_start(&r->stub, argv, environ, NICE) || !child_read_line(&r->stub, line, START_MS) ||
        !member(span_of(line), SPAN("port"), &port) ||
        !member(span_of(line), SPAN("control_port"), &control))
        return complain(why, "the controller stub did not start", path);
    r->stub_port = (int)port;
    r->control_port = (int)control;
    return true;
}

/* ---- the gateway ---- */

struct environment {
    char *at[64];
    size_t count;
};

static void add_variable(struct environment *e, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void add_variable(struct environment *e, const char *name, const char *format, ...) {
    va_list args;
    struct str line;
    char *value = NULL;
    va_start(args, format);
    invariant(vasprintf(&value, format, args) >= 0);
    va_end(args);
    str_init(&line, 2 * PEM_MAX);
    str_addf(&line, "AIWM_GATEWAY_%s=", name);
    str_add(&line, span_of(value));
    str_add_char(&line, '\0');
    free(value);
    invariant(e->count + 1 < sizeof e->at / sizeof *e->at);
    e->at[e->count++] = line.ptr;
    e->at[e->count] = NULL;
}

static void fill_environment(const struct rig *r, struct environment *e) {
    for (int i = 0; i < RIG_ENV_MAX && r->o.env[i]; i++)
        e->at[e->count++] = must_strdup(r->o.env[i]);
    add_variable(e, "UPSTREAM_URL", "http://127.0.0.1:%d", r->stub_port);
    if (r->o.redis)
        add_variable(e, "REDIS_URL", "redis://127.0.0.1:%d", r->redis.port);
    add_variable(e, "JWT_SECRET", "%s", STUB_JWT_SECRET);
    add_variable(e, "LISTEN_ADDRESS", "127.0.0.1");
    add_variable(e, "LISTEN_PORT", "%d", r->data_port);
    add_variable(e, "HEALTH_ADDRESS", "127.0.0.1");
    add_variable(e, "HEALTH_PORT", "%d", r->health_port);
    add_variable(e, "ADMIN_PORT", "0");
    add_variable(e, "DRAIN_DELAY", "0s"); /* no load balancer has to notice that it ends */
    add_variable(e, "LOG_FORMAT", "json");
    add_variable(e, "TLS_ENABLED", r->o.tls ? "true" : "false");
    if (!r->o.tls)
        return;
    add_variable(e, "TLS_CERTIFICATE", "%.*s", SPAN_ARG(str_span(&r->certificate)));
    add_variable(e, "TLS_PRIVATE_KEY", "%.*s", SPAN_ARG(str_span(&r->key)));
}

/* {"message":"listening","name":"data","port":8443}: true when it is that line. */
static bool learn_port(struct rig *r, const char *line) {
    struct json_members members;
    struct span message, name;
    int64_t port;
    if (!json_scan_object(span_of(line), &members) ||
        !json_member_string(json_member_find(&members, SPAN("message")), &message) ||
        !span_equal(message, SPAN("listening")) ||
        !json_member_string(json_member_find(&members, SPAN("name")), &name) ||
        !json_member_integer(json_member_find(&members, SPAN("port")), &port))
        return false;
    if (span_equal(name, SPAN("data")))
        r->data_port = (int)port;
    else if (span_equal(name, SPAN("health")))
        r->health_port = (int)port;
    else
        return false; /* the administrators' */
    return true;
}

static bool start_gateway(struct rig *r, char why[RIG_WHY]) {
    char path[PATH_MAX + 32], line[CHILD_LINE] = "";
    struct environment environment = {.count = 0};
    path_of(r, "aiwm-gateway", path);
    fill_environment(r, &environment);
    const char *argv[] = {path, NULL};
    bool fine = child_start(&r->gateway, argv, environment.at, 0);
    for (int learnt = 0; fine && learnt < 2;) {
        fine = child_read_line(&r->gateway, line, START_MS);
        learnt += fine && learn_port(r, line);
    }
    for (size_t i = 0; i < environment.count; i++) {
        explicit_bzero(environment.at[i], strlen(environment.at[i]));
        free(environment.at[i]);
    }
    return fine || complain(why, "the gateway did not start", *line ? line : path);
}

/* ---- life ---- */

struct rig *rig_start(const struct rig_options *options, char why[RIG_WHY]) {
    struct rig *r = must_zalloc(sizeof *r);
    r->o = *options;
    child_init(&r->stub);
    child_init(&r->gateway);
    own_redis_init(&r->redis);
    str_init(&r->certificate, PEM_MAX);
    str_init(&r->key, PEM_MAX);
    bool fine = find_directory(r) || complain(why, "no /proc", "self/exe");
    fine = fine && (!options->stub || start_stub(r, why));
    if (fine && options->gateway && options->tls && !tls_self_signed(&r->certificate, &r->key))
        fine = complain(why, "no certificate could be made", "OpenSSL");
    if (fine && options->redis && !own_redis_start(&r->redis, START_MS))
        fine = complain(why, "Redis did not start", "redis-server");
    fine = fine && (!options->gateway || start_gateway(r, why));
    if (!fine) {
        rig_stop(r);
        return NULL;
    }
    (void)snprintf(r->url, sizeof r->url, "http%s://127.0.0.1:%d",
                   options->gateway && options->tls ? "s" : "",
                   options->gateway ? r->data_port : r->stub_port);
    return r;
}

void rig_stop(struct rig *r) {
    child_stop(&r->gateway, STOP_MS);
    child_stop(&r->stub, STOP_MS);
    own_redis_stop(&r->redis, STOP_MS);
    if (r->key.ptr)
        explicit_bzero(r->key.ptr, r->key.len);
    str_release(&r->certificate);
    str_release(&r->key);
    free(r);
}

const char *rig_url(const struct rig *r) {
    return r->url;
}

struct span rig_ca(const struct rig *r) {
    return str_span(&r->certificate);
}

int rig_stub_control_port(const struct rig *r) {
    return r->control_port;
}

int rig_health_port(const struct rig *r) {
    return r->health_port;
}

pid_t rig_gateway_pid(const struct rig *r) {
    return r->o.gateway ? r->gateway.pid : r->o.gateway_pid;
}

pid_t rig_controller_pid(const struct rig *r) {
    return r->o.stub ? r->stub.pid : r->o.controller_pid;
}

void rig_drain(struct rig *r) {
    child_drain(&r->gateway);
    child_drain(&r->stub);
    child_drain(&r->redis.child);
}

/* ---- trouble ---- */

static bool signal_pid(pid_t pid, enum stage_state state, char why[RIG_WHY]) {
    int number = state == STATE_PAUSE    ? SIGSTOP
                 : state == STATE_RESUME ? SIGCONT
                 : state == STATE_KILL   ? SIGKILL
                                         : 0;
    if (pid <= 0 || number == 0)
        return complain(why, "skipped",
                        pid <= 0 ? "there is no such process here" : "no such state");
    return kill(pid, number) == 0 || complain(why, "the process cannot be told", strerror(errno));
}

static bool gateway_do(struct rig *r, enum stage_state state, char why[RIG_WHY]) {
    if (state == STATE_START) {
        if (!r->o.gateway || r->gateway.pid > 0)
            return complain(why, "skipped", "there is no gateway of ours to start");
        return start_gateway(r, why);
    }
    if (state == STATE_KILL && r->o.gateway) {
        child_kill(&r->gateway);
        return true;
    }
    return signal_pid(rig_gateway_pid(r), state, why);
}

static bool redis_do(struct rig *r, enum stage_state state, char why[RIG_WHY]) {
    if (!r->o.redis)
        return signal_pid(r->o.redis_pid, state, why);
    if (state == STATE_START && r->redis.child.pid > 0)
        return complain(why, "skipped", "Redis runs already");
    if (state == STATE_START)
        return own_redis_start(&r->redis, START_MS) ||
               complain(why, "Redis did not start again", "redis-server");
    if (state == STATE_KILL) {
        child_kill(&r->redis.child);
        return true;
    }
    return signal_pid(r->redis.child.pid, state, why);
}

bool rig_do(struct rig *r, const struct stage *stage, char why[RIG_WHY]) {
    if (stage->kind == STAGE_GATEWAY)
        return gateway_do(r, stage->state, why);
    if (stage->kind == STAGE_REDIS)
        return redis_do(r, stage->state, why);
    return signal_pid(rig_controller_pid(r), stage->state, why);
}
