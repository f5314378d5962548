#include "io/loop.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/panic.h"

#include <event2/event.h>
#include <openssl/bio.h>
#include <stdlib.h>

static void on_library_fatal(int code) {
    (void)code;
    panic(__FILE__, __LINE__, "libevent gave up");
}

static void on_library_log(int severity, const char *message) {
    if (severity >= EVENT_LOG_WARN)
        log_warn("libevent", F_TEXT("detail", message));
}

static struct event_base *make_base(void) {
    struct event_config *config = event_config_new();
    invariant(config);
    /* No EPOLL_USE_CHANGELIST: a request needs no epoll_ctl anyway, and the list would speak of
     * descriptors after they were closed, when another worker may have them. */
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    struct event_base *base = event_base_new_with_config(config);
    event_config_free(config);
    invariant(base);
    return base;
}

void loop_init(struct loop *loop) {
    event_set_fatal_callback(on_library_fatal);
    event_set_log_callback(on_library_log);
    *loop = (struct loop){.base = make_base(),
                          .cipher = must_alloc(LOOP_SCRATCH),
                          .plain = must_alloc(LOOP_SCRATCH),
                          .date_s = -1};
    enum { OUT_MAX = 16 << 20, TEXT_MAX = 1 << 20 };
    str_init(&loop->out, OUT_MAX);
    str_init(&loop->text, TEXT_MAX);
}

void loop_release(struct loop *loop) {
    event_base_free(loop->base);
    free(loop->cipher);
    free(loop->plain);
    str_release(&loop->out);
    str_release(&loop->text);
    BIO_free(loop->bio);
}

static _Thread_local const struct loop *running;

void loop_run(struct loop *loop) {
    running = loop;
    event_base_loop(loop->base, EVLOOP_NO_EXIT_ON_EMPTY);
    running = NULL;
}

bool loop_is_ours(const struct loop *loop) {
    return running == loop;
}

void loop_stop(struct loop *loop) {
    event_base_loopbreak(loop->base);
}

struct span loop_date(struct loop *loop) {
    int64_t now_ms = clock_wall_ms();
    if (now_ms / 1000 != loop->date_s) {
        loop->date_s = now_ms / 1000;
        clock_http(loop->date, now_ms);
    }
    return span_of(loop->date);
}

static void on_timer(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    struct timer *t = arg;
    t->call(t->arg);
}

void timer_init(struct timer *t, struct loop *loop, void (*call)(void *arg), void *arg) {
    *t = (struct timer){.call = call, .arg = arg};
    evtimer_assign(&t->event, loop->base, on_timer, t);
}

void timer_start(struct timer *t, int64_t ms) {
    if (ms < 0)
        ms = 0;
    struct timeval delay = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};
    evtimer_add(&t->event, &delay);
}

void timer_stop(struct timer *t) {
    evtimer_del(&t->event);
}

bool timer_pending(const struct timer *t) {
    return evtimer_pending(&t->event, NULL) != 0;
}
