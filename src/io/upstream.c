#include "io/upstream_inside.h"

#include "base/clock.h"
#include "base/metric.h"
#include "base/panic.h"
#include "base/secret.h"
#include "io/resolve.h"

#include <errno.h>
#include <stdlib.h>

enum {
    IDLE_CONNECTIONS_MAX = 256,
    /* Repeated calls, in hundredths: each call earns a fifth of one, so that a controller that
     * drops all connections is not asked twice as much. */
    RETRY_COST = 100,
    RETRY_EARNED = 20,
    RETRY_SAVED_MAX = 10 * RETRY_COST,
};

static void begin_call(struct call *call, bool fresh);

/* ---- ends ---- */

/* Its memory stays until the loop's next turn: we may be deep in its own callbacks, and there
 * `c->call == NULL` says that it ended. */
static void conn_end(struct upstream_conn *c) {
    struct upstream *u = c->upstream;
    if (c->state == LINK_IDLE)
        u->idle_count--;
    else
        u->busy_count--;
    c->call = NULL;
    timer_stop(&c->timer);
    stream_close(&c->stream);
    str_release(&c->in);
    metric_add(METRIC_UPSTREAM_CONNECTIONS, -1);
    list_remove(&c->link);
    list_push_back(&u->dead, &c->link);
    if (!timer_pending(&u->reaper))
        timer_start(&u->reaper, 0);
}

static void bury(struct upstream *u) {
    list_each_safe (at, &u->dead)
        free(container_of(at, struct upstream_conn, link));
    list_init(&u->dead);
}

static void leave_to_successor(struct upstream *u);

static void reap(void *arg) {
    struct upstream *u = arg;
    bury(u);
    if (u->successor && u->busy_count == 0)
        leave_to_successor(u);
}

/* The resolver may still hold a connection whose call was cancelled. */
static void conn_drop(struct upstream_conn *c) {
    c->call = NULL;
    if (c->state == LINK_RESOLVING)
        timer_stop(&c->timer);
    else
        conn_end(c);
}

void upstream_forget_bytes(struct call *call) {
    if (call->secret && call->bytes.ptr)
        secret_cleanse(call->bytes.ptr, call->bytes.len);
    str_release(&call->bytes);
}

static void call_free(struct call *call) {
    upstream_forget_bytes(call);
    free(call);
}

static void call_done(struct call *call, enum err error) {
    const struct call_events *on = call->on;
    void *arg = call->arg;
    if (error != ERR_OK && error != ERR_CANCELLED)
        metric_add(METRIC_UPSTREAM_FAILED, 1);
    call_free(call);
    on->on_done(arg, error);
}

/* The connection failed its call: once more on a new one, or tell. */
void upstream_conn_failed(struct upstream_conn *c, enum err error) {
    struct call *call = c->call;
    bool lost_race = c->used_before && !c->got_bytes && error == ERR_UPSTREAM_CLOSED;
    struct upstream *u = c->upstream;
    conn_drop(c);
    if (!call)
        return;
    call->conn = NULL;
    if (!lost_race || !call->repeatable || u->retries < RETRY_COST) {
        call_done(call, error);
        return;
    }
    u->retries -= RETRY_COST;
    metric_add(METRIC_UPSTREAM_RETRIED, 1);
    begin_call(call, true);
}

void upstream_watch_clock(struct upstream_conn *c, int64_t ms, enum err error) {
    c->timeout_error = error;
    timer_start(&c->timer, ms);
}

void upstream_await_body(struct upstream_conn *c) {
    if (c->call->paused || c->call->is_whole)
        return; /* the clock goes on since the request was sent */
    if (c->call->is_untimed)
        timer_stop(&c->timer);
    else
        upstream_watch_clock(c, c->upstream->options.response_timeout_ms, ERR_UPSTREAM_TIMEOUT);
}

static void pool(struct upstream_conn *c) {
    struct upstream *u = c->upstream;
    c->call = NULL;
    /* An answer before the whole request was taken: what will it make of the rest? */
    bool fine = c->pool_after && stream_unsent(&c->stream) == 0 && !u->successor;
    if (!fine || u->idle_count >= IDLE_CONNECTIONS_MAX || c->idle_for_ms <= 0) {
        conn_end(c);
        return;
    }
    stream_resume(&c->stream); /* a slow client may have paused it on the last bytes */
    list_remove(&c->link);
    list_push_front(&u->idle, &c->link);
    u->busy_count--;
    u->idle_count++;
    c->state = LINK_IDLE;
    c->used_before = true;
    c->got_bytes = false;
    c->idle_until_ms = clock_mono_ms() + c->idle_for_ms;
    timer_start(&c->timer, c->idle_for_ms);
}

/* The answer is complete. The connection is put back first: on_done may make the next call. */
void upstream_answer_over(struct upstream_conn *c) {
    struct call *call = c->call;
    pool(c);
    call_done(call, ERR_OK);
}

static void on_bytes(void *arg, char *bytes, size_t len) {
    struct upstream_conn *c = arg;
    struct call *call = c->call;
    c->got_bytes = true;
    upstream_take_bytes(c, bytes, len);
    bool more_to_come = call && c->call == call && c->state == LINK_BODY;
    if (more_to_come && call->on->on_turn) /* NOLINT(clang-analyzer-unix.Malloc) */
        call->on->on_turn(call->arg);
}

static void try_addresses(struct upstream_conn *c);

static void on_closed(void *arg, enum stream_end end) {
    struct upstream_conn *c = arg;
    if (upstream_ends_answer(c, end)) {
        c->pool_after = false;
        upstream_answer_over(c);
    } else if (c->stream.connecting) {
        stream_close(&c->stream);
        c->was_refused = true;
        c->attempt++;
        try_addresses(c);
    } else if (end == STREAM_TLS_FAILED && c->state == LINK_CONNECTING) {
        upstream_conn_failed(c, ERR_UPSTREAM_TLS);
    } else {
        upstream_conn_failed(c, c->state == LINK_CONNECTING ? ERR_UPSTREAM_CONNECT
                                                            : ERR_UPSTREAM_CLOSED);
    }
}

static void on_drained(void *arg) {
    struct upstream_conn *c = arg;
    if (c->state == LINK_RAW && c->call->on->on_drained)
        c->call->on->on_drained(c->call->arg);
}

/* ---- the request ---- */

static void send_request(struct upstream_conn *c) {
    struct call *call = c->call;
    c->state = LINK_HEAD;
    c->scan = (struct http_scan){0};
    c->interims = 0;
    call->sent = true;
    upstream_watch_clock(c, call->timeout_ms, ERR_UPSTREAM_TIMEOUT);
    stream_write(&c->stream, &(struct span){call->bytes.ptr, call->bytes.len}, 1);
}

static void on_ready(void *arg) {
    struct upstream_conn *c = arg;
    c->upstream->good_address += c->attempt;
    c->attempt = 0;
    send_request(c);
}

static const struct stream_events conn_events = {on_ready, on_bytes, on_drained, on_closed};

static void on_timer(void *arg) {
    struct upstream_conn *c = arg;
    if (c->state == LINK_IDLE)
        conn_end(c);
    else
        upstream_conn_failed(c, c->timeout_error);
}

/* Trouble that is known at once is still told from the loop. */
static void fail_from_loop(struct upstream_conn *c, enum err error) {
    c->state = LINK_CONNECTING;
    upstream_watch_clock(c, 0, error);
}

static bool connect_to(struct upstream_conn *c, const struct resolved_address *to) {
    struct upstream *u = c->upstream;
    return stream_connect(&c->stream, u->loop, (const struct sockaddr *)&to->at, to->len,
                          u->options.tls, u->host, &conn_events, c);
}

/* What we lack ourselves says nothing about the controller. */
static bool is_own_shortage(int error) {
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM ||
           error == EADDRNOTAVAIL;
}

/* From the address that was good the last time on, each once. */
static void on_resolved(void *arg, const struct resolved *found) {
    struct upstream_conn *c = arg;
    c->state = LINK_CONNECTING;
    if (!c->call) {
        conn_end(c);
        return;
    }
    for (; c->attempt < found->count; c->attempt++) {
        if (connect_to(c, &found->address[(c->upstream->good_address + c->attempt) % found->count]))
            return;
        c->was_refused |= !is_own_shortage(errno);
    }
    bool is_ours = found->count > 0 && !c->was_refused;
    fail_from_loop(c, is_ours ? ERR_OVERLOADED : ERR_UPSTREAM_CONNECT);
}

static void try_addresses(struct upstream_conn *c) {
    c->state = LINK_RESOLVING;
    resolver_ask(c->upstream->resolver, on_resolved, c);
}

/* The one that was used longest ago makes room. */
static void close_surplus(struct upstream *u) {
    while (!list_empty(&u->idle) && upstream_busy(u) + u->idle_count > u->options.max_connections)
        conn_end(container_of(u->idle.prev, struct upstream_conn, link));
}

static struct upstream_conn *open_conn(struct upstream *u, struct call *call) {
    struct upstream_conn *c = must_zalloc(sizeof *c);
    c->upstream = u;
    c->call = call;
    c->stream.fd = -1;
    str_init(&c->in, 2 * LOOP_SCRATCH);
    timer_init(&c->timer, u->loop, on_timer, c);
    list_push_back(&u->busy, &c->link);
    u->busy_count++;
    metric_add(METRIC_UPSTREAM_CONNECTIONS, 1);
    call->conn = c;
    close_surplus(u);
    if (upstream_busy(u) > u->options.max_connections + call->is_probe) {
        fail_from_loop(c, ERR_OVERLOADED);
        return c;
    }
    upstream_watch_clock(c, u->options.connect_timeout_ms, ERR_UPSTREAM_CONNECT);
    try_addresses(c);
    return c;
}

static struct upstream_conn *take_idle(struct upstream *u) {
    if (list_empty(&u->idle))
        return NULL;
    struct upstream_conn *c = container_of(u->idle.next, struct upstream_conn, link);
    if (clock_mono_ms() >= c->idle_until_ms)
        return NULL; /* the timer is about to close it, and those behind it are older */
    list_remove(&c->link);
    list_push_back(&u->busy, &c->link);
    u->idle_count--;
    u->busy_count++;
    return c;
}

static void begin_call(struct call *call, bool fresh) {
    struct upstream *u = call->upstream;
    struct upstream_conn *c = fresh ? NULL : take_idle(u);
    if (!c) {
        open_conn(u, call);
        return;
    }
    c->call = call;
    call->conn = c;
    send_request(c);
}

struct call *upstream_call(struct upstream *u, const struct call_request *request,
                           const struct call_events *on, void *arg) {
    struct call *call = must_zalloc(sizeof *call);
    call->upstream = u;
    call->on = on;
    call->arg = arg;
    call->head_only = request->head_only;
    call->repeatable = request->repeatable;
    call->upgrade = request->upgrade;
    call->secret = request->secret;
    call->is_probe = request->is_probe;
    call->is_whole = request->is_whole;
    call->timeout_ms =
        request->timeout_ms > 0 ? request->timeout_ms : u->options.response_timeout_ms;
    str_init(&call->bytes, request->head.len + request->body.len);
    str_reserve(&call->bytes, request->head.len + request->body.len);
    str_add(&call->bytes, request->head);
    str_add(&call->bytes, request->body);
    metric_add(METRIC_UPSTREAM_CALLS, 1);
    u->retries += u->retries < RETRY_SAVED_MAX ? RETRY_EARNED : 0;
    begin_call(call, call->upgrade);
    return call;
}

void call_cancel(struct call *call) {
    conn_drop(call->conn);
    call_free(call);
}

bool call_was_sent(const struct call *call) {
    return call->sent;
}

void call_pause(struct call *call) {
    if (call->paused)
        return;
    call->paused = true;
    if (!call->is_whole)
        timer_stop(&call->conn->timer);
    stream_pause(&call->conn->stream);
}

void call_resume(struct call *call) {
    if (!call->paused)
        return;
    call->paused = false;
    if (call->conn->state != LINK_RAW)
        upstream_await_body(call->conn);
    stream_resume(&call->conn->stream);
}

void call_lift_body_timeout(struct call *call) {
    call->is_untimed = true;
    stream_keep_alive(&call->conn->stream);
}

void call_write(struct call *call, struct span bytes) {
    stream_write(&call->conn->stream, &bytes, 1);
}

size_t call_unsent(const struct call *call) {
    return stream_unsent(&call->conn->stream);
}

/* ---- life ---- */

struct upstream *upstream_new(struct loop *loop, const struct upstream_options *options) {
    struct upstream *u = must_zalloc(sizeof *u);
    u->loop = loop;
    u->options = *options;
    u->host = must_strdup(options->host);
    u->retries = RETRY_SAVED_MAX;
    if (options->tls)
        SSL_CTX_up_ref(options->tls);
    u->resolver = resolver_new(loop, u->host, options->port);
    list_init(&u->idle);
    list_init(&u->busy);
    list_init(&u->dead);
    timer_init(&u->reaper, loop, reap, u);
    return u;
}

void upstream_free(struct upstream *u) {
    if (u->former)
        upstream_free(u->former);
    while (!list_empty(&u->busy)) {
        struct upstream_conn *c = container_of(u->busy.next, struct upstream_conn, link);
        struct call *call = c->call;
        conn_end(c);
        if (call)
            call_done(call, ERR_CANCELLED);
    }
    while (!list_empty(&u->idle))
        conn_end(container_of(u->idle.next, struct upstream_conn, link));
    timer_stop(&u->reaper);
    bury(u);
    resolver_free(u->resolver);
    SSL_CTX_free(u->options.tls);
    free(u->host);
    free(u);
}

static void leave_to_successor(struct upstream *u) {
    u->successor->former = u->former;
    if (u->former)
        u->former->successor = u->successor;
    u->former = NULL;
    upstream_free(u);
}

void upstream_succeed(struct upstream *u, struct upstream *former) {
    u->former = former;
    former->successor = u;
    while (!list_empty(&former->idle))
        conn_end(container_of(former->idle.next, struct upstream_conn, link));
    if (!timer_pending(&former->reaper))
        timer_start(&former->reaper, 0);
}

size_t upstream_busy(const struct upstream *u) {
    return u->busy_count + (u->former ? upstream_busy(u->former) : 0);
}
