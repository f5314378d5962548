#include "serve/admission.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/panic.h"
#include "base/random.h"
#include "base/secret.h"
#include "serve/flush.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    WAITING_MAX = 4096,           /* calls of a class */
    WAITING_BYTES_MAX = 64 << 20, /* requests kept for those who wait, all together */
    HURRY_OPEN_US = 500000,       /* at the end the controller is tried twice a second */
};

const char *const admission_class_names[GATE_CLASSES] = {[GATE_CONNECT] = "connect",
                                                         [GATE_HEARTBEAT] = "heartbeat",
                                                         [GATE_API] = "api",
                                                         [GATE_STREAM] = "stream",
                                                         [GATE_PROBE] = "probe"};

/* A worker's: what it has at the gate, and whether its flush waits for room. */
struct desk {
    struct list passages;
    struct letter room;           /* to flush_wake */
    bool wants_room, room_posted; /* under the lock */
    struct serve *serve;
};

struct admission {
    pthread_mutex_t lock;
    struct gate gate;
    size_t waiting_bytes;
    struct desk **desk; /* of each worker */
    size_t turn;        /* the desk that is told of room next */
    _Atomic int state;  /* enum controller */
    _Atomic bool doubtful;
    _Atomic int64_t heard_ms;
};

struct passage {
    struct list link; /* in the desk's */
    struct letter called;
    struct serve *serve;
    struct gate_ticket ticket;
    struct call *call; /* NULL: not yet */
    const struct passage_events *on;
    void *arg;
    struct admission_terms terms;
    struct call_request request; /* kept while it waits; head and body are: */
    char *kept;
    struct timer timer; /* patience; or 0 ms, to refuse from the loop */
    enum gate_answer answer;
    int retry_after_s;
    int64_t asked_us; /* monotonic */
    int64_t took_us;
    bool is_called; /* under the lock: its letter is on its way */
    bool left;      /* its owner does not want it any more; the letter will find nobody */
};

/* ---- the gate, locked ---- */

static struct gate *enter(struct shared *shared) {
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
        while ((t = gate_next(&a->gate, class, now_us, &answer)) != NULL) {
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

/* Unlocks the gate after a change: those whom it concerns are told. `why` for the log. */
static void settle(struct shared *shared, int64_t now_us, const char *why) {
    struct admission *a = shared->admission;
    struct list called;
    list_init(&called);
    call_next(a, now_us, &called);
    struct desk *desk = next_desk(a, shared->worker_count, now_us);
    enum controller now = state_of(&a->gate);
    enum controller before = (enum controller)atomic_exchange(&a->state, (int)now);
    atomic_store(&a->doubtful, a->gate.breaker.in_a_row > 0);
    pthread_mutex_unlock(&a->lock);
    post_called(shared, &called);
    if (desk)
        mailbox_post(shared->mailbox[desk->serve->worker], &desk->room);
    if (now != before)
        log_change(shared, now, why);
}

static void look_only(const struct shared *shared) {
    pthread_mutex_unlock(&shared->admission->lock);
}

/* ---- a passage's ends ---- */

static void forget_request(struct passage *p) {
    if (p->kept && p->request.secret)
        secret_cleanse(p->kept, p->request.head.len + p->request.body.len);
    free(p->kept);
    p->kept = NULL;
}

static void passage_free(struct passage *p) {
    timer_stop(&p->timer);
    list_remove(&p->link);
    forget_request(p);
    free(p);
}

/* Under the lock. */
static void step_out(struct passage *p, struct gate *g, int64_t now_us) {
    if (p->ticket.where == GATE_WAITING)
        p->serve->shared->admission->waiting_bytes -= p->request.head.len + p->request.body.len;
    gate_out(g, &p->ticket, now_us);
}

static void give_back(struct passage *p) {
    int64_t now_us = clock_mono_us();
    step_out(p, enter(p->serve->shared), now_us);
    settle(p->serve->shared, now_us, "");
}

static void tell_end(struct passage *p, enum err error, int retry_after_s) {
    const struct passage_events *on = p->on;
    void *arg = p->arg;
    passage_free(p);
    on->on_done(arg, error, retry_after_s);
}

static void tell_refused(struct passage *p) {
    bool down = p->answer == GATE_DOWN;
    metric_add((down ? METRIC_CALLS_DOWN_CONNECT : METRIC_CALLS_BUSY_CONNECT) +
                   (enum metric)p->ticket.class,
               1);
    tell_end(p, down ? ERR_CONTROLLER_DOWN : ERR_CONTROLLER_BUSY, p->retry_after_s);
}

/* ---- its call ---- */

/* A 500 is an answer to one request; these say that there is no controller behind the proxy. */
static bool is_absence(int status) {
    return status == 502 || status == 503 || status == 504;
}

static void judge(struct passage *p, enum gate_result result, const char *why) {
    int64_t now_us = clock_mono_us();
    struct shared *shared = p->serve->shared;
    struct gate *g = enter(shared);
    gate_answered(g, &p->ticket, result, now_us);
    settle(shared, now_us, why);
    if (result != GATE_FAILED)
        atomic_store_explicit(&shared->admission->heard_ms, now_us / 1000, memory_order_relaxed);
}

static bool is_event_stream(const struct http_response *head) {
    struct span type = head->fields.known[HTTP_CONTENT_TYPE];
    struct span events = SPAN("text/event-stream");
    return type.len >= events.len && span_equal_nocase((struct span){type.ptr, events.len}, events);
}

/* Only the answer says that a call is going to last. If there are too many of them it stays where
 * it is. */
static void become_stream(struct passage *p) {
    struct gate *g = enter(p->serve->shared);
    (void)gate_move(g, &p->ticket, GATE_STREAM);
    settle(p->serve->shared, clock_mono_us(), "");
}

_Static_assert((int)METRIC_TIME_COUNT - (int)METRIC_TIME_CALL_CONNECT >= (int)GATE_CLASSES,
               "each class has its row of controller_duration_seconds, in the same order");

static void on_head(void *arg, const struct http_response *head) {
    struct passage *p = arg;
    bool absent = is_absence(head->status);
    p->took_us = clock_mono_us() - p->asked_us;
    metric_time(METRIC_TIME_CALL_CONNECT + (enum metric_time)p->ticket.class, p->took_us);
    judge(p,
          absent                    ? GATE_FAILED
          : head->status / 100 == 2 ? GATE_FINE
                                    : GATE_ODD,
          "it is not available (502, 503, 504)");
    if (p->ticket.class == GATE_API && is_event_stream(head))
        become_stream(p);
    p->on->on_head(p->arg, head);
}

static void on_body(void *arg, struct span bytes) {
    struct passage *p = arg;
    p->on->on_body(p->arg, bytes);
}

static void on_turn(void *arg) {
    struct passage *p = arg;
    if (p->on->on_turn)
        p->on->on_turn(p->arg);
}

static void on_drained(void *arg) {
    struct passage *p = arg;
    if (p->on->on_drained)
        p->on->on_drained(p->arg);
}

static void on_done(void *arg, enum err error) {
    struct passage *p = arg;
    /* Our own doing says nothing about the controller. */
    bool says_nothing = error == ERR_OK || error == ERR_CANCELLED || error == ERR_OVERLOADED;
    if (!says_nothing && !p->ticket.judged)
        judge(p, GATE_FAILED, err_row(error)->message);
    give_back(p);
    tell_end(p, error, 0);
}

static const struct call_events call_events = {.on_head = on_head,
                                               .on_body = on_body,
                                               .on_turn = on_turn,
                                               .on_done = on_done,
                                               .on_drained = on_drained};

static void begin(struct passage *p, const struct call_request *request) {
    p->asked_us = clock_mono_us();
    metric_add(METRIC_CALLS_CONNECT + (enum metric)p->ticket.class, 1);
    p->call = upstream_call(p->serve->upstream, request, &call_events, p);
}

/* ---- waiting ---- */

static void keep_request(struct passage *p, const struct call_request *request) {
    size_t head = request->head.len, body = request->body.len;
    p->kept = must_alloc(head + body + 1);
    memcpy(p->kept, request->head.ptr, head);
    if (body > 0)
        memcpy(p->kept + head, request->body.ptr, body);
    p->request = *request;
    p->request.head = (struct span){p->kept, head};
    p->request.body = (struct span){p->kept + head, body};
}

static struct gate_wish wish_of(const struct admission_terms *terms) {
    return (struct gate_wish){terms->class, terms->wait_ms * 1000, terms->who, terms->flow};
}

/* Only to one who was ready to wait a time is told: the others come when it suits them. */
static void find_time(struct passage *p, struct gate *g, int64_t now_us) {
    struct gate_wish wish = wish_of(&p->terms);
    if (p->terms.wait_ms > 0)
        p->retry_after_s = (int)gate_retry_after_s(g, &wish, (uint32_t)random_u64(), now_us);
}

/* Its turn came, or the breaker opened meanwhile. */
static void on_called(struct letter *letter, void *receiver) {
    (void)receiver;
    struct passage *p = container_of(letter, struct passage, called);
    bool down = p->answer == GATE_DOWN;
    bool wanted =
        !p->left && !(p->terms.is_wanted && !down && !p->terms.is_wanted(p->terms.wanted_arg));
    timer_stop(&p->timer);
    if (down && wanted) {
        find_time(p, enter(p->serve->shared), clock_mono_us());
        look_only(p->serve->shared);
        tell_refused(p);
    } else if (wanted) {
        begin(p, &p->request);
        forget_request(p);
    } else {
        give_back(p);
        metric_add(METRIC_CALLS_LEFT, 1);
        if (p->left)
            passage_free(p);
        else
            tell_end(p, ERR_CANCELLED, 0);
    }
}

/* Its patience is over, unless its letter is on the way; or it was refused at once. */
static void on_timer(void *arg) {
    struct passage *p = arg;
    struct shared *shared = p->serve->shared;
    int64_t now_us = clock_mono_us();
    struct gate *g = enter(shared);
    bool waited = p->ticket.where == GATE_WAITING, is_called = p->is_called;
    if (waited) {
        step_out(p, g, now_us);
        p->answer = GATE_BUSY;
        find_time(p, g, now_us);
    }
    settle(shared, now_us, "");
    if (!is_called)
        tell_refused(p);
}

/* ---- the call as its owner sees it ---- */

static enum gate_answer ask(struct passage *p, const struct call_request *request) {
    struct shared *shared = p->serve->shared;
    struct admission *a = shared->admission;
    size_t bytes = request->head.len + request->body.len;
    int64_t now_us = clock_mono_us();
    struct gate *g = enter(shared);
    struct gate_wish wish = wish_of(&p->terms);
    if (a->waiting_bytes + bytes > WAITING_BYTES_MAX)
        wish.wait_us = 0;
    enum gate_answer answer = gate_ask(g, &p->ticket, &wish, now_us);
    if (answer == GATE_WAITS) {
        keep_request(p, request); /* before anybody can call it */
        a->waiting_bytes += bytes;
    } else if (answer != GATE_IN) {
        find_time(p, g, now_us);
    }
    look_only(shared);
    return answer;
}

struct passage *admission_call(struct serve *s, const struct call_request *request,
                               const struct admission_terms *terms, const struct passage_events *on,
                               void *arg) {
    struct passage *p = must_zalloc(sizeof *p);
    p->serve = s;
    p->terms = *terms;
    p->on = on;
    p->arg = arg;
    p->called.deliver = on_called;
    timer_init(&p->timer, s->loop, on_timer, p);
    list_push_back(&s->desk->passages, &p->link);
    if (terms->ticket)
        p->ticket = *terms->ticket;
    p->answer = terms->ticket ? GATE_IN : ask(p, request);
    if (p->answer == GATE_IN)
        begin(p, request);
    else
        timer_start(&p->timer, p->answer == GATE_WAITS ? p->ticket.patience_us / 1000 : 0);
    return p;
}

void passage_cancel(struct passage *p) {
    struct shared *shared = p->serve->shared;
    int64_t now_us = clock_mono_us();
    if (p->call)
        call_cancel(p->call);
    struct gate *g = enter(shared);
    bool waited = p->ticket.where == GATE_WAITING;
    p->left = p->is_called && !p->call; /* then the letter gives the place back */
    if (!p->left)
        step_out(p, g, now_us);
    settle(shared, now_us, "");
    metric_add(METRIC_CALLS_LEFT, waited);
    if (!p->left)
        passage_free(p);
}

bool passage_was_sent(const struct passage *p) {
    return p->call && call_was_sent(p->call);
}

int64_t passage_took_us(const struct passage *p) {
    return p->took_us;
}

bool passage_has_begun(const struct passage *p) {
    return p->call != NULL;
}

void passage_pause(struct passage *p) {
    if (p->call)
        call_pause(p->call);
}

void passage_resume(struct passage *p) {
    if (p->call)
        call_resume(p->call);
}

void passage_write(struct passage *p, struct span bytes) {
    if (p->call)
        call_write(p->call, bytes);
}

size_t passage_unsent(const struct passage *p) {
    return p->call ? call_unsent(p->call) : 0;
}

int64_t admission_wait_ms(const struct serve *s) {
    return s->shared->config->queue.wait_ms;
}

/* ---- for those who ask when it suits ---- */

bool admission_take(struct serve *s, enum gate_class class, struct gate_ticket *ticket) {
    struct gate_wish wish = {.class = class};
    struct gate *g = enter(s->shared);
    enum gate_answer answer = gate_ask(g, ticket, &wish, clock_mono_us());
    look_only(s->shared);
    return answer == GATE_IN;
}

bool admission_has_room(struct serve *s, enum gate_class class) {
    struct gate *g = enter(s->shared);
    bool room = gate_has_room(g, class, clock_mono_us());
    look_only(s->shared);
    return room;
}

size_t admission_room(struct serve *s, enum gate_class class) {
    int64_t now_us = clock_mono_us();
    struct gate *g = enter(s->shared);
    int64_t free_places = gate_limit(g, class, now_us) - g->lane[class].inside;
    bool room = gate_has_room(g, class, now_us);
    look_only(s->shared);
    if (!room)
        return 0;
    return free_places > 1 ? (size_t)free_places : 1; /* a breaker may try one */
}

bool admission_room_or_wake(struct serve *s) {
    struct gate *g = enter(s->shared);
    bool room = gate_has_room(g, GATE_HEARTBEAT, clock_mono_us());
    s->desk->wants_room = !room;
    look_only(s->shared);
    return room;
}

/* If this worker has nothing to send the room is another's. */
static void on_room(struct letter *letter, void *receiver) {
    struct desk *desk = container_of(letter, struct desk, room);
    struct serve *s = receiver;
    (void)enter(s->shared);
    desk->room_posted = false;
    look_only(s->shared);
    if (s->closing)
        return;
    flush_wake(s->flush);
    (void)enter(s->shared);
    settle(s->shared, clock_mono_us(), "");
}

int64_t admission_pause_ms(const struct shared *shared) {
    pthread_mutex_lock(&shared->admission->lock);
    int64_t us = breaker_wait_us(&shared->admission->gate.breaker, clock_mono_us());
    pthread_mutex_unlock(&shared->admission->lock);
    return (us + 999) / 1000;
}

void admission_hurry(struct shared *shared) {
    struct gate *g = enter(shared);
    g->policy.breaker.open_us = g->policy.breaker.open_max_us = HURRY_OPEN_US;
    breaker_hurry(&g->breaker, clock_mono_us());
    settle(shared, clock_mono_us(), "");
}

/* ---- how the controller is ---- */

enum controller admission_controller(const struct shared *shared) {
    return (enum controller)atomic_load_explicit(&shared->admission->state, memory_order_relaxed);
}

bool admission_is_doubtful(const struct shared *shared) {
    return atomic_load_explicit(&shared->admission->doubtful, memory_order_relaxed);
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
    return (struct gate_policy){.breaker = {.failures = c->breaker.failures,
                                            .window_us = c->breaker.window_ms * 1000,
                                            .calls_min = c->breaker.min_calls,
                                            .percent = c->breaker.failure_percent,
                                            .open_us = c->breaker.open_ms * 1000,
                                            .open_max_us = c->breaker.max_open_ms * 1000},
                                .places = {[GATE_CONNECT] = c->queue.connect,
                                           [GATE_HEARTBEAT] = c->queue.heartbeat,
                                           [GATE_API] = c->queue.api,
                                           [GATE_STREAM] = c->queue.streams,
                                           [GATE_PROBE] = 1},
                                .adaptive = c->queue.adaptive,
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

void admission_free(struct admission *a) {
    if (!a)
        return;
    gate_release(&a->gate);
    pthread_mutex_destroy(&a->lock);
    free(a->desk);
    free(a);
}

struct desk *admission_open(struct serve *s) {
    struct desk *desk = must_zalloc(sizeof *desk);
    desk->serve = s;
    desk->room.deliver = on_room;
    list_init(&desk->passages);
    (void)enter(s->shared);
    s->shared->admission->desk[s->worker] = desk;
    look_only(s->shared);
    return desk;
}

static struct passage *first_without_call(struct desk *desk) {
    list_each (at, &desk->passages) {
        struct passage *p = container_of(at, struct passage, link);
        if (!p->call && !p->left)
            return p;
    }
    return NULL;
}

/* Those with a call are told by the upstream when it goes. */
void admission_close(struct desk *desk) {
    struct passage *p;
    while ((p = first_without_call(desk)) != NULL) {
        const struct passage_events *on = p->on;
        void *arg = p->arg;
        passage_cancel(p);
        on->on_done(arg, ERR_CANCELLED, 0);
    }
}

void admission_desk_free(struct desk *desk) {
    struct shared *shared = desk->serve->shared;
    (void)enter(shared);
    shared->admission->desk[desk->serve->worker] = NULL;
    look_only(shared);
    free(desk);
}
