#include "serve/gate/admission_inside.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/panic.h"

#include <stdlib.h>

enum {
    WAITING_MAX = 4096,     /* calls of a class */
    HURRY_OPEN_US = 500000, /* at the end the controller is tried twice a second */
    PAUSE_MIN_MS = 50,      /* the breaker is open, and a probe is due or under way */
};

const char *const admission_class_names[GATE_CLASSES] = {
    [GATE_CONNECT] = "connect", [GATE_HEARTBEAT] = "heartbeat", [GATE_CONTROL] = "control",
    [GATE_API] = "api",         [GATE_LONG] = "long",           [GATE_STREAM] = "stream",
    [GATE_PROBE] = "probe"};

/* ---- the gate, locked ---- */

struct gate *admission_enter(struct shared *shared) {
    struct admission *a = shared->admission;
    pthread_mutex_lock(&a->lock);
    int replicas = atomic_load_explicit(&shared->replicas, memory_order_relaxed);
    a->gate.replicas = replicas > 1 ? replicas : 1;
    return &a->gate;
}

static enum controller state_of(const struct gate *g) {
    if (g->breaker.state != BREAKER_CLOSED)
        return CONTROLLER_DOWN;
    if (g->heard)
        return CONTROLLER_UP;
    return g->breaker.in_a_row > 0 ? CONTROLLER_DOWN : CONTROLLER_UNKNOWN;
}

/* Who need not wait any more, in `called`. */
static void call_next(struct admission *a, int64_t now_us, struct list *called) {
    struct gate_ticket *t;
    enum gate_answer answer;
    for (enum gate_class class = 0; class < GATE_CLASSES; class ++)
        while (a->gate.lane[class].queue.count > 0 &&
               (t = gate_next(&a->gate, class, now_us, &answer)) != NULL) {
            struct passage *p = container_of(t, struct passage, ticket);
            p->answer = answer;
            p->is_called = true;
            a->waiting_bytes -= p->request.head.len + p->request.body.len;
            if (answer == GATE_DOWN)
                p->retry_after_s = 0; /* worked out when it is told */
            list_push_back(called, &t->entry.link);
        }
}

/* The desk that is told of room for heartbeats, or NULL. */
static struct desk *next_desk(struct admission *a, size_t count, int64_t now_us) {
    if (!gate_has_room(&a->gate, GATE_HEARTBEAT, now_us))
        return NULL;
    for (size_t i = 0; i < count; i++) {
        struct desk *d = a->desk[(a->turn + i) % count];
        if (!d || !d->wants_room || d->room_posted)
            continue;
        a->turn = (a->turn + i + 1) % count;
        d->wants_room = false;
        d->room_posted = true;
        return d;
    }
    return NULL;
}

/* The desk that is to probe at once, or NULL. */
static struct desk *alarmed_desk(struct admission *a, size_t count) {
    if (!gate_wants_probe(&a->gate))
        return NULL;
    for (size_t i = 0; i < count; i++) {
        struct desk *d = a->desk[i];
        if (!d || !d->on_alarm || d->alarm_posted || d->is_alarmed)
            continue;
        d->alarm_posted = d->is_alarmed = true;
        atomic_store(&a->suspected, true);
        return d;
    }
    return NULL;
}

static void post_called(struct shared *shared, struct list *called) {
    while (!list_empty(called)) {
        struct list *link = called->next;
        struct gate_ticket *t = container_of(link, struct gate_ticket, entry.link);
        struct passage *p = container_of(t, struct passage, ticket);
        list_remove(link);
        mailbox_post(shared->mailbox[p->serve->worker], &p->called);
    }
}

static void log_change(const struct shared *shared, enum controller now, const char *why) {
    if (now == CONTROLLER_DOWN)
        log_warn("the controller fails", F_TEXT("upstream", shared->upstream_authority),
                 F_TEXT("error", why));
    else if (now == CONTROLLER_UP)
        log_info("the controller answers", F_TEXT("upstream", shared->upstream_authority));
}

void admission_settle(struct shared *shared, int64_t now_us, const char *why) {
    struct admission *a = shared->admission;
    struct list called;
    list_init(&called);
    call_next(a, now_us, &called);
    struct desk *desk = next_desk(a, shared->worker_count, now_us);
    enum controller now = state_of(&a->gate);
    enum controller before = (enum controller)atomic_exchange(&a->state, (int)now);
    atomic_store(&a->doubtful, a->gate.breaker.in_a_row > 0);
    struct desk *prober = alarmed_desk(a, shared->worker_count);
    pthread_mutex_unlock(&a->lock);
    post_called(shared, &called);
    if (prober)
        mailbox_post(shared->mailbox[prober->serve->worker], &prober->alarm);
    if (desk)
        mailbox_post(shared->mailbox[desk->serve->worker], &desk->room);
    if (now != before)
        log_change(shared, now, why);
}

void admission_look_only(const struct shared *shared) {
    pthread_mutex_unlock(&shared->admission->lock);
}

int64_t admission_wait_ms(const struct serve *s) {
    return s->shared->config->queue.wait_ms;
}

/* ---- for those who ask when it suits ---- */

bool admission_take(struct serve *s, enum gate_class class, struct gate_ticket *ticket) {
    struct gate_wish wish = {.class = class};
    struct gate *g = admission_enter(s->shared);
    enum gate_answer answer = gate_ask(g, ticket, &wish, clock_mono_us());
    admission_look_only(s->shared);
    return answer == GATE_IN;
}

bool admission_has_room(struct serve *s, enum gate_class class) {
    struct gate *g = admission_enter(s->shared);
    bool room = gate_has_room(g, class, clock_mono_us());
    admission_look_only(s->shared);
    return room;
}

size_t admission_room(struct serve *s, enum gate_class class) {
    int64_t now_us = clock_mono_us();
    struct gate *g = admission_enter(s->shared);
    int64_t free_places = gate_limit(g, class, now_us) - g->lane[class].inside;
    bool room = gate_has_room(g, class, now_us);
    admission_look_only(s->shared);
    if (!room)
        return 0;
    return free_places > 1 ? (size_t)free_places : 1; /* a breaker may try one */
}

bool admission_room_or_wake(struct serve *s) {
    struct gate *g = admission_enter(s->shared);
    bool room = gate_has_room(g, GATE_HEARTBEAT, clock_mono_us());
    s->desk->wants_room = !room;
    admission_look_only(s->shared);
    return room;
}

/* If this worker has nothing to send the room is another's. */
static void tell_room(struct letter *letter, void *receiver) {
    struct desk *desk = container_of(letter, struct desk, room);
    struct serve *s = receiver;
    (void)admission_enter(s->shared);
    desk->room_posted = false;
    admission_look_only(s->shared);
    if (s->closing)
        return;
    desk->on_room(s);
    (void)admission_enter(s->shared);
    admission_settle(s->shared, clock_mono_us(), "");
}

int64_t admission_pause_ms(const struct shared *shared) {
    pthread_mutex_lock(&shared->admission->lock);
    const struct breaker *b = &shared->admission->gate.breaker;
    int64_t us = breaker_wait_us(b, clock_mono_us());
    bool is_open = b->state != BREAKER_CLOSED;
    pthread_mutex_unlock(&shared->admission->lock);
    int64_t ms = (us + 999) / 1000;
    return is_open && ms < PAUSE_MIN_MS ? PAUSE_MIN_MS : ms;
}

bool admission_probe_wait_ms(const struct shared *shared, int64_t *wait_ms) {
    pthread_mutex_lock(&shared->admission->lock);
    const struct breaker *b = &shared->admission->gate.breaker;
    *wait_ms = (breaker_wait_us(b, clock_mono_us()) + 999) / 1000;
    bool is_open = b->state != BREAKER_CLOSED;
    pthread_mutex_unlock(&shared->admission->lock);
    return is_open;
}

void admission_hurry(struct shared *shared) {
    struct gate *g = admission_enter(shared);
    g->policy.breaker.open_us = g->policy.breaker.open_max_us = HURRY_OPEN_US;
    breaker_hurry(&g->breaker, clock_mono_us());
    admission_settle(shared, clock_mono_us(), "");
}

/* ---- how the controller is ---- */

static void tell_alarm(struct letter *letter, void *receiver) {
    struct desk *desk = container_of(letter, struct desk, alarm);
    struct serve *s = receiver;
    (void)admission_enter(s->shared);
    desk->alarm_posted = false;
    admission_look_only(s->shared);
    if (!s->closing)
        desk->on_alarm(s);
}

void admission_watch(struct serve *s, void (*on_alarm)(struct serve *s)) {
    (void)admission_enter(s->shared);
    s->desk->alarm.deliver = tell_alarm;
    s->desk->on_alarm = on_alarm;
    admission_look_only(s->shared);
}

void admission_probed(struct serve *s) {
    (void)admission_enter(s->shared);
    s->desk->is_alarmed = false;
    admission_look_only(s->shared);
}

enum controller admission_controller(const struct shared *shared) {
    return (enum controller)atomic_load_explicit(&shared->admission->state, memory_order_relaxed);
}

bool admission_is_doubtful(const struct shared *shared) {
    return atomic_load_explicit(&shared->admission->doubtful, memory_order_relaxed);
}

bool admission_take_suspicion(const struct shared *shared) {
    return atomic_exchange(&shared->admission->suspected, false);
}

int64_t admission_heard_ms(const struct shared *shared) {
    return atomic_load_explicit(&shared->admission->heard_ms, memory_order_relaxed);
}

void admission_look(const struct shared *shared, struct admission_view *out) {
    struct admission *a = shared->admission;
    int64_t now_us = clock_mono_us();
    pthread_mutex_lock(&a->lock);
    out->breaker = a->gate.breaker.state;
    for (enum gate_class class = 0; class < GATE_CLASSES; class ++) {
        out->limit[class] = gate_limit(&a->gate, class, now_us);
        out->inside[class] = a->gate.lane[class].inside;
        out->waiting[class] = a->gate.lane[class].queue.count;
    }
    pthread_mutex_unlock(&a->lock);
}

/* ---- life ---- */

static struct gate_policy policy_of(const struct config *c) {
    int64_t open_ms = c->breaker.open_ms, max_open_ms = c->breaker.max_open_ms;
    return (struct gate_policy){
        .breaker = {.failures = c->breaker.failures,
                    .window_us = c->breaker.window_ms * 1000,
                    .calls_min = c->breaker.min_calls,
                    .percent = c->breaker.failure_percent,
                    .open_us = open_ms * 1000,
                    .open_max_us = (max_open_ms > open_ms ? max_open_ms : open_ms) * 1000},
        .places = {[GATE_CONNECT] = c->queue.connect,
                   [GATE_HEARTBEAT] = c->queue.heartbeat,
                   [GATE_CONTROL] = c->queue.control,
                   [GATE_API] = c->queue.api,
                   [GATE_LONG] = c->queue.long_calls,
                   [GATE_STREAM] = c->queue.streams,
                   [GATE_PROBE] = 1},
        .adaptive = c->queue.adaptive,
        .adaptive_api = c->queue.adaptive_api,
        .ramp_us = c->queue.ramp_ms * 1000,
        .waiting_max = WAITING_MAX,
        .retry_reach_s = c->queue.retry_reach_ms / 1000};
}

struct admission *admission_new(const struct config *config, size_t worker_count) {
    struct admission *a = must_zalloc(sizeof *a);
    struct gate_policy policy = policy_of(config);
    pthread_mutex_init(&a->lock, NULL);
    gate_init(&a->gate, &policy);
    a->desk = must_zalloc(worker_count * sizeof(struct desk *));
    return a;
}

void admission_adopt(struct admission *a, const struct config *config) {
    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    a->gate.policy = policy_of(config);
    pthread_mutex_unlock(&a->lock);
}

void admission_renew(struct shared *shared) {
    gate_renew(admission_enter(shared));
    admission_settle(shared, clock_mono_us(), "");
}

void admission_free(struct admission *a) {
    if (!a)
        return;
    gate_release(&a->gate);
    pthread_mutex_destroy(&a->lock);
    free(a->desk);
    free(a);
}

struct desk *admission_open(struct serve *s, void (*on_room)(struct serve *s)) {
    struct desk *desk = must_zalloc(sizeof *desk);
    desk->serve = s;
    desk->on_room = on_room;
    desk->room.deliver = tell_room;
    list_init(&desk->passages);
    (void)admission_enter(s->shared);
    s->shared->admission->desk[s->worker] = desk;
    admission_look_only(s->shared);
    return desk;
}

void admission_desk_free(struct desk *desk) {
    struct shared *shared = desk->serve->shared;
    (void)admission_enter(shared);
    shared->admission->desk[desk->serve->worker] = NULL;
    admission_look_only(shared);
    free(desk);
}
