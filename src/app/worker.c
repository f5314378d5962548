#include "app/worker.h"

#include "base/clock.h"
#include "base/panic.h"
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
    LOOK_MS = 10,          /* draining: how often it sees whether it has something to do */
    PROBE_MS = 5000,       /* how often the first worker sees whether the controller is there, */
    PROBE_DOUBT_MS = 1000, /* when it was not the last time, */
    PROBE_AFTER_MS = 200,  /* and when it was left alone: who has something to say goes first */
    PROBE_CALL_MS = 5000,
};

struct worker {
    pthread_t thread;
    bool started;
    size_t number;
    struct loop loop;
    struct mailbox mailbox;
    struct serve serve;
    struct timer look, probe;
    struct fetch *probing;
    struct letter drain, stop, adopt;
    struct generation *adopting;
    _Atomic bool idle; /* draining, and nothing to do here (a letter may change that) */
};

/* ---- is the controller there? ---- */

static int64_t next_probe_ms(const struct shared *shared) {
    int64_t pause_ms = admission_pause_ms(shared);
    if (pause_ms > 0)
        return pause_ms + PROBE_AFTER_MS;
    return admission_is_doubtful(shared) ? PROBE_DOUBT_MS : PROBE_MS;
}

static void on_probed(void *arg, const struct fetched *result) {
    struct worker *w = arg;
    (void)result;
    w->probing = NULL;
    timer_start(&w->probe, next_probe_ms(w->serve.shared));
}

/* Where calls go all the time, they say how the controller is. */
static bool is_known(const struct shared *shared) {
    int64_t heard_ms = admission_heard_ms(shared);
    bool heard_lately = heard_ms > 0 && clock_mono_ms() - heard_ms < PROBE_MS;
    return heard_lately && !admission_is_doubtful(shared);
}

static void probe(void *arg) {
    struct worker *w = arg;
    struct shared *shared = w->serve.shared;
    if (is_known(shared) || admission_pause_ms(shared) > 0) {
        timer_start(&w->probe, next_probe_ms(shared));
        return;
    }
    char head[512];
    int len = snprintf(head, sizeof head, "GET /health HTTP/1.1\r\nHost: %s\r\n\r\n",
                       shared->upstream_authority);
    struct call_request call = {
        .head = {head, (size_t)len}, .repeatable = true, .timeout_ms = PROBE_CALL_MS};
    struct admission_terms terms = {.class = GATE_PROBE};
    enum { HEALTH_MAX = 65536 };
    w->probing = fetch_start(&w->serve, &call, &terms, HEALTH_MAX, on_probed, w);
}

/* ---- draining ---- */

static void stop_probing(struct worker *w) {
    timer_stop(&w->probe);
    if (w->probing)
        fetch_cancel(w->probing);
    w->probing = NULL;
}

static void look(void *arg) {
    struct worker *w = arg;
    const struct serve *s = &w->serve;
    bool idle =
        server_connections(s->server) == 0 && upstream_busy(s->upstream) == 0 && beats_are_idle(s);
    atomic_store(&w->idle, idle);
    timer_start(&w->look, LOOK_MS);
}

static void on_drain(struct letter *letter, void *receiver) {
    struct worker *w = container_of(letter, struct worker, drain);
    struct serve *s = receiver;
    stop_probing(w);
    server_drain(s->server);
    beats_drain(s);
    timer_start(&w->look, LOOK_MS);
}

static void on_stop(struct letter *letter, void *receiver) {
    (void)receiver;
    loop_stop(&container_of(letter, struct worker, stop)->loop);
}

/* ---- a new generation ---- */

static void on_adopt(struct letter *letter, void *receiver) {
    struct worker *w = container_of(letter, struct worker, adopt);
    struct serve *s = receiver;
    struct upstream *former = s->upstream;
    s->upstream = upstream_new(&w->loop, &w->adopting->setup.upstream);
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
               upstream_new(&w->loop, &setup->upstream));
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
    w->drain.deliver = on_drain;
    w->stop.deliver = on_stop;
    w->adopt.deliver = on_adopt;
    if (setup->number == 0)
        timer_start(&w->probe, 0);
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
