#include "app/worker.h"

#include "base/clock.h"
#include "base/panic.h"
#include "base/random.h"
#include "serve/beats/beats.h"
#include "serve/cache/shelf.h"
#include "serve/connect/flying.h"
#include "serve/connect/refresh.h"
#include "serve/gate/admission.h"
#include "serve/gate/fetch.h"
#include "serve/gate/passage.h"
#include "serve/limits/shedding.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    LOOK_MS = 10,    /* draining: how often it sees whether it has something to do */
    PROBE_MS = 5000, /* the first worker probes a controller that has not answered for so long, */
    PROBE_LOOK_MS = 1000, /* and as often one that may have failed */
    PROBE_CALL_MS = 5000,
    PROBE_DOWN_CALL_MS = 2000, /* while the breaker is open: agents wait for the result */
    PROBE_GAP_MS = 100,        /* a probe that could not even begin is not repeated at once */
    PROBE_WATCH_MS = 500,      /* how often it is seen whether one takes too long */
    PROBE_JITTER = 5,          /* of the interval a fifth: replicas do not probe in step */
};

struct worker {
    pthread_t thread;
    bool started;
    size_t number;
    struct loop loop;
    struct mailbox mailbox;
    struct serve serve;
    struct timer look, probe, probe_watch;
    struct fetch *probing;
    int64_t probing_since_ms; /* monotonic */
    struct letter drain, stop, adopt;
    struct generation *adopting;
    _Atomic bool idle; /* draining, and nothing to do here (a letter may change that) */
};

/* ---- is the controller there? ---- */

static int64_t next_probe_ms(const struct shared *shared) {
    int64_t wait_ms;
    if (admission_probe_wait_ms(shared, &wait_ms))
        return wait_ms + (int64_t)(random_u64() % (uint64_t)(wait_ms / PROBE_JITTER + 1));
    return PROBE_LOOK_MS;
}

static void end_probe(struct worker *w) {
    int64_t next_ms = next_probe_ms(w->serve.shared);
    w->probing = NULL;
    timer_stop(&w->probe_watch);
    admission_probed(&w->serve);
    if (!w->serve.closing)
        timer_start(&w->probe, next_ms > PROBE_GAP_MS ? next_ms : PROBE_GAP_MS);
}

static void on_probed(void *arg, const struct fetched *result) {
    (void)result;
    end_probe(arg);
}

/* One that was begun while the breaker was closed has more time, and an answer that has begun has
 * all the time of an answer: neither shall stand in the way of the next probe. */
static void watch_probe(void *arg) {
    struct worker *w = arg;
    int64_t wait_ms, took_ms = clock_mono_ms() - w->probing_since_ms;
    bool is_open = admission_probe_wait_ms(w->serve.shared, &wait_ms);
    if (took_ms < (is_open ? PROBE_DOWN_CALL_MS : PROBE_CALL_MS) + PROBE_WATCH_MS) {
        timer_start(&w->probe_watch, PROBE_WATCH_MS);
        return;
    }
    fetch_give_up(w->probing);
    end_probe(w);
}

/* Where calls go all the time, they say how the controller is. */
static bool is_known(const struct shared *shared) {
    int64_t heard_ms = admission_heard_ms(shared);
    bool heard_lately = heard_ms > 0 && clock_mono_ms() - heard_ms < PROBE_MS;
    bool suspected = admission_take_suspicion(shared);
    return heard_lately && !suspected && !admission_is_doubtful(shared);
}

static void probe(void *arg) {
    struct worker *w = arg;
    struct shared *shared = w->serve.shared;
    int64_t wait_ms;
    bool is_open = admission_probe_wait_ms(shared, &wait_ms);
    if (is_open ? wait_ms > 0 : is_known(shared)) {
        timer_start(&w->probe, next_probe_ms(shared));
        return;
    }
    char head[512];
    int len = snprintf(head, sizeof head, "GET /health HTTP/1.1\r\nHost: %s\r\n\r\n",
                       shared->upstream_authority);
    struct call_request call = {.head = {head, (size_t)len},
                                .repeatable = true,
                                .is_probe = true,
                                .timeout_ms = is_open ? PROBE_DOWN_CALL_MS : PROBE_CALL_MS};
    struct admission_terms terms = {.class = GATE_PROBE};
    enum { HEALTH_MAX = 65536 };
    w->probing_since_ms = clock_mono_ms();
    w->probing = fetch_start(&w->serve, &call, &terms, HEALTH_MAX, on_probed, w);
    timer_start(&w->probe_watch, PROBE_WATCH_MS);
}

/* Anybody may cause it all the time, but for one probe it takes several of his calls that failed.
 * One that is under way says as well as another. */
static void on_alarm(struct serve *s) {
    struct worker *w = container_of(s, struct worker, serve);
    if (timer_pending(&w->probe))
        timer_start(&w->probe, 0);
}

/* ---- draining ---- */

static void look(void *arg) {
    struct worker *w = arg;
    const struct serve *s = &w->serve;
    size_t probes = w->probing != NULL; /* it goes on: held heartbeats wait for its result */
    bool idle = server_connections(s->server) == 0 && upstream_busy(s->upstream) <= probes &&
                beats_are_idle(s);
    atomic_store(&w->idle, idle);
    timer_start(&w->look, LOOK_MS);
}

static void on_drain(struct letter *letter, void *receiver) {
    struct worker *w = container_of(letter, struct worker, drain);
    struct serve *s = receiver;
    server_drain(s->server);
    beats_drain(s);
    if (timer_pending(&w->probe)) /* an open breaker is in no hurry, the end is */
        timer_start(&w->probe, 0);
    timer_start(&w->look, LOOK_MS);
}

static void on_stop(struct letter *letter, void *receiver) {
    (void)receiver;
    loop_stop(&container_of(letter, struct worker, stop)->loop);
}

/* ---- a new generation ---- */

static struct upstream *open_upstream(struct worker *w, const struct shared *shared,
                                      const struct upstream_options *options) {
    struct upstream_options ours = *options;
    ours.max_connections = shared->controller_connections;
    return upstream_new(&w->loop, &ours);
}

static void on_adopt(struct letter *letter, void *receiver) {
    struct worker *w = container_of(letter, struct worker, adopt);
    struct serve *s = receiver;
    struct upstream *former = s->upstream;
    s->upstream = open_upstream(w, s->shared, &w->adopting->setup.upstream);
    upstream_succeed(s->upstream, former);
    serve_adopt(s, w->adopting->setup.config);
    if (w->adopting->setup.tls)
        server_set_tls(s->server, w->adopting->setup.tls);
    atomic_fetch_sub(&w->adopting->adopting, 1);
}

/* ---- life ---- */

struct worker *worker_new(const struct worker_setup *setup) {
    struct worker *w = must_zalloc(sizeof *w);
    struct shared *shared = setup->shared;
    w->number = setup->number;
    loop_init(&w->loop);
    serve_init(&w->serve, shared, setup->number, &w->loop,
               open_upstream(w, shared, &setup->upstream));
    mailbox_init(&w->mailbox, &w->loop, &w->serve);
    shared->mailbox[setup->number] = &w->mailbox;
    w->serve.desk = admission_open(&w->serve, beats_wake);
    beats_init(&w->serve);
    w->serve.refresh = refresh_new(&w->serve, flying_refresh);
    w->serve.shelf = shelf_new(&w->serve);
    w->serve.shedding = shedding_new(&w->serve);
    w->serve.server = server_new(&w->loop, setup->tls, &shared->limits, &serve_events, &w->serve);
    server_listen(w->serve.server, setup->listen_fd);
    timer_init(&w->look, &w->loop, look, w);
    timer_init(&w->probe, &w->loop, probe, w);
    timer_init(&w->probe_watch, &w->loop, watch_probe, w);
    w->drain.deliver = on_drain;
    w->stop.deliver = on_stop;
    w->adopt.deliver = on_adopt;
    if (setup->number == 0) {
        admission_watch(&w->serve, on_alarm);
        timer_start(&w->probe, 0);
    }
    return w;
}

static void *run(void *arg) {
    struct worker *w = arg;
    loop_run(&w->loop);
    return NULL;
}

void worker_start(struct worker *w) {
    /* Signals are the main thread's. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    invariant(pthread_create(&w->thread, NULL, run, w) == 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    w->started = true;
}

void worker_drain(struct worker *w) {
    mailbox_post(&w->mailbox, &w->drain);
}

void worker_adopt(struct worker *w, struct generation *g) {
    w->adopting = g;
    mailbox_post(&w->mailbox, &w->adopt);
}

void worker_stop(struct worker *w) {
    mailbox_post(&w->mailbox, &w->stop);
}

bool worker_is_idle(const struct worker *w) {
    return atomic_load(&w->idle);
}

void worker_join(struct worker *w) {
    if (w->started)
        pthread_join(w->thread, NULL);
    w->started = false;
    w->serve.closing = true;
}

void worker_close(struct worker *w) {
    timer_stop(&w->look);
    timer_stop(&w->probe);
    timer_stop(&w->probe_watch);
    server_free(w->serve.server);
    shelf_close(w->serve.shelf); /* what goes on without it asks the controller */
    passage_cancel_all(w->serve.desk);
    upstream_free(w->serve.upstream);
    beats_close(&w->serve);
}

void worker_free(struct worker *w) {
    mailbox_release(&w->mailbox);
    admission_desk_free(w->serve.desk);
    beats_release(&w->serve);
    refresh_free(w->serve.refresh);
    shelf_free(w->serve.shelf);
    shedding_free(w->serve.shedding);
    serve_release(&w->serve);
    loop_release(&w->loop);
    free(w);
}
