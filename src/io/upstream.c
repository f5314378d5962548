#include "io/upstream.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/metric.h"
#include "base/panic.h"
#include "base/secret.h"
#include "io/resolve.h"
#include "io/stream.h"

#include <stdlib.h>

enum {
    IDLE_HINT_S = 5, /* what Node advertises, assumed where no hint is given */
    IDLE_MARGIN_MS = 1000,
    IDLE_MAX_MS = 60000,
    IDLE_CONNECTIONS_MAX = 256,
    INTERIMS_MAX = 16,
    /* Repeated calls, in hundredths: each call earns a fifth of one, so that a controller that
     * drops all connections is not asked twice as much. */
    RETRY_COST = 100,
    RETRY_EARNED = 20,
    RETRY_SAVED_MAX = 10 * RETRY_COST,
};

enum link_state {
    LINK_RESOLVING,
    LINK_CONNECTING,
    LINK_HEAD, /* the request is out, the head of the answer is awaited */
    LINK_BODY,
    LINK_RAW, /* after a 101 */
    LINK_IDLE,
};

/* One connection to the controller. */
struct conn {
    struct stream stream;
    struct upstream *upstream;
    struct list link; /* in upstream->idle or ->busy */
    struct call *call;
    enum link_state state;
    bool used_before, got_bytes;
    bool pool_after;     /* the answer allows to use the connection again */
    int64_t idle_for_ms; /* from the Keep-Alive hint */
    int64_t idle_until_ms;
    size_t attempt; /* which of the name's addresses is tried, counted from the last good one */
    struct http_scan scan;
    struct http_chunks chunks;
    int interims; /* 1xx heads before this answer */
    bool chunked;
    int64_t left;  /* of Content-Length; -1: up to the close */
    struct str in; /* a part of a head */
    struct timer timer;
    enum err timeout_error;
};

struct call {
    struct upstream *upstream;
    struct conn *conn;
    const struct call_events *on;
    void *arg;
    struct str bytes; /* the whole request, until the answer begins */
    bool head_only, repeatable, upgrade, secret;
    bool sent, paused;
    int64_t timeout_ms;
};

struct upstream {
    struct loop *loop;
    struct upstream_options options;
    char *host;
    struct resolver *resolver;
    struct list idle; /* last used first */
    struct list busy;
    struct list dead;
    struct timer reaper;
    size_t idle_count, busy_count;
    size_t good_address;           /* the one that last accepted a connection */
    int retries;                   /* saved up, see RETRY_COST */
    struct http_response response; /* of the head being told */
    struct upstream *former;       /* whose last calls go on; owned */
    struct upstream *successor;    /* whose former this is: no new calls */
};

static void begin_call(struct call *call, bool fresh);

/* ---- ends ---- */

/* Its memory stays until the loop's next turn: we may be deep in its own callbacks, and there
 * `c->call == NULL` says that it ended. */
static void conn_end(struct conn *c) {
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
        free(container_of(at, struct conn, link));
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
static void conn_drop(struct conn *c) {
    c->call = NULL;
    if (c->state == LINK_RESOLVING)
        timer_stop(&c->timer);
    else
        conn_end(c);
}

static void forget_bytes(struct call *call) {
    if (call->secret && call->bytes.ptr)
        secret_cleanse(call->bytes.ptr, call->bytes.len);
    str_release(&call->bytes);
}

static void call_free(struct call *call) {
    forget_bytes(call);
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
static void conn_failed(struct conn *c, enum err error) {
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

static void watch_clock(struct conn *c, int64_t ms, enum err error) {
    c->timeout_error = error;
    timer_start(&c->timer, ms);
}

static void pool(struct conn *c) {
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
static void answer_over(struct conn *c) {
    struct call *call = c->call;
    pool(c);
    call_done(call, ERR_OK);
}

/* ---- the answer ---- */

static bool bodiless(const struct call *call, int status) {
    return call->head_only || status == 204 || status == 304;
}

static void plan_body(struct conn *c, const struct http_response *r) {
    c->chunked = r->chunked && !bodiless(c->call, r->status);
    c->chunks = (struct http_chunks){0};
    c->left = bodiless(c->call, r->status) ? 0 : r->content_length;
    bool framed = c->chunked || c->left >= 0;
    c->pool_after = r->keep_alive && framed;
    int64_t hint_ms = (r->keep_alive_s >= 0 ? r->keep_alive_s : IDLE_HINT_S) * (int64_t)1000;
    int64_t idle_ms = hint_ms - IDLE_MARGIN_MS;
    c->idle_for_ms = idle_ms > IDLE_MAX_MS ? IDLE_MAX_MS : idle_ms;
}

/* Each says whether the call is still there: it may be cancelled in its own callback. */
static bool tell_head(struct conn *c, const struct http_response *r) {
    struct call *call = c->call;
    forget_bytes(call);
    call->on->on_head(call->arg, r);
    return c->call != NULL;
}

static bool tell_body(struct conn *c, struct span bytes) {
    if (bytes.len > 0)
        c->call->on->on_body(c->call->arg, bytes);
    return c->call != NULL;
}

/* Removes the chunks' framing in place (what is left is never longer), so that one read is told
 * once. Returns false on bad framing. */
static bool dechunk(struct conn *c, char *bytes, size_t len, size_t *content, size_t *used,
                    bool *done) {
    *content = *used = 0;
    *done = false;
    while (*used < len && !*done) {
        struct span data;
        size_t step_used = 0;
        enum http_step step = http_chunks_next(
            &c->chunks, (struct span){bytes + *used, len - *used}, &step_used, &data);
        if (step == HTTP_BAD)
            return false;
        if (data.len > 0)
            memmove(bytes + *content, data.ptr, data.len);
        *content += data.len;
        *used += step_used;
        *done = step == HTTP_DONE;
    }
    return true;
}

static void end_with_rest(struct conn *c, size_t rest) {
    if (rest > 0)
        c->pool_after = false; /* bytes nobody asked for: never believe this connection again */
    answer_over(c);
}

static void take_chunked(struct conn *c, char *bytes, size_t len) {
    size_t content, used;
    bool done;
    if (!dechunk(c, bytes, len, &content, &used, &done)) {
        conn_failed(c, ERR_UPSTREAM_PROTOCOL);
        return;
    }
    if (tell_body(c, (struct span){bytes, content}) && done)
        end_with_rest(c, len - used);
}

static void take_counted(struct conn *c, char *bytes, size_t len) {
    size_t n = c->left >= 0 && (int64_t)len > c->left ? (size_t)c->left : len;
    if (c->left >= 0)
        c->left -= (int64_t)n;
    if (tell_body(c, (struct span){bytes, n}) && c->left == 0)
        end_with_rest(c, len - n);
}

static void take_body(struct conn *c, char *bytes, size_t len) {
    if (!c->call->paused)
        watch_clock(c, c->upstream->options.response_timeout_ms, ERR_UPSTREAM_TIMEOUT);
    if (c->chunked)
        take_chunked(c, bytes, len);
    else
        take_counted(c, bytes, len);
}

static void switch_protocols(struct conn *c, const struct http_response *r, char *rest,
                             size_t rest_len) {
    if (!c->call->upgrade) {
        conn_failed(c, ERR_UPSTREAM_PROTOCOL);
        return;
    }
    c->state = LINK_RAW;
    c->pool_after = false;
    timer_stop(&c->timer);
    stream_keep_alive(&c->stream);
    if (tell_head(c, r))
        (void)tell_body(c, (struct span){rest, rest_len});
}

static void take_head(struct conn *c, char *bytes, size_t head_len, size_t len) {
    const struct http_response *r = &c->upstream->response;
    if (r->status == 101) {
        switch_protocols(c, r, bytes + head_len, len - head_len);
        return;
    }
    plan_body(c, r);
    c->state = LINK_BODY;
    if (!tell_head(c, r))
        return;
    if (!c->chunked && c->left == 0)
        end_with_rest(c, len - head_len);
    else if (len > head_len)
        take_body(c, bytes + head_len, len - head_len);
    else if (!c->call->paused)
        watch_clock(c, c->upstream->options.response_timeout_ms, ERR_UPSTREAM_TIMEOUT);
}

static void await_rest(struct conn *c, const char *bytes, size_t len) {
    struct str old = c->in;
    str_init(&c->in, 2 * LOOP_SCRATCH);
    str_add(&c->in, (struct span){bytes, len});
    str_release(&old);
}

static void take_head_bytes(struct conn *c, char *bytes, size_t len) {
    for (;;) {
        size_t head_len = 0;
        enum err error;
        enum http_step found = http_scan(&c->scan, (struct span){bytes, len}, &head_len, &error);
        if (found == HTTP_BAD) {
            conn_failed(c, ERR_UPSTREAM_PROTOCOL);
            return;
        }
        if (found == HTTP_MORE) {
            await_rest(c, bytes, len);
            return;
        }
        struct http_response *r = &c->upstream->response;
        struct span head = {bytes + c->scan.start, head_len - c->scan.start};
        c->scan = (struct http_scan){0};
        bool fine = http_response_parse(head, r) == ERR_OK;
        bool interim = fine && r->status < 200 && r->status != 101;
        if (!fine || (interim && ++c->interims > INTERIMS_MAX)) {
            conn_failed(c, ERR_UPSTREAM_PROTOCOL);
            return;
        }
        if (!interim) {
            take_head(c, bytes, head_len, len);
            return;
        }
        bytes += head_len; /* 100 and 103: nobody here waits for them */
        len -= head_len;
    }
}

static void take_bytes(struct conn *c, char *bytes, size_t len) {
    switch (c->state) {
    case LINK_HEAD:
        if (c->in.len > 0) {
            str_add(&c->in, (struct span){bytes, len});
            struct str whole = c->in;
            str_init(&c->in, whole.max);
            take_head_bytes(c, whole.ptr, whole.len);
            str_release(&whole);
        } else {
            take_head_bytes(c, bytes, len);
        }
        return;
    case LINK_BODY:
        take_body(c, bytes, len);
        return;
    case LINK_RAW:
        (void)tell_body(c, (struct span){bytes, len});
        return;
    default: /* an idle connection has nothing to say */
        conn_failed(c, ERR_UPSTREAM_PROTOCOL);
    }
}

static void on_bytes(void *arg, char *bytes, size_t len) {
    struct conn *c = arg;
    struct call *call = c->call;
    c->got_bytes = true;
    take_bytes(c, bytes, len);
    bool more_to_come = call && c->call == call && c->state == LINK_BODY;
    if (more_to_come && call->on->on_turn) /* NOLINT(clang-analyzer-unix.Malloc) */
        call->on->on_turn(call->arg);
}

static void try_addresses(struct conn *c);

/* Over TLS an end that was not announced may be anybody's doing: no end of an answer. */
static bool ends_answer(const struct conn *c, enum stream_end end) {
    bool up_to_close = c->state == LINK_BODY && !c->chunked && c->left < 0;
    if (c->state == LINK_RAW)
        return end == STREAM_EOF || end == STREAM_TRUNCATED;
    return up_to_close && end == STREAM_EOF;
}

static void on_closed(void *arg, enum stream_end end) {
    struct conn *c = arg;
    if (ends_answer(c, end)) {
        c->pool_after = false;
        answer_over(c);
    } else if (c->stream.connecting) {
        stream_close(&c->stream);
        c->attempt++;
        try_addresses(c);
    } else if (end == STREAM_TLS_FAILED) {
        conn_failed(c, ERR_UPSTREAM_TLS);
    } else {
        conn_failed(c, c->state == LINK_CONNECTING ? ERR_UPSTREAM_CONNECT : ERR_UPSTREAM_CLOSED);
    }
}

static void on_drained(void *arg) {
    struct conn *c = arg;
    if (c->state == LINK_RAW && c->call->on->on_drained)
        c->call->on->on_drained(c->call->arg);
}

/* ---- the request ---- */

static void send_request(struct conn *c) {
    struct call *call = c->call;
    c->state = LINK_HEAD;
    c->scan = (struct http_scan){0};
    c->interims = 0;
    call->sent = true;
    watch_clock(c, call->timeout_ms, ERR_UPSTREAM_TIMEOUT);
    stream_write(&c->stream, &(struct span){call->bytes.ptr, call->bytes.len}, 1);
}

static void on_ready(void *arg) {
    struct conn *c = arg;
    c->upstream->good_address += c->attempt;
    c->attempt = 0;
    send_request(c);
}

static const struct stream_events conn_events = {on_ready, on_bytes, on_drained, on_closed};

static void on_timer(void *arg) {
    struct conn *c = arg;
    if (c->state == LINK_IDLE)
        conn_end(c);
    else
        conn_failed(c, c->timeout_error);
}

/* Trouble that is known at once is still told from the loop. */
static void fail_from_loop(struct conn *c, enum err error) {
    c->state = LINK_CONNECTING;
    watch_clock(c, 0, error);
}

static bool connect_to(struct conn *c, const struct resolved_address *to) {
    struct upstream *u = c->upstream;
    return stream_connect(&c->stream, u->loop, (const struct sockaddr *)&to->at, to->len,
                          u->options.tls, u->host, &conn_events, c);
}

/* From the address that was good the last time on, each once. */
static void on_resolved(void *arg, const struct resolved *found) {
    struct conn *c = arg;
    c->state = LINK_CONNECTING;
    if (!c->call) {
        conn_end(c);
        return;
    }
    for (; c->attempt < found->count; c->attempt++)
        if (connect_to(c, &found->address[(c->upstream->good_address + c->attempt) % found->count]))
            return;
    fail_from_loop(c, ERR_UPSTREAM_CONNECT);
}

static void try_addresses(struct conn *c) {
    c->state = LINK_RESOLVING;
    resolver_ask(c->upstream->resolver, on_resolved, c);
}

static struct conn *open_conn(struct upstream *u, struct call *call) {
    struct conn *c = must_zalloc(sizeof *c);
    c->upstream = u;
    c->call = call;
    c->stream.fd = -1;
    str_init(&c->in, 2 * LOOP_SCRATCH);
    timer_init(&c->timer, u->loop, on_timer, c);
    list_push_back(&u->busy, &c->link);
    u->busy_count++;
    metric_add(METRIC_UPSTREAM_CONNECTIONS, 1);
    call->conn = c;
    if (u->busy_count > u->options.max_connections) {
        fail_from_loop(c, ERR_OVERLOADED);
        return c;
    }
    watch_clock(c, u->options.connect_timeout_ms, ERR_UPSTREAM_CONNECT);
    try_addresses(c);
    return c;
}

static struct conn *take_idle(struct upstream *u) {
    if (list_empty(&u->idle))
        return NULL;
    struct conn *c = container_of(u->idle.next, struct conn, link);
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
    struct conn *c = fresh ? NULL : take_idle(u);
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
    call->timeout_ms =
        request->timeout_ms > 0 ? request->timeout_ms : u->options.response_timeout_ms;
    str_init(&call->bytes, request->head.len + request->body.len);
    str_reserve(&call->bytes, request->head.len + request->body.len);
    str_add(&call->bytes, request->head);
    str_add(&call->bytes, request->body);
    metric_add(METRIC_UPSTREAM_CALLS, 1);
    u->retries += u->retries < RETRY_SAVED_MAX ? RETRY_EARNED : 0;
    begin_call(call, false);
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
    timer_stop(&call->conn->timer);
    stream_pause(&call->conn->stream);
}

void call_resume(struct call *call) {
    if (!call->paused)
        return;
    call->paused = false;
    if (call->conn->state != LINK_RAW)
        watch_clock(call->conn, call->upstream->options.response_timeout_ms, ERR_UPSTREAM_TIMEOUT);
    stream_resume(&call->conn->stream);
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
        struct conn *c = container_of(u->busy.next, struct conn, link);
        struct call *call = c->call;
        conn_end(c);
        if (call)
            call_done(call, ERR_CANCELLED);
    }
    while (!list_empty(&u->idle))
        conn_end(container_of(u->idle.next, struct conn, link));
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
        conn_end(container_of(former->idle.next, struct conn, link));
    if (!timer_pending(&former->reaper))
        timer_start(&former->reaper, 0);
}

size_t upstream_busy(const struct upstream *u) {
    return u->busy_count + (u->former ? upstream_busy(u->former) : 0);
}
