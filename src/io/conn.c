#include "io/conn.h"

#include "base/clock.h"
#include "base/metric.h"
#include "base/panic.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>

/* ---- deadlines ---- */

/* One lazily re-armed timer: moving a deadline into the future costs nothing. */
static void arm(struct conn *c, int64_t now_ms, int64_t at_ms) {
    if (c->timer_at_ms != 0 && c->timer_at_ms <= at_ms)
        return;
    c->timer_at_ms = at_ms;
    timer_start(&c->timer, at_ms - now_ms);
}

void conn_enter(struct conn *c, enum conn_state state, int64_t deadline_ms) {
    c->state = state;
    c->deadline_ms = 0;
    if (deadline_ms == 0)
        return;
    int64_t now_ms = clock_mono_ms();
    c->deadline_ms = now_ms + deadline_ms;
    arm(c, now_ms, c->deadline_ms);
}

void conn_watch_stall(struct conn *c) {
    if (stream_unsent(&c->stream) == 0 || c->look_ms != 0)
        return;
    c->took_ms = clock_mono_ms();
    c->delivered = stream_delivered(&c->stream);
    c->look_ms = c->took_ms + STALL_LOOK_MS;
    arm(c, c->took_ms, c->look_ms);
}

/* Acknowledged bytes are what counts: our own kernel may have room for megabytes that a slow client
 * takes minutes for. */
static bool is_stalled(struct conn *c, int64_t now_ms) {
    uint64_t delivered = stream_delivered(&c->stream);
    if (delivered != c->delivered)
        c->took_ms = now_ms;
    c->delivered = delivered;
    c->look_ms = now_ms + STALL_LOOK_MS;
    return now_ms - c->took_ms >= STALL_MS;
}

/* ---- the end ---- */

void conn_account(struct conn *c) {
    size_t held = c->in.len + c->body.len + c->pending;
    if (held == c->accounted)
        return;
    atomic_fetch_add(&c->server->limits->body_buffered, (int64_t)held - (int64_t)c->accounted);
    c->accounted = held;
}

void conn_pend(struct conn *c, size_t body_len) {
    c->in_flight = true;
    c->pending = body_len;
    atomic_fetch_add(&c->server->limits->in_flight, 1);
    metric_add(METRIC_IN_FLIGHT, 1);
    list_remove(&c->stranger);
}

void conn_settle(struct conn *c) {
    if (!c->in_flight)
        return;
    c->in_flight = false;
    c->pending = 0;
    atomic_fetch_sub(&c->server->limits->in_flight, 1);
    metric_add(METRIC_IN_FLIGHT, -1);
    if (!c->vouched)
        list_push_back(&c->server->strangers, &c->stranger);
}

static void conn_free(struct conn *c) {
    struct server *s = c->server;
    conn_settle(c);
    str_release(&c->in);
    str_release(&c->body);
    conn_account(c);
    if (c->vouched)
        atomic_fetch_sub(&s->limits->vouched, 1);
    proxied_free(c->proxied);
    stream_close(&c->stream);
    timer_stop(&c->timer);
    list_remove(&c->stranger);
    list_remove(&c->ready);
    list_remove(&c->link);
    s->count--;
    atomic_fetch_sub(&s->limits->connections, 1);
    metric_add(METRIC_CONNECTIONS, -1);
    free(c);
}

void conn_lost(struct conn *c) {
    if ((c->state == CONN_BUSY || c->state == CONN_RAW) && c->x.watcher) {
        const struct exchange_watcher *watcher = c->x.watcher;
        void *arg = c->x.watcher_arg;
        c->x.watcher = NULL;
        metric_add(METRIC_CLIENTS_GONE, 1);
        watcher->on_gone(arg);
    }
    exchange_tell_end(c, EXCHANGE_LEFT);
    conn_free(c);
}

/* Closing at once would let the peer's unread bytes turn our last answer into a reset. The peer's
 * time begins when everything is sent. */
void conn_linger(struct conn *c) {
    str_release(&c->in);
    str_release(&c->body);
    conn_account(c);
    stream_shutdown(&c->stream);
    stream_resume(&c->stream);
    conn_enter(c, CONN_LINGER, stream_unsent(&c->stream) > 0 ? 0 : LINGER_MS);
    conn_watch_stall(c);
}

void conn_cut(struct conn *c) {
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(c->stream.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    str_release(&c->in);
    conn_settle(c);
    conn_account(c);
    c->cut = true;
    c->state = CONN_LINGER;
    int64_t now_ms = clock_mono_ms();
    c->deadline_ms = now_ms;
    arm(c, now_ms, now_ms);
}

/* ---- the next request ---- */

void conn_go_on(struct conn *c) {
    struct server *s = c->server;
    if (c->in.len == 0) {
        stream_resume(&c->stream);
        return;
    }
    list_remove(&c->ready);
    list_push_back(&s->ready, &c->ready);
    if (!timer_pending(&s->turn))
        timer_start(&s->turn, 0);
}

static void take_turn(struct conn *c) {
    stream_resume(&c->stream);
    reading_advance(c, SPAN_NONE);
}

void conn_turns(void *server) {
    struct server *s = server;
    struct list due = s->ready;
    if (list_empty(&s->ready))
        return;
    due.next->prev = due.prev->next = &due;
    list_init(&s->ready);
    while (!list_empty(&due)) {
        struct conn *c = container_of(due.next, struct conn, ready);
        list_remove(&c->ready);
        take_turn(c);
    }
}

/* ---- what the stream tells ---- */

void conn_last_chance(struct conn *c) {
    conn_enter(c, CONN_IDLE, LINGER_MS);
}

/* While draining a newcomer may still ask, but not think about it. */
static void begin_idle(struct conn *c) {
    conn_enter(c, CONN_IDLE, c->server->draining ? LINGER_MS : IDLE_MS);
}

static void on_ready(void *arg) {
    struct conn *c = arg;
    metric_add(stream_resumed(&c->stream) ? METRIC_TLS_RESUMED : METRIC_TLS_FULL, 1);
    begin_idle(c);
}

static void on_bytes(void *arg, char *bytes, size_t len) {
    struct conn *c = arg;
    struct span got = {bytes, len};
    if (c->state == CONN_RAW) {
        c->x.report.received += (int64_t)len;
        c->x.watcher->on_bytes(c->x.watcher_arg, got);
    } else if (c->state != CONN_LINGER && !c->drops)
        reading_advance(c, got);
}

static void on_drained(void *arg) {
    struct conn *c = arg;
    c->look_ms = 0;
    if (c->cut)
        return;
    if (c->state == CONN_LINGER && c->ended)
        conn_lost(c);
    else if (c->state == CONN_LINGER)
        conn_enter(c, CONN_LINGER, LINGER_MS);
    else if (c->state == CONN_IDLE)
        conn_go_on(c);
    else if ((c->state == CONN_BUSY || c->state == CONN_RAW) && c->x.watcher &&
             c->x.watcher->on_drained)
        c->x.watcher->on_drained(c->x.watcher_arg);
}

/* A client that has only finished sending still gets what was written. While its call is pending,
 * having finished means having left: nobody half-closes and waits, and the controller is spared. */
static void on_closed(void *arg, enum stream_end end) {
    struct conn *c = arg;
    if (end == STREAM_TLS_FAILED && c->state == CONN_HANDSHAKE)
        metric_add(METRIC_TLS_FAILED, 1);
    c->ended = true;
    bool finished = end == STREAM_EOF || end == STREAM_TRUNCATED;
    bool pending = c->state == CONN_BUSY || c->state == CONN_RAW;
    if (finished && !pending && !c->cut && stream_unsent(&c->stream) > 0)
        conn_linger(c);
    else
        conn_lost(c);
}

static const struct stream_events stream_events = {on_ready, on_bytes, on_drained, on_closed};

/* ---- what the clock tells ---- */

static void on_deadline(struct conn *c) {
    c->deadline_ms = 0;
    if (c->state == CONN_HANDSHAKE)
        metric_add(METRIC_TLS_FAILED, 1);
    metric_add(METRIC_REFUSED_PROXY, c->state == CONN_PROXY);
    if (c->state == CONN_HEAD || c->state == CONN_BODY)
        reading_refuse(c, ERR_REQUEST_TIMEOUT, NULL);
    else if (c->state == CONN_IDLE)
        conn_linger(c);
    else if (c->state == CONN_BUSY)
        reading_drop(c);
    else
        conn_lost(c);
}

static void on_timer(void *arg) {
    struct conn *c = arg;
    int64_t now_ms = clock_mono_ms();
    c->timer_at_ms = 0;
    if (c->look_ms != 0 && now_ms >= c->look_ms && is_stalled(c, now_ms)) {
        conn_lost(c);
        return;
    }
    if (c->look_ms != 0)
        arm(c, now_ms, c->look_ms);
    if (c->deadline_ms != 0 && now_ms < c->deadline_ms)
        arm(c, now_ms, c->deadline_ms);
    else if (c->deadline_ms != 0)
        on_deadline(c);
}

/* ---- the beginning ---- */

static void begin_stream(struct conn *c, int fd) {
    struct server *s = c->server;
    stream_accept(&c->stream, s->loop, fd, s->tls, &stream_events, c);
    if (s->tls)
        conn_enter(c, CONN_HANDSHAKE, HANDSHAKE_MS);
    else
        begin_idle(c);
}

static void on_proxied(void *arg, const struct proxy_protocol *said) {
    struct conn *c = arg;
    if (!said) {
        metric_add(METRIC_REFUSED_PROXY, 1);
        conn_lost(c);
        return;
    }
    if (!said->local)
        c->peer = said->source;
    int fd = proxied_take(c->proxied);
    c->proxied = NULL;
    begin_stream(c, fd);
}

void conn_new(struct server *s, int fd, const struct address *peer) {
    struct conn *c = must_zalloc(sizeof *c);
    /* What `in` can hold at once: a head, the largest forward.max_body, and one read. */
    enum { IN_MAX = HTTP_HEAD_MAX + (64 << 20) + LOOP_SCRATCH + WAITING_MAX };
    c->server = s;
    c->peer = *peer;
    c->stream.fd = -1;
    str_init(&c->in, IN_MAX);
    timer_init(&c->timer, s->loop, on_timer, c);
    list_init(&c->ready);
    list_push_back(&s->strangers, &c->stranger);
    list_push_back(&s->conns, &c->link);
    s->count++;
    metric_add(METRIC_CONNECTIONS, 1);
    metric_add(METRIC_CONNECTIONS_ACCEPTED, 1);
    if (!s->limits->proxy_protocol) {
        begin_stream(c, fd);
        return;
    }
    c->proxied = proxied_new(s->loop, fd, on_proxied, c);
    conn_enter(c, CONN_PROXY, PROXY_MS);
}
