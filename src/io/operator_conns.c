#include "io/operator_conns.h"

#include "base/clock.h"
#include "base/metric.h"
#include "base/panic.h"
#include "rules/wire/address.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <stdlib.h>
#include <sys/socket.h>

enum conn_state { UNFINISHED, ANSWERING, IDLE, STATES };

enum {
    REST_MS = 100, /* without descriptors: how long nothing is accepted */
    /* How long a client has to send its request, and to take its answer, before it may be closed
     * for a new one. A kubelet sends at once, but a busy machine is late. */
    GRACE_MS = 5,
    UNREAD_MS = 1000,
    /* What may wait behind a request: a head and a body. evhttp itself would read on without a
     * bound while an answer is not taken. */
    INPUT_MAX = 16384,
    /* The kernel takes a whole page of the health port (some 40 KB), read or not, so that a client
     * that does not read holds nothing here. */
    SEND_BUFFER = 128 << 10,
};

/* How long a connection may be in that state. A request comes in one packet; a page of 1 MiB takes
 * 10 s at 1 Mbit/s; many scrape once a minute. */
static const int64_t deadline_ms[STATES] = {
    [UNFINISHED] = 2000, [ANSWERING] = 10000, [IDLE] = 75000};

struct operator_conn {
    struct list link; /* in conns->in[state], the oldest first */
    struct operator_conns *conns;
    struct bufferevent *bev;         /* evhttp's; we hold a reference */
    struct evhttp_connection *evcon; /* evhttp's; NULL: not admitted yet */
    struct address peer;
    enum conn_state state;
    int64_t since_ms; /* monotonic: when it entered the state */
    struct timer deadline;
};

struct operator_conns {
    struct operator_conns *next;
    struct loop *loop;
    struct evconnlistener *listener; /* evhttp's */
    size_t max;
    struct list in[STATES];
    struct operator_conn *newcomer; /* accepted a moment ago; NULL: none */
    struct timer admission;         /* of the newcomer */
    struct timer rest;
};

/* This thread's, one a port. */
static _Thread_local struct operator_conns *all;

/* ---- one connection ---- */

static void enter(struct operator_conn *c, enum conn_state state) {
    c->state = state;
    c->since_ms = clock_mono_ms();
    list_remove(&c->link);
    list_push_back(&c->conns->in[state], &c->link);
    timer_start(&c->deadline, deadline_ms[state]);
}

static void on_input(struct evbuffer *input, const struct evbuffer_cb_info *info, void *arg) {
    struct operator_conn *c = arg;
    (void)input;
    if (info->n_added > 0 && c->state == IDLE)
        enter(c, UNFINISHED);
}

/* evhttp's objects stay evhttp's. */
static void forget(struct operator_conn *c) {
    evbuffer_remove_cb(bufferevent_get_input(c->bev), on_input, c);
    bufferevent_decref(c->bev);
    timer_stop(&c->deadline);
    list_remove(&c->link);
    free(c);
}

static void on_closed(struct evhttp_connection *evcon, void *arg) {
    (void)evcon;
    forget(arg);
}

/* From our own events only, never from inside a callback of evhttp's: then its connection may be
 * freed at any time, and on_closed is called. */
static void close_conn(struct operator_conn *c, enum metric counter) {
    metric_add(counter, 1);
    evhttp_connection_free(c->evcon);
}

static void on_deadline(void *arg) {
    struct operator_conn *c = arg;
    if (c->state != IDLE) /* that one ends as it should */
        metric_add(METRIC_OPERATORS_TIMEOUT, 1);
    evhttp_connection_free(c->evcon);
}

static void on_answered(struct evhttp_request *request, void *arg) {
    struct operator_conn *c = arg;
    (void)request;
    bool more = evbuffer_get_length(bufferevent_get_input(c->bev)) > 0;
    enter(c, more ? UNFINISHED : IDLE);
}

static struct operator_conn *find(struct operator_conns *s, const struct evhttp_connection *evcon) {
    for (enum conn_state state = 0; state < STATES; state++)
        list_each (at, &s->in[state]) {
            struct operator_conn *c = container_of(at, struct operator_conn, link);
            if (c->evcon == evcon)
                return c;
        }
    return NULL;
}

void operator_conns_answer(struct operator_conns *s, struct evhttp_request *request) {
    struct operator_conn *c = find(s, evhttp_request_get_connection(request));
    if (!c)
        return; /* not admitted yet; it keeps its first deadline */
    enter(c, ANSWERING);
    evhttp_request_set_on_complete_cb(request, on_answered, c);
}

/* ---- who makes room ---- */

static bool is_of(const struct operator_conn *c, const struct address *peer) {
    return !peer || span_equal(address_site(&c->peer), address_site(peer));
}

/* `peer` NULL: of everybody. */
static size_t count(const struct operator_conns *s, const struct address *peer) {
    size_t sum = 0;
    for (enum conn_state state = 0; state < STATES; state++)
        list_each (at, &s->in[state])
            sum += is_of(container_of(at, struct operator_conn, link), peer);
    return sum;
}

static struct operator_conn *oldest(const struct operator_conns *s, enum conn_state state,
                                    const struct address *peer) {
    list_each (at, &s->in[state]) {
        struct operator_conn *c = container_of(at, struct operator_conn, link);
        if (is_of(c, peer))
            return c;
    }
    return NULL;
}

/* 0: there is room now; more: in so many milliseconds; -1: there is none. */
static int64_t make_room(struct operator_conns *s, const struct address *peer) {
    static const enum conn_state order[] = {UNFINISHED, IDLE, ANSWERING};
    static const int64_t least_ms[STATES] = {[UNFINISHED] = GRACE_MS, [ANSWERING] = UNREAD_MS};
    bool site_is_full = count(s, peer) >= OPERATOR_CONNS_PER_SITE;
    if (!site_is_full && count(s, NULL) < s->max)
        return 0;
    int64_t now_ms = clock_mono_ms();
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        struct operator_conn *c = oldest(s, order[i], site_is_full ? peer : NULL);
        int64_t wait_ms = c ? c->since_ms + least_ms[c->state] - now_ms : -1;
        if (c && wait_ms > 0 && c->state == UNFINISHED)
            return wait_ms;
        if (!c || wait_ms > 0)
            continue;
        close_conn(c, METRIC_OPERATORS_EVICTED);
        return 0;
    }
    return -1;
}

/* ---- a new connection ---- */

/* All zeros if it cannot be told: those share one bound. */
static void read_peer(struct operator_conn *c) {
    char *text = NULL;
    ev_uint16_t port;
    evhttp_connection_get_peer(c->evcon, &text, &port);
    struct span host = span_of(text);
    const char *zone = host.len > 0 ? memchr(host.ptr, '%', host.len) : NULL;
    if (zone)
        host.len = (size_t)(zone - host.ptr);
    if (!address_parse(host, &c->peer))
        c->peer = (struct address){{0}};
}

/* False: evhttp has given it up already. Its argument for its own callbacks on the bufferevent is
 * its connection (in all of libevent 2.1), until it frees that. */
static bool set_up(struct operator_conn *c) {
    void *evcon = NULL;
    bufferevent_getcb(c->bev, NULL, NULL, NULL, &evcon);
    c->evcon = evcon;
    if (evcon)
        read_peer(c);
    return evcon != NULL;
}

/* From here on evhttp tells us when the connection ends. */
static void admit(struct operator_conn *c) {
    evhttp_connection_set_closecb(c->evcon, on_closed, c);
    enter(c, UNFINISHED);
}

static void on_admission(void *arg) {
    struct operator_conns *s = arg;
    struct operator_conn *c = s->newcomer;
    int64_t wait_ms = 0;
    if (!set_up(c)) {
        forget(c);
    } else if ((wait_ms = make_room(s, &c->peer)) > 0) {
        timer_start(&s->admission, wait_ms);
        return;
    } else {
        admit(c);
        if (wait_ms < 0)
            close_conn(c, METRIC_OPERATORS_REFUSED);
    }
    s->newcomer = NULL;
    evconnlistener_enable(s->listener);
}

/* evhttp asks for a bufferevent as soon as it has accepted a connection, and sets everything up
 * when it has it. It tells nobody of a connection before its first request. So this is where we
 * learn of one, and on_admission, which comes next in the same iteration of the loop, finds it set
 * up. The next one is accepted when this one has its place. */
static struct bufferevent *on_accepted(struct event_base *base, void *arg) {
    struct operator_conns *s = arg;
    struct operator_conn *c = must_zalloc(sizeof *c);
    c->conns = s;
    c->bev = bufferevent_socket_new(base, -1, 0);
    invariant(c->bev);
    bufferevent_incref(c->bev);
    bufferevent_setwatermark(c->bev, EV_READ, 0, INPUT_MAX);
    evbuffer_add_cb(bufferevent_get_input(c->bev), on_input, c);
    timer_init(&c->deadline, s->loop, on_deadline, c);
    list_init(&c->link);
    s->newcomer = c;
    evconnlistener_disable(s->listener);
    event_active(&s->admission.event, EV_TIMEOUT, 0);
    return c->bev;
}

static void on_rest_over(void *arg) {
    struct operator_conns *s = arg;
    evconnlistener_enable(s->listener);
}

/* Without descriptors libevent would try again at once, without end, with a log line each time. The
 * data port's listener has said what there is to say. */
static void on_accept_failed(struct evconnlistener *listener, void *http) {
    (void)http; /* the listener's argument is evhttp's */
    struct operator_conns *s = all;
    while (s->listener != listener)
        s = s->next;
    evconnlistener_disable(listener);
    timer_start(&s->rest, REST_MS);
}

/* ---- the whole ---- */

struct operator_conns *operator_conns_new(struct loop *loop, struct evhttp *http, int listen_fd,
                                          size_t max) {
    struct operator_conns *s = must_zalloc(sizeof *s);
    s->next = all;
    all = s;
    s->loop = loop;
    s->max = max;
    for (enum conn_state state = 0; state < STATES; state++)
        list_init(&s->in[state]);
    timer_init(&s->rest, loop, on_rest_over, s);
    timer_init(&s->admission, loop, on_admission, s);
    setsockopt(listen_fd, SOL_SOCKET, SO_SNDBUF, &(int){SEND_BUFFER}, sizeof(int));
    struct evhttp_bound_socket *bound = evhttp_accept_socket_with_handle(http, listen_fd);
    invariant(bound);
    s->listener = evhttp_bound_socket_get_listener(bound);
    evconnlistener_set_error_cb(s->listener, on_accept_failed);
    evhttp_set_bevcb(http, on_accepted, s);
    return s;
}

void operator_conns_free(struct operator_conns *s) {
    if (!s)
        return;
    if (s->newcomer)
        forget(s->newcomer);
    timer_stop(&s->admission);
    timer_stop(&s->rest);
    struct operator_conns **at = &all;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    free(s);
}
