#include "app/page.h"

#include "base/log.h"
#include "base/metric.h"

static int show_live(void *arg, struct str *body) {
    (void)arg;
    STR_ADD(body, "ok\n");
    return 200;
}

static int show_started(void *arg, struct str *body) {
    const struct page_state *state = arg;
    str_add(body, state->started ? SPAN("ok\n") : SPAN("starting\n"));
    return state->started ? 200 : 503;
}

/* Ready is what this process can do by itself: a controller outage is no reason to take the
 * gateway away from its agents, it is the reason it is there. */
static int show_ready(void *arg, struct str *body) {
    static const char *const controller_names[] = {"unknown", "up", "down"};
    const struct page_state *state = arg;
    bool ready = state->started && !state->draining;
    str_addf(body, "{\"ready\":%s,\"draining\":%s,\"controller\":\"%s\"}\n",
             ready ? "true" : "false", state->draining ? "true" : "false",
             controller_names[serve_controller(state->shared)]);
    return ready ? 200 : 503;
}

static void add_gauge(struct str *body, const char *name, const char *help, const char *type,
                      const char *labels, int64_t value) {
    str_addf(body, "# HELP aiwm_gateway_%s %s\n# TYPE aiwm_gateway_%s %s\naiwm_gateway_%s%s %lld\n",
             name, help, name, type, name, labels, (long long)value);
}

static int show_metrics(void *arg, struct str *body) {
    const struct page_state *state = arg;
    metric_render(body);
    add_gauge(body, "log_lines_dropped_total", "Log lines nobody read in time.", "counter", "",
              log_dropped());
    add_gauge(body, "controller_up", "Whether the controller's last call was answered.", "gauge",
              "", serve_controller(state->shared) == CONTROLLER_UP);
    add_gauge(body, "build_info", "The version that runs.", "gauge",
              "{version=\"" GATEWAY_VERSION "\"}", 1);
    return 200;
}

const struct operator_page health_pages[] = {
    {"/livez", "text/plain; charset=utf-8", show_live},
    {"/readyz", "application/json; charset=utf-8", show_ready},
    {"/startupz", "text/plain; charset=utf-8", show_started},
    {"/metrics", "text/plain; version=0.0.4; charset=utf-8", show_metrics},
    {NULL, NULL, NULL},
};
