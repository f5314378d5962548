#include "serve/gate/passage.h"

#include "base/clock.h"
#include "base/metric.h"
#include "base/panic.h"
#include "base/random.h"
#include "base/secret.h"
#include "serve/gate/admission_inside.h"

#include <stdlib.h>

enum { WAITING_BYTES_MAX = 64 << 20 /* requests kept for those who wait, all together */ };

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
    step_out(p, admission_enter(p->serve->shared), now_us);
    admission_settle(p->serve->shared, now_us, "");
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

/* A 500 is an answer to one request; these may say that there is no controller behind the proxy. */
static bool is_absence(int status) {
    return status == 502 || status == 503 || status == 504;
}

static void judge(struct passage *p, enum gate_result result, const char *why) {
    int64_t now_us = clock_mono_us();
    struct shared *shared = p->serve->shared;
    struct gate *g = admission_enter(shared);
    gate_answered(g, &p->ticket, result, now_us);
    admission_settle(shared, now_us, why);
    if (result == GATE_UNAVAILABLE || result == GATE_UNCONFIRMED)
        atomic_store(&shared->admission->suspected, true);
    else if (result != GATE_FAILED)
        atomic_store_explicit(&shared->admission->heard_ms, now_us / 1000, memory_order_relaxed);
}

/* A connect with an unknown secret proves nothing by itself: with ones that the controller trips
 * over anybody could lower the limit of all connects. */
static enum gate_result unavailable(const struct passage *p) {
    bool is_unknown = p->terms.is_forwarded && p->ticket.class == GATE_CONNECT;
    return is_unknown ? GATE_UNCONFIRMED : GATE_UNAVAILABLE;
}

/* AIWM's own /health answers 503 while its database is slow, and everything else still works: only
 * AIWM writes a correlation id. Anybody else's 502, 503 or 504 stands for a controller that is not
 * there. */
static bool says_absent(const struct http_response *head) {
    bool is_controllers = head->fields.known_count[HTTP_CORRELATION_ID] > 0;
    return is_absence(head->status) && !(head->status == 503 && is_controllers);
}

static enum gate_result result_of_head(const struct passage *p, const struct http_response *head) {
    if (p->ticket.class == GATE_PROBE)
        return says_absent(head) ? GATE_FAILED : GATE_ODD;
    if (is_absence(head->status))
        return unavailable(p);
    return head->status / 100 == 2 ? GATE_FINE : GATE_ODD;
}

static enum gate_result result_of_error(struct passage *p, enum err error) {
    bool no_connection = error == ERR_UPSTREAM_CONNECT || error == ERR_UPSTREAM_TLS;
    if (no_connection)
        p->ticket.agent = 0; /* nothing that any agent has sent is the reason */
    return no_connection || !p->terms.is_forwarded ? GATE_FAILED : unavailable(p);
}

static bool is_event_stream(const struct http_response *head) {
    struct span type = head->fields.known[HTTP_CONTENT_TYPE];
    struct span events = SPAN("text/event-stream");
    return type.len >= events.len && span_equal_nocase((struct span){type.ptr, events.len}, events);
}

static bool is_answered_in_pieces(const struct passage *p) {
    return p->ticket.class == GATE_API || p->ticket.class == GATE_LONG;
}

/* Only the answer says that a call is going to last, or how slowly its client takes it. If there
 * are too many of them it stays where it is. */
static void become_stream(struct passage *p) {
    struct gate *g = admission_enter(p->serve->shared);
    (void)gate_move(g, &p->ticket, GATE_STREAM);
    admission_settle(p->serve->shared, clock_mono_us(), "");
}

_Static_assert((int)METRIC_TIME_COUNT - (int)METRIC_TIME_CALL_CONNECT >= (int)GATE_CLASSES,
               "each class has its row of controller_duration_seconds, in the same order");

static void on_head(void *arg, const struct http_response *head) {
    struct passage *p = arg;
    bool is_stream = is_event_stream(head);
    p->took_us = clock_mono_us() - p->asked_us;
    metric_time(METRIC_TIME_CALL_CONNECT + (enum metric_time)p->ticket.class, p->took_us);
    judge(p, result_of_head(p, head), "its /health is not available (502, 503, 504)");
    /* Silence is normal here: a model thinks, a stream has no events. */
    p->may_be_silent = is_stream || p->ticket.class == GATE_LONG;
    if (p->may_be_silent)
        call_lift_body_timeout(p->call);
    if (p->ticket.class == GATE_API && is_stream)
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
        judge(p, result_of_error(p, error), err_row(error)->message);
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
        find_time(p, admission_enter(p->serve->shared), clock_mono_us());
        admission_look_only(p->serve->shared);
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
    struct gate *g = admission_enter(shared);
    bool waited = p->ticket.where == GATE_WAITING, is_called = p->is_called;
    if (waited) {
        step_out(p, g, now_us);
        p->answer = GATE_BUSY;
        find_time(p, g, now_us);
    }
    admission_settle(shared, now_us, "");
    if (!is_called)
        tell_refused(p);
}

/* ---- the call as its owner sees it ---- */

/* Once the lock is given back another worker may call who waits, and then p->answer is its word. */
static enum gate_answer ask(struct passage *p, const struct call_request *request) {
    struct shared *shared = p->serve->shared;
    struct admission *a = shared->admission;
    size_t bytes = request->head.len + request->body.len;
    int64_t now_us = clock_mono_us();
    struct gate *g = admission_enter(shared);
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
    p->answer = answer;
    admission_look_only(shared);
    return answer;
}

static int64_t patience_ms(const struct passage *p) {
    int64_t usual_ms = p->ticket.patience_us / 1000, left_ms = usual_ms;
    if (p->terms.answer_by_ms > 0)
        left_ms = p->terms.answer_by_ms - clock_mono_ms();
    return left_ms < 0 ? 0 : left_ms < usual_ms ? left_ms : usual_ms;
}

struct passage *passage_start(struct serve *s, const struct call_request *request,
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
    enum gate_answer answer = terms->ticket ? GATE_IN : ask(p, request);
    p->ticket.agent = terms->agent;
    if (answer == GATE_IN)
        begin(p, request);
    else
        timer_start(&p->timer, answer == GATE_WAITS ? patience_ms(p) : 0);
    return p;
}

void passage_cancel(struct passage *p) {
    struct shared *shared = p->serve->shared;
    int64_t now_us = clock_mono_us();
    if (p->call)
        call_cancel(p->call);
    struct gate *g = admission_enter(shared);
    bool waited = p->ticket.where == GATE_WAITING;
    p->left = p->is_called && !p->call; /* then the letter gives the place back */
    if (!p->left)
        step_out(p, g, now_us);
    admission_settle(shared, now_us, "");
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

bool passage_may_be_silent(const struct passage *p) {
    return p->may_be_silent;
}

bool passage_has_begun(const struct passage *p) {
    return p->call != NULL;
}

/* The controller has done its work, and only the client's pace counts now: who reads slowly takes
 * no place from the calls of others. */
void passage_give_up(struct passage *p) {
    if (p->call && !p->ticket.judged)
        judge(p, GATE_FAILED, err_row(ERR_UPSTREAM_TIMEOUT)->message);
    passage_cancel(p);
}

void passage_pause(struct passage *p) {
    if (!p->call)
        return;
    call_pause(p->call);
    if (is_answered_in_pieces(p))
        become_stream(p);
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

/* ---- the end of a worker ---- */

static struct passage *first_without_call(struct desk *desk) {
    list_each (at, &desk->passages) {
        struct passage *p = container_of(at, struct passage, link);
        /* One that was freed is in no list any more. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
        if (!p->call && !p->left)
            return p;
    }
    return NULL;
}

/* Those with a call are told by the upstream when it goes. */
void passage_cancel_all(struct desk *desk) {
    struct passage *p;
    while ((p = first_without_call(desk)) != NULL) {
        const struct passage_events *on = p->on;
        void *arg = p->arg;
        passage_cancel(p);
        on->on_done(arg, ERR_CANCELLED, 0);
    }
}
