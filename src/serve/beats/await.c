#include "serve/beats/await.h"

#include "base/metric.h"
#include "base/panic.h"

#include <stdlib.h>

enum { PATIENCE_MS = 1000 };

struct await {
    struct sending_waiter waiter;
    struct serve *serve;
    struct caller caller;
    struct timer patience;
    bool in_memory;
};

static void await_free(struct await *a) {
    timer_stop(&a->patience);
    caller_release(&a->caller);
    free(a);
}

static void acknowledge(struct await *a) {
    if (a->serve->redis)
        metric_add(a->in_memory ? METRIC_BEATS_ACK_MEMORY : METRIC_BEATS_ACK_DURABLE, 1);
    caller_answer_success(a->serve, &a->caller, a->in_memory);
}

static void on_verdict(struct sending_waiter *w, int verdict_status, const char *message) {
    struct await *a = container_of(w, struct await, waiter);
    if (verdict_status != 0)
        caller_refuse_verdict(a->serve, &a->caller, verdict_status, message);
    else
        acknowledge(a);
    await_free(a);
}

static void on_patience_over(void *arg) {
    struct await *a = arg;
    sending_forget(a->serve->sending, &a->waiter);
    acknowledge(a);
    await_free(a);
}

static void on_gone(void *arg) {
    struct await *a = arg;
    sending_forget(a->serve->sending, &a->waiter);
    await_free(a);
}

static void on_nothing(void *arg) {
    (void)arg;
}

static const struct exchange_watcher watcher = {on_gone, NULL, NULL};
static const struct exchange_watcher nobody = {on_nothing, NULL, NULL};

struct await *await_new(struct serve *s, struct caller *caller, bool in_memory) {
    struct await *a = must_zalloc(sizeof *a);
    a->waiter.done = on_verdict;
    a->serve = s;
    a->caller = *caller;
    a->in_memory = in_memory;
    *caller = (struct caller){0};
    timer_init(&a->patience, s->loop, on_patience_over, a);
    timer_start(&a->patience, PATIENCE_MS);
    exchange_watch(a->caller.x, &watcher, a);
    return a;
}

void await_cancel(struct await *a, struct caller *caller) {
    *caller = a->caller;
    a->caller = (struct caller){0};
    exchange_watch(caller->x, &nobody, NULL);
    await_free(a);
}

struct sending_waiter *await_waiter(struct await *a) {
    return &a->waiter;
}
