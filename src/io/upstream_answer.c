/* The controller's answer, as its bytes arrive: heads that only announce, the head, the body
 * without its framing. */
#include "io/upstream_inside.h"

#include "base/clock.h"

#include <stdlib.h>

enum {
    IDLE_HINT_S = 5, /* what Node advertises, assumed where no hint is given */
    IDLE_MARGIN_MS = 1000,
    IDLE_MAX_MS = 60000,
    INTERIMS_MAX = 32, /* in a second; a long call may be kept alive by them as long as it takes */
};

static bool bodiless(const struct call *call, int status) {
    return call->head_only || status == 204 || status == 304;
}

static void plan_body(struct upstream_conn *c, const struct http_response *r) {
    c->chunked = r->chunked && !bodiless(c->call, r->status);
    c->chunks = (struct http_chunks){0};
    c->left = bodiless(c->call, r->status) ? 0 : r->content_length;
    bool framed = c->chunked || c->left >= 0;
    /* A server that did not switch may have given up reading there, as Node's does. */
    c->pool_after = r->keep_alive && framed && !c->call->upgrade;
    int64_t hint_ms = (r->keep_alive_s >= 0 ? r->keep_alive_s : IDLE_HINT_S) * (int64_t)1000;
    int64_t idle_ms = hint_ms - IDLE_MARGIN_MS;
    c->idle_for_ms = idle_ms > IDLE_MAX_MS ? IDLE_MAX_MS : idle_ms;
}

/* Each says whether the call is still there: it may be cancelled in its own callback. */
static bool tell_head(struct upstream_conn *c, const struct http_response *r) {
    struct call *call = c->call;
    upstream_forget_bytes(call);
    call->on->on_head(call->arg, r);
    return c->call != NULL;
}

static bool tell_body(struct upstream_conn *c, struct span bytes) {
    if (bytes.len > 0)
        c->call->on->on_body(c->call->arg, bytes);
    return c->call != NULL;
}

/* Removes the chunks' framing in place (what is left is never longer), so that one read is told
 * once. Returns false on bad framing. */
static bool dechunk(struct upstream_conn *c, char *bytes, size_t len, size_t *content, size_t *used,
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

static void end_with_rest(struct upstream_conn *c, size_t rest) {
    if (rest > 0)
        c->pool_after = false; /* bytes nobody asked for: never believe this connection again */
    upstream_answer_over(c);
}

static void take_chunked(struct upstream_conn *c, char *bytes, size_t len) {
    size_t content, used;
    bool done;
    if (!dechunk(c, bytes, len, &content, &used, &done)) {
        upstream_conn_failed(c, ERR_UPSTREAM_PROTOCOL);
        return;
    }
    if (tell_body(c, (struct span){bytes, content}) && done)
        end_with_rest(c, len - used);
}

static void take_counted(struct upstream_conn *c, char *bytes, size_t len) {
    size_t n = c->left >= 0 && (int64_t)len > c->left ? (size_t)c->left : len;
    if (c->left >= 0)
        c->left -= (int64_t)n;
    if (tell_body(c, (struct span){bytes, n}) && c->left == 0)
        end_with_rest(c, len - n);
}

static void take_body(struct upstream_conn *c, char *bytes, size_t len) {
    upstream_await_body(c);
    if (c->chunked)
        take_chunked(c, bytes, len);
    else
        take_counted(c, bytes, len);
}

static void switch_protocols(struct upstream_conn *c, const struct http_response *r, char *rest,
                             size_t rest_len) {
    if (!c->call->upgrade) {
        upstream_conn_failed(c, ERR_UPSTREAM_PROTOCOL);
        return;
    }
    c->state = LINK_RAW;
    c->pool_after = false;
    timer_stop(&c->timer);
    stream_keep_alive(&c->stream);
    if (tell_head(c, r))
        (void)tell_body(c, (struct span){rest, rest_len});
}

static void take_head(struct upstream_conn *c, char *bytes, size_t head_len, size_t len) {
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
    else
        upstream_await_body(c);
}

static void await_rest(struct upstream_conn *c, const char *bytes, size_t len) {
    struct str old = c->in;
    str_init(&c->in, 2 * LOOP_SCRATCH);
    str_add(&c->in, (struct span){bytes, len});
    str_release(&old);
}

static bool are_too_many(struct upstream_conn *c) {
    int64_t now_s = clock_mono_ms() / 1000;
    if (now_s != c->interims_s)
        c->interims = 0;
    c->interims_s = now_s;
    return ++c->interims > INTERIMS_MAX;
}

static void take_head_bytes(struct upstream_conn *c, char *bytes, size_t len) {
    for (;;) {
        size_t head_len = 0;
        enum err error;
        enum http_step found = http_scan(&c->scan, (struct span){bytes, len}, &head_len, &error);
        if (found == HTTP_BAD) {
            upstream_conn_failed(c, ERR_UPSTREAM_PROTOCOL);
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
        if (!fine || (interim && are_too_many(c))) {
            upstream_conn_failed(c, ERR_UPSTREAM_PROTOCOL);
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

void upstream_take_bytes(struct upstream_conn *c, char *bytes, size_t len) {
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
        upstream_conn_failed(c, ERR_UPSTREAM_PROTOCOL);
    }
}

/* Over TLS an end that was not announced may be anybody's doing: no end of an answer. */
bool upstream_ends_answer(const struct upstream_conn *c, enum stream_end end) {
    bool up_to_close = c->state == LINK_BODY && !c->chunked && c->left < 0;
    if (c->state == LINK_RAW)
        return end == STREAM_EOF || end == STREAM_TRUNCATED;
    return up_to_close && end == STREAM_EOF;
}
