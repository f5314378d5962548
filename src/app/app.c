#include "app/app.h"

#include "app/admin.h"
#include "app/capacity.h"
#include "app/demo.h"
#include "app/page.h"
#include "app/reload.h"
#include "app/succession.h"
#include "app/trial.h"
#include "app/worker.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/panic.h"
#include "base/random.h"
#include "io/ask.h"
#include "io/inherit.h"
#include "io/listener.h"
#include "io/notify.h"
#include "rules/trust/seal.h"
#include "serve/cache/aiwm_events.h"
#include "serve/cache/peers.h"
#include "serve/gate/admission.h"
#include "serve/limits/limiting.h"

#include <event2/event.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    LOOK_MS = 20,
    QUIET_LOOKS = 2, /* a letter on its way between two workers is seen by the second */
    MAX_AGENTS = 1000000,
    FLOWS = 262144,   /* agents whose organization is remembered, half a MiB */
    REFUSALS = 16384, /* 3 MB */
    REFUSAL_MS = 30000,
    LOG_WAIT_MS = 1000,
};

struct app {
    struct generation *first; /* of the configuration; a reload makes others */
    struct reload *reload;
    struct tickets *tickets;
    const char *config_file;
    char *const *environment;
    char *const *argv; /* NULL: the demo */
    struct shared shared;
    struct loop loop; /* the main thread's: signals and the health port */
    struct operator_port *health;
    struct aiwm_events *events;
    struct page_state pages;
    struct operator_site health_site;
    struct admin *admin; /* NULL: switched off */
    struct worker **workers;
    struct succession *succession;
    struct event term, interrupt, quit, hangup, succeed, succeeded, child;
    struct timer drain_start, look;
    int64_t give_up_ms; /* monotonic; 0: not draining */
    int quiet_looks;    /* draining: in a row */
    int port;
};

/* ---- before the first thread ---- */

/* What is in force, in one line: the first thing to look at when somebody wonders. */
static void log_policy(const struct app *app) {
    const struct config *c = app->first->setup.config;
    log_info("policy", F_INT("workers", (int64_t)app->shared.worker_count),
             F_TEXT("tls", c->tls.enabled ? "on" : "off"),
             F_INT("max_connections", app->shared.limits.max_connections),
             F_TEXT("jwt_binding", c->jwt.binding == CONFIG_BINDING_ENFORCE ? "enforce" : "report"),
             F_TEXT("connect_cache", c->connect_cache.enabled ? "on" : "off"),
             F_INT("connect_cache_bytes", (int64_t)capacity_cache(c)),
             F_INT("fresh_for_ms", c->connect_cache.fresh_for_ms),
             F_INT("stale_after_ms", c->connect_cache.stale_after_ms),
             F_INT("refresh_rate", c->connect_cache.refresh_rate),
             F_INT("forward_interval_ms", c->heartbeat.forward_interval_ms),
             F_INT("max_hold_ms", c->heartbeat.max_hold_ms),
             F_INT("expiry_ms", c->heartbeat.expiry_ms),
             F_TEXT("redis", c->redis.url[0] ? c->redis.url : "none"),
             F_TEXT("bulk",
                    c->heartbeat.bulk && c->upstream.service_token.bytes ? "if offered" : "off"));
}

static void log_warnings(struct span lines) {
    while (lines.len > 0) {
        const char *end = memchr(lines.ptr, '\n', lines.len);
        size_t len = end ? (size_t)(end - lines.ptr) : lines.len;
        log_warn("configuration", F_SPAN("detail", ((struct span){lines.ptr, len})));
        lines = span_from(lines, len + 1);
    }
}

/* Gauges of what is not configured: 0 would be an alarm. */
static void omit_metrics(const struct setup *setup) {
    static const enum metric redis[] = {METRIC_REDIS_UP, METRIC_REDIS_CONNECTIONS,
                                        METRIC_REDIS_DURABLE, METRIC_CHANNEL_UP,
                                        METRIC_LIMITS_SHARED};
    for (size_t i = 0; !setup->redis.url && i < sizeof redis / sizeof *redis; i++)
        metric_omit(redis[i]);
    if (!setup->events.url)
        metric_omit(METRIC_AIWM_EVENTS_UP);
}

static void make_shared(struct app *app) {
    const struct config *config = app->first->setup.config;
    struct shared *shared = &app->shared;
    struct span label = SPAN("aiwm-gateway agents' hash 1");
    uint8_t hash_key[SEAL_HMAC];
    generation_publish(app->first, shared, app->tickets);
    omit_metrics(&app->first->setup);
    shared->redis = app->first->setup.redis.url ? &app->first->setup.redis : NULL;
    random_fill(&shared->beats.replica, sizeof shared->beats.replica);
    /* Secret, and the same in all replicas: they agree on agents' phases and on which token a
     * verdict is about. */
    const struct grant_key *key = &app->first->keys.current;
    seal_hmac((struct span){(const char *)key->bytes, sizeof key->bytes}, &label, 1, hash_key);
    atomic_store(&shared->replicas, 1);
    shared->agents = agents_new(capacity_cache(config), MAX_AGENTS, hash_key);
    shared->flows = flows_new(FLOWS);
    shared->tags = must_zalloc(sizeof *shared->tags);
    shared->refusals = refusals_new(REFUSALS, REFUSAL_MS);
    shared->limiting = limiting_new(hash_key);
    atomic_store(&shared->limits_share, 1);
    shared->limits.max_connections = capacity_connections(config);
    shared->limits.proxy_protocol = config->listen.proxy_protocol == CONFIG_PROXY_PROTOCOL_V2;
    (void)networks_parse(span_of(config->listen.trusted_proxies), /* judged by the configuration */
                         &shared->limits.trusted_proxies);
    shared->limits.max_body_buffered = (size_t)config->limits.request_memory;
    shared->worker_count = capacity_workers(config);
    /* Each inherited queue wants somebody who accepts. */
    size_t queues =
        inherit_count(app->environment, "data", config->listen.address, (int)config->listen.port);
    if (queues > shared->worker_count)
        shared->worker_count = queues;
    shared->mailbox = must_zalloc(shared->worker_count * sizeof(struct mailbox *));
    atomic_store(&shared->replicas, 1);
    shared->admission = admission_new(config, shared->worker_count);
}

/* Number `number` of those of that name: inherited, or our own. */
static int open_listener(struct app *app, const char *name, const char *address, int64_t port,
                         size_t number, int *bound_port) {
    char why[256];
    int fd = inherit_take(app->environment, name, number, address, (int)port, bound_port);
    if (fd < 0)
        fd = listener_socket(address, (int)port, number == 0, bound_port, why);
    if (fd < 0)
        (void)fprintf(stderr, "%s.port: %s\n", strcmp(name, "data") == 0 ? "listen" : name, why);
    else
        succession_keep(app->succession, name, fd);
    return fd;
}

static void log_listening(const char *name, const char *address, int port) {
    log_info("listening", F_TEXT("name", name), F_TEXT("address", address), F_INT("port", port));
}

static bool open_health(struct app *app) {
    const struct config *config = app->first->setup.config;
    int port;
    app->health_site = (struct operator_site){.pages = health_pages, .arg = &app->pages};
    int fd = open_listener(app, "health", config->health.address, config->health.port, 0, &port);
    if (fd < 0)
        return false;
    app->health = operator_new(&app->loop, fd, &app->health_site);
    log_listening("health", config->health.address, port);
    return true;
}

/* All sockets first, then the threads: a port in use ends the process before it has served. */
static bool make_workers(struct app *app) {
    const struct config *config = app->first->setup.config;
    size_t count = app->shared.worker_count;
    app->port = (int)config->listen.port;
    app->workers = must_zalloc(count * sizeof(struct worker *));
    for (size_t i = 0; i < count; i++) {
        int fd = open_listener(app, "data", config->listen.address, app->port, i, &app->port);
        if (fd < 0)
            return false;
        app->workers[i] =
            worker_new(&(struct worker_setup){.shared = &app->shared,
                                              .number = i,
                                              .listen_fd = fd,
                                              .tls = app->first->setup.tls,
                                              .upstream = app->first->setup.upstream});
    }
    return true;
}

/* ---- the end ---- */

static void each_worker(struct app *app, void (*call)(struct worker *w)) {
    for (size_t i = 0; i < app->shared.worker_count; i++)
        if (app->workers && app->workers[i])
            call(app->workers[i]);
}

/* Nobody waits for an answer, no call is under way, and no heartbeat is held. */
static bool is_quiet(const struct app *app) {
    for (size_t i = 0; i < app->shared.worker_count; i++)
        if (!worker_is_idle(app->workers[i]))
            return false;
    return metric_read(METRIC_BEATS_HELD) == 0 && peers_is_quiet(app->shared.peers);
}

static void stop(struct app *app) {
    each_worker(app, worker_stop);
    loop_stop(&app->loop);
}

static void give_up(struct app *app, const char *why) {
    log_warn(why, F_INT("connections", metric_read(METRIC_CONNECTIONS)),
             F_INT("heartbeats_held", metric_read(METRIC_BEATS_HELD)));
    stop(app);
}

static void on_look(void *arg) {
    struct app *app = arg;
    app->quiet_looks = is_quiet(app) ? app->quiet_looks + 1 : 0;
    if (app->quiet_looks == QUIET_LOOKS)
        stop(app);
    else if (clock_mono_ms() >= app->give_up_ms)
        give_up(app, "drain.timeout is over, the rest is cut");
    else
        timer_start(&app->look, LOOK_MS);
}

/* Who has a successor leaves the operators' ports to it. */
static void leave_ports(struct app *app) {
    if (succession_is_under_way(app->succession)) {
        operator_free(app->health);
        admin_free(app->admin);
        app->health = NULL;
        app->admin = NULL;
    }
    succession_release(app->succession);
}

static void on_drain_start(void *arg) {
    struct app *app = arg;
    leave_ports(app);
    atomic_store(&app->shared.draining, true);
    admission_hurry(&app->shared);
    peers_leave(app->shared.peers);
    each_worker(app, worker_drain);
    timer_start(&app->look, LOOK_MS);
}

static void drain(struct app *app, int signal_number) {
    const struct config *config = app->shared.config;
    log_info("draining", F_INT("signal", signal_number),
             F_INT("timeout_s", config->drain.timeout_ms / 1000));
    app->pages.draining = true;
    if (!succession_is_under_way(app->succession))
        (void)notify_tell(app->environment, "STOPPING=1\nSTATUS=Draining");
    app->give_up_ms = clock_mono_ms() + config->drain.delay_ms + config->drain.timeout_ms;
    timer_start(&app->drain_start, config->drain.delay_ms);
}

static void drain_by_operator(void *arg) {
    struct app *app = arg;
    if (app->give_up_ms == 0)
        drain(app, 0);
}

static void on_term(evutil_socket_t signal_number, short what, void *arg) {
    (void)what;
    struct app *app = arg;
    if (app->give_up_ms != 0)
        give_up(app, "second signal, the rest is cut");
    else
        drain(app, (int)signal_number);
}

static void on_hangup(evutil_socket_t signal_number, short what, void *arg) {
    (void)signal_number;
    (void)what;
    struct app *app = arg;
    if (app->reload)
        reload_now(app->reload);
}

static void on_succeed(evutil_socket_t signal_number, short what, void *arg) {
    (void)signal_number;
    (void)what;
    succession_begin(((struct app *)arg)->succession);
}

/* The successor serves. From anybody else it means nothing. */
static void on_succeeded(evutil_socket_t signal_number, short what, void *arg) {
    (void)what;
    struct app *app = arg;
    if (app->give_up_ms == 0 && succession_is_under_way(app->succession))
        drain(app, (int)signal_number);
}

static void on_child(evutil_socket_t signal_number, short what, void *arg) {
    (void)signal_number;
    (void)what;
    succession_look(((struct app *)arg)->succession);
}

static void watch_configuration(struct app *app) {
    struct reload_parts parts = {.config_file = app->config_file,
                                 .environment = app->environment,
                                 .shared = &app->shared,
                                 .tickets = app->tickets,
                                 .workers = app->workers};
    app->reload = reload_new(&app->loop, &parts, app->first);
}

static bool open_admin(struct app *app) {
    const struct config *config = app->shared.config;
    int port;
    watch_configuration(app);
    if (config->admin.address[0] == '\0')
        return true;
    int fd = open_listener(app, "admin", config->admin.address, config->admin.port, 0, &port);
    if (fd < 0)
        return false;
    struct admin_parts parts = {.shared = &app->shared,
                                .pages = &app->pages,
                                .reload = app->reload,
                                .drain = drain_by_operator,
                                .arg = app};
    app->admin = admin_new(&app->loop, fd, &parts);
    log_listening("admin", config->admin.address, port);
    return true;
}

/* ---- the whole ---- */

static void watch_signal(struct app *app, struct event *e, int number, event_callback_fn call) {
    event_assign(e, app->loop.base, number, EV_SIGNAL | EV_PERSIST, call, app);
    event_add(e, NULL);
}

static void begin(struct app *app) {
    loop_init(&app->loop);
    timer_init(&app->drain_start, &app->loop, on_drain_start, app);
    timer_init(&app->look, &app->loop, on_look, app);
    watch_signal(app, &app->term, SIGTERM, on_term);
    watch_signal(app, &app->interrupt, SIGINT, on_term);
    watch_signal(app, &app->quit, SIGQUIT, on_term);
    watch_signal(app, &app->hangup, SIGHUP, on_hangup);
    watch_signal(app, &app->succeed, SIGUSR2, on_succeed);
    watch_signal(app, &app->succeeded, SIGUSR1, on_succeeded);
    watch_signal(app, &app->child, SIGCHLD, on_child);
    signal(SIGPIPE, SIG_IGN);
    make_shared(app);
    peers_start(&app->shared, &app->loop);
    app->events = aiwm_events_start(&app->shared, &app->loop, &app->first->setup.events,
                                    app->shared.config->aiwm_events.stream);
    app->pages.shared = &app->shared;
    app->pages.born_s = clock_wall_ms() / 1000;
}

static void end(struct app *app) {
    each_worker(app, worker_join);
    each_worker(app, worker_close);
    each_worker(app, worker_free);
    aiwm_events_free(app->events);
    peers_free(&app->shared);
    reload_free(app->reload);
    operator_free(app->health);
    admin_free(app->admin);
    event_del(&app->term);
    event_del(&app->interrupt);
    event_del(&app->quit);
    event_del(&app->hangup);
    event_del(&app->succeed);
    event_del(&app->succeeded);
    event_del(&app->child);
    timer_stop(&app->look);
    timer_stop(&app->drain_start);
    loop_release(&app->loop);
    agents_free(app->shared.agents);
    refusals_free(app->shared.refusals);
    limiting_free(app->shared.limiting);
    admission_free(app->shared.admission);
    flows_free(app->shared.flows);
    free(app->shared.tags);
    free(app->shared.mailbox);
    free(app->workers);
    succession_free(app->succession);
}

static void tell_that_it_serves(struct app *app) {
    char state[64] = "READY=1\nSTATUS=Serving";
    if (inherit_has_parent(app->environment))
        (void)snprintf(state, sizeof state, "READY=1\nSTATUS=Serving\nMAINPID=%ld", (long)getpid());
    if (!notify_tell(app->environment, state))
        log_warn("whoever started this could not be told: see NOTIFY_SOCKET", F_NONE);
    inherit_announce(app->environment);
}

static int serve_until_term(struct app *app, const struct demo *demo) {
    const struct config *config = app->first->setup.config;
    log_start((enum log_level)config->log.level, (enum log_format)config->log.format);
    log_info("starting", F_TEXT("version", GATEWAY_VERSION),
             F_TEXT("upstream", app->first->setup.upstream_authority));
    log_warnings(str_span(&app->first->setup.warnings));
    if (!trial_redis_fits(&app->first->setup.redis)) {
        log_stop(LOG_WAIT_MS);
        (void)fprintf(stderr,
                      "redis.url: this Redis runs in Cluster mode, which is not supported; use a "
                      "single Redis, or one with replicas and sentinels\n");
        return EXIT_CONFIG;
    }
    app->succession = succession_new(app->argv, app->environment);
    begin(app);
    log_policy(app);
    bool up = open_health(app) && make_workers(app) && open_admin(app);
    if (up) {
        each_worker(app, worker_start);
        app->pages.started = true;
        inherit_close(app->environment);
        log_listening("data", config->listen.address, app->port);
        tell_that_it_serves(app);
        if (demo)
            demo_print_welcome(demo, config->tls.enabled, app->port);
        loop_run(&app->loop);
    }
    int64_t held = metric_read(METRIC_BEATS_HELD);
    end(app);
    log_info("ended", F_INT("heartbeats_lost", held),
             F_INT("heartbeats_left_in_redis", atomic_load(&app->shared.beats.held)));
    log_stop(LOG_WAIT_MS);
    return up && held == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Reads the configuration, or says on standard error what is wrong with it. */
static bool prepare(struct app *app, const char *config_file, char *const *environment) {
    enum { COMPLAINTS_MAX = 65536 };
    struct str complaints;
    *app = (struct app){.config_file = config_file, .environment = environment};
    str_init(&complaints, COMPLAINTS_MAX);
    app->first = generation_read(config_file, environment, NULL, &complaints);
    (void)fprintf(stderr, "%.*s", SPAN_ARG(str_span(&complaints)));
    str_release(&complaints);
    app->tickets = app->first ? tickets_new() : NULL;
    return app->first != NULL;
}

static void dismiss(struct app *app) {
    generation_free(app->first);
    tickets_free(app->tickets);
}

static int run_demo(char *const *environment, const char *config_file) {
    struct app app;
    const char *why = "";
    struct demo *demo = demo_start(environment, &why);
    if (!demo) {
        (void)fprintf(stderr, "the demo cannot start: %s\n", why);
        return EXIT_FAILURE;
    }
    int code = EXIT_CONFIG;
    if (prepare(&app, config_file, demo_environ(demo))) {
        code = serve_until_term(&app, demo);
        demo_print_farewell(demo);
        dismiss(&app);
    }
    demo_stop(demo);
    return code;
}

static int run_gateway(char *const *environment, const struct options *options) {
    struct app app;
    if (!prepare(&app, options->config_file, environment))
        return EXIT_CONFIG;
    int code = EXIT_SUCCESS;
    app.argv = options->argv;
    if (options->action == OPTIONS_RUN)
        code = serve_until_term(&app, NULL);
    else
        (void)fprintf(stderr, "%.*sconfiguration is fine\n",
                      SPAN_ARG(str_span(&app.first->setup.warnings)));
    dismiss(&app);
    return code;
}

static int print_config(char *const *environment, const char *config_file) {
    struct app app;
    enum { PRINT_MAX = 65536 };
    if (!prepare(&app, config_file, environment))
        return EXIT_CONFIG;
    struct str out;
    str_init(&out, PRINT_MAX);
    config_print(app.first->setup.config, &out);
    printf("%.*s", SPAN_ARG(str_span(&out)));
    str_release(&out);
    dismiss(&app);
    return EXIT_SUCCESS;
}

/* For images, which have no other tool. The configuration is not read: whether it could be read now
 * says nothing of the one that runs. */
static int check_health(const char *where) {
    enum { TIMEOUT_MS = 2000 };
    const char *why = "it is not ready";
    int status = ask_status(where, "/readyz", TIMEOUT_MS, &why);
    if (status != 200)
        (void)fprintf(stderr, "aiwm-gateway: health port %s: %s\n", where, why);
    return status == 200 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int describe_config(void (*describe)(struct str *out)) {
    struct str out;
    enum { DESCRIBE_MAX = 262144 };
    str_init(&out, DESCRIBE_MAX);
    describe(&out);
    printf("%.*s", SPAN_ARG(str_span(&out)));
    str_release(&out);
    return EXIT_SUCCESS;
}

int app_run(const struct options *options, char *const *environment) {
    switch (options->action) {
    case OPTIONS_HELP:
        options_print_help(stdout);
        return EXIT_SUCCESS;
    case OPTIONS_VERSION:
        options_print_version(stdout);
        return EXIT_SUCCESS;
    case OPTIONS_HELP_CONFIG:
        return describe_config(config_describe);
    case OPTIONS_HELP_CONFIG_MARKDOWN:
        return describe_config(config_markdown);
    case OPTIONS_HELP_CONFIG_SCHEMA:
        return describe_config(config_schema);
    case OPTIONS_PRINT_CONFIG:
        return print_config(environment, options->config_file);
    case OPTIONS_HEALTH_CHECK:
        return check_health(options->health_at);
    case OPTIONS_DEMO:
        return run_demo(environment, options->config_file);
    default:
        return run_gateway(environment, options);
    }
}
