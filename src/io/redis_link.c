#include "io/redis_link.h"

#include "base/clock.h"
#include "base/metric.h"
#include "base/panic.h"
#include "base/secret.h"
#include "rules/redis/resp.h"

#include <event2/event.h>
#include <hiredis/hiredis.h>
#include <stdlib.h>

enum { OUT_KEEP = 262144 };

static struct redis_pending *pending_new(size_t text_max, redis_done *done, void *arg) {
    struct redis_pending *p = must_alloc(sizeof *p + text_max);
    *p = (struct redis_pending){.script = -1, .done = done, .arg = arg};
    list_init(&p->link);
    return p;
}

void redis_pending_free(struct redis_pending *p) {
    free(p);
}

/* ---- out ---- */

/* Everything asked for in this turn of the loop, in one write. */
static void on_flush(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    struct redis_link *l = arg;
    if (!l->open || !l->ready || l->out.len == 0)
        return;
    metric_add(METRIC_REDIS_SENDS, 1);
    stream_write(&l->stream, &(struct span){l->out.ptr, l->out.len}, 1);
    secret_cleanse(l->out.ptr, l->out.len); /* AUTH is among it */
    if (l->out.cap > OUT_KEEP)
        str_release(&l->out);
    str_clear(&l->out);
}

/* Before its bytes are added. */
static void expect_reply(struct redis_link *l, struct redis_pending *p) {
    p->since_ms = clock_mono_ms();
    list_push_back(&l->pending, &p->link);
    l->count++;
    if (l->out.len == 0)
        event_active(&l->flush, 0, 1);
    if (!timer_pending(&l->deadline))
        timer_start(&l->deadline, l->timeout_ms);
    metric_add(METRIC_REDIS_COMMANDS, 1);
}

void redis_link_command(struct redis_link *l, const struct span *words, size_t count,
                        redis_done *done, void *arg) {
    expect_reply(l, pending_new(0, done, arg));
    resp_add_command(&l->out, words, count);
}

void redis_link_script(struct redis_link *l, int script, const struct span *words, size_t count,
                       redis_done *done, void *arg) {
    struct str text;
    size_t max = resp_command_max(words, count);
    struct redis_pending *p = pending_new(max, done, arg);
    str_init_fixed(&text, p->text, max);
    resp_add_command(&text, words, count);
    p->script = script;
    p->text_len = text.len;
    redis_link_send(l, str_span(&text), p);
}

void redis_link_send(struct redis_link *l, struct span command, struct redis_pending *p) {
    expect_reply(l, p);
    str_add(&l->out, command);
}

size_t redis_link_unsent(const struct redis_link *l) {
    return l->out.len + (l->open ? stream_unsent(&l->stream) : 0);
}

/* ---- in ---- */

struct redis_pending *redis_link_take(struct redis_link *l) {
    if (list_empty(&l->pending))
        return NULL;
    struct redis_pending *p = container_of(l->pending.next, struct redis_pending, link);
    list_remove(&p->link);
    l->count--;
    return p;
}

static int64_t oldest_ms(const struct redis_link *l) {
    return container_of(l->pending.next, struct redis_pending, link)->since_ms;
}

int64_t redis_link_lag_ms(const struct redis_link *l) {
    return list_empty(&l->pending) ? 0 : clock_mono_ms() - oldest_ms(l);
}

/* Replies come in order, so the oldest command's deadline is the connection's. */
static void on_deadline(void *arg) {
    struct redis_link *l = arg;
    if (list_empty(&l->pending))
        return;
    int64_t left_ms = oldest_ms(l) + l->timeout_ms - clock_mono_ms();
    if (left_ms > 0)
        timer_start(&l->deadline, left_ms);
    else
        l->on->on_ended(l->arg, REDIS_TIMEOUT);
}

static void on_ready(void *arg) {
    struct redis_link *l = arg;
    l->ready = true;
    if (l->out.len > 0)
        event_active(&l->flush, 0, 1);
    l->on->on_ready(l->arg);
}

/* Returns whether there may be another. */
static bool tell_reply(struct redis_link *l) {
    void *reply = NULL;
    if (redisReaderGetReply(l->reader, &reply) != REDIS_OK) {
        l->on->on_ended(l->arg, REDIS_PROTOCOL);
        return false;
    }
    if (!reply)
        return false;
    struct redis_pending *p = redis_link_take(l);
    if (p)
        l->on->on_reply(l->arg, p, reply);
    else
        l->on->on_ended(l->arg, REDIS_PROTOCOL); /* it answers what nobody asked */
    freeReplyObject(reply);
    return l->open;
}

static void on_bytes(void *arg, char *bytes, size_t len) {
    struct redis_link *l = arg;
    enum redis_trouble t = reply_limit_take(&l->limit, (struct span){bytes, len});
    if (t == REDIS_NONE && redisReaderFeed(l->reader, bytes, len) != REDIS_OK)
        t = REDIS_PROTOCOL;
    if (t != REDIS_NONE) {
        l->on->on_ended(l->arg, t);
        return;
    }
    while (tell_reply(l))
        ;
}

static void on_drained(void *arg) {
    (void)arg;
}

static void on_closed(void *arg, enum stream_end end) {
    struct redis_link *l = arg;
    enum redis_trouble trouble = end == STREAM_TLS_FAILED ? REDIS_TLS
                                 : l->ready               ? REDIS_CLOSED
                                                          : REDIS_UNREACHABLE;
    l->on->on_ended(l->arg, trouble);
}

static const struct stream_events stream_events = {on_ready, on_bytes, on_drained, on_closed};

/* ---- life ---- */

void redis_link_init(struct redis_link *l, struct loop *loop, const struct redis_link_events *on,
                     void *arg) {
    *l = (struct redis_link){.loop = loop, .on = on, .arg = arg};
    list_init(&l->pending);
    str_init(&l->out, REDIS_PENDING_BYTES * 2);
    timer_init(&l->deadline, loop, on_deadline, l);
    event_assign(&l->flush, loop->base, -1, 0, on_flush, l);
}

void redis_link_release(struct redis_link *l) {
    redis_link_close(l);
    list_each_safe (at, &l->pending)
        redis_pending_free(container_of(at, struct redis_pending, link));
    list_init(&l->pending);
    str_release(&l->out);
}

bool redis_link_open(struct redis_link *l, const struct sockaddr *address, unsigned int address_len,
                     SSL_CTX *tls, const char *host, int64_t timeout_ms) {
    l->timeout_ms = timeout_ms;
    l->ready = false;
    l->open =
        stream_connect(&l->stream, l->loop, address, address_len, tls, host, &stream_events, l);
    l->limit = (struct reply_limit){0};
    if (l->open)
        l->reader = redisReaderCreate();
    return l->open;
}

/* The reader is freed in a turn of its own when a reply of it is still being told: tell_reply holds
 * that reply, not the reader, so it may go at once. */
void redis_link_close(struct redis_link *l) {
    timer_stop(&l->deadline);
    event_del(&l->flush);
    str_clear(&l->out);
    if (!l->open)
        return;
    l->open = l->ready = false;
    stream_close(&l->stream);
    redisReaderFree(l->reader);
    l->reader = NULL;
}
