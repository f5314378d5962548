#include "app/process.h"

#include "app/admin.h"
#include "app/capacity.h"
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
#include "io/inherit.h"
#include "io/listener.h"
#include "io/notify.h"
#include "io/tls.h"
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

struct process {
    const struct process_parts *parts;
    struct reload *reload;
    struct shared shared;
    struct capacity_descriptors descriptors;
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
static void log_policy(const struct process *p) {
    const struct config *c = p->parts->first->setup.config;
    log_info("policy", F_INT("workers", (int64_t)p->shared.worker_count),
             F_TEXT("tls", c->tls.enabled ? "on" : "off"),
             F_INT("max_connections", p->shared.limits.max_connections),
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

static void make_shared(struct process *p) {
    const struct config *config = p->parts->first->setup.config;
    struct shared *shared = &p->shared;
    struct span label = SPAN("aiwm-gateway agents' hash 1");
    uint8_t hash_key[SEAL_HMAC];
    generation_publish(p->parts->first, shared, p->parts->tickets);
    omit_metrics(&p->parts->first->setup);
    shared->redis = p->parts->first->setup.redis.url ? &p->parts->first->setup.redis : NULL;
    random_fill(&shared->beats.replica, sizeof shared->beats.replica);
    /* Secret, and the same in all replicas: they agree on agents' phases and on which token a
     * verdict is about. */
    const struct grant_key *key = &p->parts->first->keys.current;
    seal_hmac((struct span){(const char *)key->bytes, sizeof key->bytes}, &label, 1, hash_key);
    atomic_store(&shared->replicas, 1);
    shared->agents = agents_new(capacity_cache(config), MAX_AGENTS, hash_key);
    shared->flows = flows_new(FLOWS);
    shared->tags = must_zalloc(sizeof *shared->tags);
    shared->refusals = refusals_new(REFUSALS, REFUSAL_MS);
    shared->limiting = limiting_new(hash_key);
    atomic_store(&shared->limits_share, 1);
    shared->limits.proxy_protocol = config->listen.proxy_protocol == CONFIG_PROXY_PROTOCOL_V2;
    (void)networks_parse(span_of(config->listen.trusted_proxies), /* judged by the configuration */
                         &shared->limits.trusted_proxies);
    shared->limits.max_body_buffered = (size_t)config->limits.request_memory;
    shared->worker_count = capacity_workers(config);
    /* Each inherited queue wants somebody who accepts. */
    size_t queues = inherit_count(p->parts->environment, "data", config->listen.address,
                                  (int)config->listen.port);
    if (queues > shared->worker_count)
        shared->worker_count = queues;
    p->descriptors = capacity_descriptors(config, shared->worker_count);
    shared->limits.max_connections = p->descriptors.clients;
    shared->controller_connections = p->descriptors.controllers;
    shared->mailbox = must_zalloc(shared->worker_count * sizeof(struct mailbox *));
    atomic_store(&shared->replicas, 1);
    shared->admission = admission_new(config, shared->worker_count);
}

/* Number `number` of those of that name: inherited, or our own. */
static int open_listener(struct process *p, const char *name, const char *address, int64_t port,
                         size_t number, int *bound_port) {
    char why[256];
    int fd = inherit_take(p->parts->environment, name, number, address, (int)port, bound_port);
    if (fd < 0)
        fd = listener_socket(address, (int)port, number == 0, bound_port, why);
    if (fd < 0)
        (void)fprintf(stderr, "%s.port: %s\n", strcmp(name, "data") == 0 ? "listen" : name, why);
    else
        succession_keep(p->succession, name, fd);
    return fd;
}

static void log_listening(const char *name, const char *address, int port) {
    log_info("listening", F_TEXT("name", name), F_TEXT("address", address), F_INT("port", port));
}

static bool open_health(struct process *p) {
    const struct config *config = p->parts->first->setup.config;
    int port;
    p->health_site = (struct operator_site){.pages = health_pages, .arg = &p->pages};
    int fd = open_listener(p, "health", config->health.address, config->health.port, 0, &port);
    if (fd < 0)
        return false;
    p->health = operator_new(&p->loop, fd, p->descriptors.operators, &p->health_site);
    log_listening("health", config->health.address, port);
    return true;
}

/* All sockets first, then the threads: a port in use ends the process before it has served. */
static bool make_workers(struct process *p) {
    const struct config *config = p->parts->first->setup.config;
    size_t count = p->shared.worker_count;
    p->port = (int)config->listen.port;
    p->workers = must_zalloc(count * sizeof(struct worker *));
    for (size_t i = 0; i < count; i++) {
        int fd = open_listener(p, "data", config->listen.address, p->port, i, &p->port);
        if (fd < 0)
            return false;
        p->workers[i] =
            worker_new(&(struct worker_setup){.shared = &p->shared,
                                              .number = i,
                                              .listen_fd = fd,
                                              .tls = p->parts->first->setup.tls,
                                              .upstream = p->parts->first->setup.upstream});
    }
    return true;
}

/* ---- the end ---- */

static void each_worker(struct process *p, void (*call)(struct worker *w)) {
    for (size_t i = 0; i < p->shared.worker_count; i++)
        if (p->workers && p->workers[i])
            call(p->workers[i]);
}

/* Nobody waits for an answer, no call is under way, and no heartbeat is held. */
static bool is_quiet(const struct process *p) {
    for (size_t i = 0; i < p->shared.worker_count; i++)
        if (!worker_is_idle(p->workers[i]))
            return false;
    return metric_read(METRIC_BEATS_HELD) == 0 && peers_is_quiet(p->shared.peers);
}

static void stop(struct process *p) {
    each_worker(p, worker_stop);
    loop_stop(&p->loop);
}

static void give_up(struct process *p, const char *why) {
    log_warn(why, F_INT("connections", metric_read(METRIC_CONNECTIONS)),
             F_INT("heartbeats_held", metric_read(METRIC_BEATS_HELD)));
    stop(p);
}

static void on_look(void *arg) {
    struct process *p = arg;
    p->quiet_looks = is_quiet(p) ? p->quiet_looks + 1 : 0;
    if (p->quiet_looks == QUIET_LOOKS)
        stop(p);
    else if (clock_mono_ms() >= p->give_up_ms)
        give_up(p, "drain.timeout is over, the rest is cut");
    else
        timer_start(&p->look, LOOK_MS);
}

/* Who has a successor leaves the operators' ports to it. */
static void leave_ports(struct process *p) {
    if (succession_is_under_way(p->succession)) {
        operator_free(p->health);
        admin_free(p->admin);
        p->health = NULL;
        p->admin = NULL;
    }
    succession_release(p->succession);
}

static void on_drain_start(void *arg) {
    struct process *p = arg;
    leave_ports(p);
    atomic_store(&p->shared.draining, true);
    admission_hurry(&p->shared);
    peers_leave(p->shared.peers);
    each_worker(p, worker_drain);
    timer_start(&p->look, LOOK_MS);
}

static void drain(struct process *p, int signal_number) {
    const struct config *config = p->shared.config;
    bool has_successor = succession_is_under_way(p->succession);
    /* A successor serves the same ports: nobody has to notice anything. */
    int64_t delay_ms = has_successor ? 0 : config->drain.delay_ms;
    log_info("draining", F_INT("signal", signal_number),
             F_INT("timeout_s", config->drain.timeout_ms / 1000));
    p->pages.draining = true;
    if (!has_successor)
        (void)notify_tell(p->parts->environment, "STOPPING=1\nSTATUS=Draining");
    p->give_up_ms = clock_mono_ms() + delay_ms + config->drain.timeout_ms;
    timer_start(&p->drain_start, delay_ms);
}

static void drain_by_operator(void *arg) {
    struct process *p = arg;
    if (p->give_up_ms == 0)
        drain(p, 0);
}

static void on_term(evutil_socket_t signal_number, short what, void *arg) {
    (void)what;
    struct process *p = arg;
    if (p->give_up_ms != 0)
        give_up(p, "second signal, the rest is cut");
    else
        drain(p, (int)signal_number);
}

static void on_hangup(evutil_socket_t signal_number, short what, void *arg) {
    (void)signal_number;
    (void)what;
    struct process *p = arg;
    if (p->reload)
        reload_now(p->reload);
}

static void on_succeed(evutil_socket_t signal_number, short what, void *arg) {
    (void)signal_number;
    (void)what;
    succession_begin(((struct process *)arg)->succession);
}

/* The successor serves. From anybody else it means nothing. */
static void on_succeeded(evutil_socket_t signal_number, short what, void *arg) {
    (void)what;
    struct process *p = arg;
    if (p->give_up_ms == 0 && succession_is_under_way(p->succession))
        drain(p, (int)signal_number);
}

static void on_child(evutil_socket_t signal_number, short what, void *arg) {
    (void)signal_number;
    (void)what;
    succession_look(((struct process *)arg)->succession);
}

static void watch_configuration(struct process *p) {
    struct reload_parts parts = {.config_file = p->parts->config_file,
                                 .environment = p->parts->environment,
                                 .shared = &p->shared,
                                 .tickets = p->parts->tickets,
                                 .workers = p->workers};
    p->reload = reload_new(&p->loop, &parts, p->parts->first);
}

static bool open_admin(struct process *p) {
    const struct config *config = p->shared.config;
    int port;
    watch_configuration(p);
    if (config->admin.address[0] == '\0')
        return true;
    int fd = open_listener(p, "admin", config->admin.address, config->admin.port, 0, &port);
    if (fd < 0)
        return false;
    struct admin_parts parts = {.shared = &p->shared,
                                .max_connections = p->descriptors.operators,
                                .pages = &p->pages,
                                .reload = p->reload,
                                .drain = drain_by_operator,
                                .arg = p};
    p->admin = admin_new(&p->loop, fd, &parts);
    log_listening("admin", config->admin.address, port);
    return true;
}

/* ---- the whole ---- */

static void watch_signal(struct process *p, struct event *e, int number, event_callback_fn call) {
    event_assign(e, p->loop.base, number, EV_SIGNAL | EV_PERSIST, call, p);
    event_add(e, NULL);
}

static void begin(struct process *p) {
    loop_init(&p->loop);
    timer_init(&p->drain_start, &p->loop, on_drain_start, p);
    timer_init(&p->look, &p->loop, on_look, p);
    watch_signal(p, &p->term, SIGTERM, on_term);
    watch_signal(p, &p->interrupt, SIGINT, on_term);
    watch_signal(p, &p->quit, SIGQUIT, on_term);
    watch_signal(p, &p->hangup, SIGHUP, on_hangup);
    watch_signal(p, &p->succeed, SIGUSR2, on_succeed);
    watch_signal(p, &p->succeeded, SIGUSR1, on_succeeded);
    watch_signal(p, &p->child, SIGCHLD, on_child);
    signal(SIGPIPE, SIG_IGN);
    make_shared(p);
    peers_start(&p->shared, &p->loop);
    p->events = aiwm_events_start(&p->shared, &p->loop, &p->parts->first->setup.events,
                                  p->shared.config->aiwm_events.stream);
    p->pages.shared = &p->shared;
    p->pages.born_s = clock_wall_ms() / 1000;
}

static void end(struct process *p) {
    each_worker(p, worker_join);
    each_worker(p, worker_close);
    each_worker(p, worker_free);
    aiwm_events_free(p->events);
    peers_free(&p->shared);
    reload_free(p->reload);
    operator_free(p->health);
    admin_free(p->admin);
    event_del(&p->term);
    event_del(&p->interrupt);
    event_del(&p->quit);
    event_del(&p->hangup);
    event_del(&p->succeed);
    event_del(&p->succeeded);
    event_del(&p->child);
    timer_stop(&p->look);
    timer_stop(&p->drain_start);
    loop_release(&p->loop);
    agents_free(p->shared.agents);
    refusals_free(p->shared.refusals);
    limiting_free(p->shared.limiting);
    admission_free(p->shared.admission);
    flows_free(p->shared.flows);
    free(p->shared.tags);
    free(p->shared.mailbox);
    free(p->workers);
    succession_free(p->succession);
}

static void tell_that_it_serves(struct process *p) {
    char state[64] = "READY=1\nSTATUS=Serving";
    if (inherit_has_parent(p->parts->environment))
        (void)snprintf(state, sizeof state, "READY=1\nSTATUS=Serving\nMAINPID=%ld", (long)getpid());
    if (!notify_tell(p->parts->environment, state))
        log_warn("whoever started this could not be told: see NOTIFY_SOCKET", F_NONE);
    inherit_announce(p->parts->environment);
}

int process_run(const struct process_parts *parts) {
    struct process whole = {.parts = parts};
    struct process *p = &whole;
    const struct config *config = p->parts->first->setup.config;
    log_start((enum log_level)config->log.level, (enum log_format)config->log.format);
    log_info("starting", F_TEXT("version", GATEWAY_VERSION),
             F_TEXT("openssl", tls_library_version()),
             F_TEXT("upstream", p->parts->first->setup.upstream_authority));
    log_warnings(str_span(&p->parts->first->setup.warnings));
    if (!trial_redis_fits(&p->parts->first->setup.redis)) {
        log_stop(LOG_WAIT_MS);
        (void)fprintf(stderr,
                      "redis.url: this Redis runs in Cluster mode, which is not supported; use a "
                      "single Redis, or one with replicas and sentinels\n");
        return EXIT_CONFIG;
    }
    p->succession = succession_new(p->parts->argv, p->parts->environment);
    begin(p);
    log_policy(p);
    bool up = open_health(p) && make_workers(p) && open_admin(p);
    if (up) {
        each_worker(p, worker_start);
        p->pages.started = true;
        inherit_close(p->parts->environment);
        log_listening("data", config->listen.address, p->port);
        tell_that_it_serves(p);
        if (parts->on_up)
            parts->on_up(parts->arg, p->port);
        loop_run(&p->loop);
    }
    int64_t held = metric_read(METRIC_BEATS_HELD);
    end(p);
    log_info("ended", F_INT("heartbeats_lost", held),
             F_INT("heartbeats_left_in_redis", atomic_load(&p->shared.beats.held)));
    log_stop(LOG_WAIT_MS);
    return up && held == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
