#include "app/page.h"

#include "app/fleet.h"
#include "base/log.h"
#include "base/metric.h"
#include "io/container.h"
#include "io/tls.h"

#include "serve/gate/admission.h"
#include <stdio.h>

static int show_live(void *arg, const struct operator_request *request, struct str *body) {
    (void)request;
    (void)arg;
    STR_ADD(body, "ok\n");
    return 200;
}

static int show_started(void *arg, const struct operator_request *request, struct str *body) {
    (void)request;
    const struct page_state *state = arg;
    str_add(body, state->started ? SPAN("ok\n") : SPAN("starting\n"));
    return state->started ? 200 : 503;
}

/* Ready is what this process can do by itself: a controller outage is no reason to take the
 * gateway away from its agents, it is the reason it is there. */
static int show_ready(void *arg, const struct operator_request *request, struct str *body) {
    (void)request;
    static const char *const controller_names[] = {"unknown", "up", "down"};
    const struct page_state *state = arg;
    bool ready = state->started && !state->draining;
    str_addf(body, "{\"ready\":%s,\"draining\":%s,\"controller\":\"%s\"}\n",
             ready ? "true" : "false", state->draining ? "true" : "false",
             controller_names[admission_controller(state->shared)]);
    return ready ? 200 : 503;
}

static void add_gauge(struct str *body, const char *name, const char *help, const char *type,
                      const char *labels, int64_t value) {
    str_addf(body, "# HELP aiwm_gateway_%s %s\n# TYPE aiwm_gateway_%s %s\naiwm_gateway_%s%s %lld\n",
             name, help, name, type, name, labels, (long long)value);
}

static void add_by_class(struct str *body, const char *name, const char *help,
                         const int64_t values[GATE_CLASSES]) {
    str_addf(body, "# HELP aiwm_gateway_%s %s\n# TYPE aiwm_gateway_%s gauge\n", name, help, name);
    for (enum gate_class class = 0; class < GATE_CLASSES; class ++)
        str_addf(body, "aiwm_gateway_%s{class=\"%s\"} %lld\n", name, admission_class_names[class],
                 (long long)values[class]);
}

static void show_gate(const struct shared *shared, struct str *body) {
    struct admission_view view;
    admission_look(shared, &view);
    add_by_class(body, "controller_limit", "Calls the controller may be asked at once.",
                 view.limit);
    add_by_class(body, "controller_calls", "Calls it is being asked.", view.inside);
    add_by_class(body, "controller_waiting", "Calls that wait for a place.", view.waiting);
    add_gauge(body, "controller_left_alone", "Whether the breaker is open.", "gauge", "",
              view.breaker != BREAKER_CLOSED);
}

/* By the names that Prometheus' own clients give them: dashboards and alerts for any process find
 * them. */
static void show_process(const struct page_state *state, struct str *body) {
    int64_t cpu_us = container_cpu_us();
    str_addf(body,
             "# HELP process_cpu_seconds_total User and system CPU used, in seconds.\n"
             "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total %lld.%06lld\n",
             (long long)(cpu_us / 1000000), (long long)(cpu_us % 1000000));
    str_addf(body,
             "# HELP process_resident_memory_bytes Resident memory, in bytes.\n"
             "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes %lld\n",
             (long long)container_resident());
    str_addf(body,
             "# HELP process_start_time_seconds When the process started, seconds since 1970.\n"
             "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds %lld\n",
             (long long)state->born_s);
}

static int show_metrics(void *arg, const struct operator_request *request, struct str *body) {
    (void)request;
    const struct page_state *state = arg;
    metric_render(body);
    add_gauge(body, "log_lines_dropped_total", "Log lines nobody read in time.", "counter", "",
              log_dropped());
    add_gauge(body, "controller_up", "Whether the controller answers.", "gauge", "",
              admission_controller(state->shared) == CONTROLLER_UP);
    fleet_show(state->shared->agents, body);
    show_gate(state->shared, body);
    char versions[128];
    (void)snprintf(versions, sizeof versions, "{version=\"" GATEWAY_VERSION "\",openssl=\"%.40s\"}",
                   tls_library_version());
    add_gauge(body, "build_info", "The version that runs, and of the OpenSSL it runs with.",
              "gauge", versions, 1);
    show_process(state, body);
    return 200;
}

const struct operator_page health_pages[] = {
    {"GET", "/livez", "text/plain; charset=utf-8", NULL, show_live},
    {"GET", "/readyz", "application/json; charset=utf-8", NULL, show_ready},
    {"GET", "/startupz", "text/plain; charset=utf-8", NULL, show_started},
    {"GET", "/metrics", "text/plain; version=0.0.4; charset=utf-8", NULL, show_metrics},
    {NULL, NULL, NULL, NULL, NULL},
};
