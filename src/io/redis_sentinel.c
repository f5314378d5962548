#include "io/redis_sentinel.h"

#include "base/panic.h"

#include <hiredis/hiredis.h>

enum { PATIENCE_MS = 500 };

static void ask_current(struct redis_sentinels *s);

static void drop(struct redis_sentinels *s) {
    redis_link_close(&s->link);
    for (struct redis_pending *p; (p = redis_link_take(&s->link)) != NULL;)
        redis_pending_free(p);
}

static void tell(struct redis_sentinels *s, enum redis_trouble t, const struct redis_host *master) {
    s->asking = false;
    timer_stop(&s->patience);
    s->named(s->arg, t, master);
}

static void ask_next(struct redis_sentinels *s, enum redis_trouble t) {
    drop(s);
    s->current++;
    if (!s->asking)
        return;
    if (++s->tried < s->options->url->host_count)
        ask_current(s);
    else
        tell(s, t, NULL);
}

/* ---- one of them ---- */

static void on_master(struct redis_sentinels *s, const struct redis_reply *reply) {
    struct redis_host master = {.port = (int)redis_integer(redis_at(reply, 1))};
    struct span name = redis_text(redis_at(reply, 0));
    if (name.len == 0 || name.len >= sizeof master.name || master.port <= 0) {
        ask_next(s, REDIS_NO_MASTER);
        return;
    }
    memcpy(master.name, name.ptr, name.len);
    tell(s, REDIS_NONE, &master);
}

static void on_named(void *arg, const struct redis_reply *reply) {
    on_master(arg, reply);
}

static void on_agreed(void *arg, const struct redis_reply *reply) {
    (void)arg;
    (void)reply;
}

static void question(struct redis_sentinels *s) {
    redis_link_command(&s->link,
                       (struct span[]){SPAN("SENTINEL"), SPAN("GET-MASTER-ADDR-BY-NAME"),
                                       span_of(s->options->url->master)},
                       3, on_named, s);
}

static void on_ready(void *arg) {
    struct redis_sentinels *s = arg;
    struct span password = s->options->sentinel_password;
    if (password.len > 0)
        redis_link_command(&s->link, (struct span[]){SPAN("AUTH"), password}, 2, on_agreed, s);
    question(s);
}

static void on_reply(void *arg, struct redis_pending *p, const struct redisReply *reply) {
    struct redis_sentinels *s = arg;
    redis_done *done = p->done;
    redis_pending_free(p);
    if (reply->type == REDIS_REPLY_ERROR)
        ask_next(s, redis_error_name((struct span){reply->str, reply->len}));
    else
        done(s, (const struct redis_reply *)reply);
}

static void on_ended(void *arg, enum redis_trouble t) {
    ask_next(arg, t);
}

static void on_patience_over(void *arg) {
    struct redis_sentinels *s = arg;
    ask_next(s, s->blame);
}

/* ---- the way to it ---- */

/* What fails at once fails in the loop's next turn. */
static void be_patient(struct redis_sentinels *s, int64_t ms, enum redis_trouble blame) {
    s->blame = blame;
    timer_start(&s->patience, ms);
}

static void on_resolved(void *arg, const struct resolved *found) {
    struct redis_sentinels *s = arg;
    const struct redis_url *url = s->options->url;
    if (!s->asking || s->link.open)
        return; /* too late */
    if (found->count == 0 ||
        !redis_link_open(&s->link, (const struct sockaddr *)&found->address[0].at,
                         found->address[0].len, url->tls ? s->options->tls : NULL,
                         url->host[s->current % url->host_count].name, PATIENCE_MS))
        be_patient(s, 0, REDIS_UNREACHABLE);
}

static void ask_current(struct redis_sentinels *s) {
    const struct redis_url *url = s->options->url;
    const struct redis_host *host = &url->host[s->current % url->host_count];
    be_patient(s, PATIENCE_MS, REDIS_TIMEOUT);
    if (s->resolver)
        resolver_free(s->resolver);
    s->resolver = resolver_new(s->loop, host->name, host->port);
    resolver_ask(s->resolver, on_resolved, s);
}

/* ---- the whole ---- */

static const struct redis_link_events link_events = {on_ready, on_reply, on_ended};

void redis_sentinels_init(struct redis_sentinels *s, struct loop *loop,
                          const struct redis_options *options, redis_master_named *named,
                          void *arg) {
    *s = (struct redis_sentinels){.loop = loop, .options = options, .named = named, .arg = arg};
    redis_link_init(&s->link, loop, &link_events, s);
    timer_init(&s->patience, loop, on_patience_over, s);
}

void redis_sentinels_release(struct redis_sentinels *s) {
    s->asking = false;
    timer_stop(&s->patience);
    drop(s);
    redis_link_release(&s->link);
    if (s->resolver)
        resolver_free(s->resolver);
    s->resolver = NULL;
}

void redis_sentinels_ask(struct redis_sentinels *s) {
    if (s->asking)
        return;
    s->asking = true;
    s->tried = 0;
    if (!s->link.open) {
        ask_current(s);
        return;
    }
    be_patient(s, PATIENCE_MS, REDIS_TIMEOUT);
    question(s);
}
