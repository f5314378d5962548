#include "serve/connect/refresh.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/panic.h"
#include "io/vault.h"
#include "rules/gate/limit.h"
#include "serve/gate/admission.h"

#include <stdatomic.h>
#include <stdlib.h>

enum {
    BODY_MAX = 512,     /* {"secret":"<64 hex digits>"} has 77 */
    LOOK_AGAIN_MS = 50, /* there is no place for a connect just now */
};

/* In locked memory. */
struct slot {
    struct grant_pass pass;
    int64_t since_ms;
    size_t body_len;
    char body[BODY_MAX];
};

struct refresh {
    struct serve *serve;
    refresh_go *go;
    struct vault *vault;
    struct timer timer;
    struct slot **queue; /* a ring, oldest at `first` */
    size_t size, first, count;
};

static struct limit rate_of(const struct serve *s) {
    const struct config *config = s->shared->config;
    return limit_per_second(config->connect_cache.refresh_rate,
                            config->connect_cache.refresh_burst);
}

bool refresh_take_place(struct serve *s) {
    struct limit rate = rate_of(s);
    return admission_has_room(s, GATE_CONNECT) &&
           limit_take_shared(&s->shared->refresh_arrival_us, &rate, clock_mono_us());
}

static int64_t wait_ms(struct serve *s) {
    struct limit rate = rate_of(s);
    int64_t pause_ms = admission_pause_ms(s->shared);
    if (pause_ms > 0)
        return pause_ms;
    int64_t wait_us =
        limit_wait_us(atomic_load(&s->shared->refresh_arrival_us), &rate, clock_mono_us());
    /* At its rate, and not before the storm has left a place: those who wait go first. */
    return wait_us > 0 ? (wait_us + 999) / 1000 : LOOK_AGAIN_MS;
}

/* Its secret is kept no longer, however long the controller is to be left alone. */
static int64_t patience_ms(const struct slot *slot) {
    int64_t left_ms = slot->since_ms + REFRESH_WAIT_MS + 1 - clock_mono_ms();
    return left_ms > 0 ? left_ms : 0;
}

static void set_alarm(struct refresh *r) {
    if (r->count == 0 || timer_pending(&r->timer))
        return;
    int64_t turn_ms = wait_ms(r->serve), over_ms = patience_ms(r->queue[r->first]);
    timer_start(&r->timer, turn_ms < over_ms ? turn_ms : over_ms);
}

void refresh_want(struct refresh *r, struct agent *agent, const struct grant_pass *pass,
                  struct span body) {
    if (agent->refreshing)
        return;
    struct slot *slot = body.len <= BODY_MAX && r->count < r->size ? vault_take(r->vault) : NULL;
    if (!slot) {
        metric_add(METRIC_REFRESH_DROPPED, 1);
        return;
    }
    agent->refreshing = true;
    slot->pass = *pass;
    slot->since_ms = clock_mono_ms();
    slot->body_len = body.len;
    memcpy(slot->body, body.ptr, body.len);
    r->queue[(r->first + r->count++) % r->size] = slot;
    set_alarm(r);
}

static struct slot *take_oldest(struct refresh *r) {
    struct slot *slot = r->queue[r->first];
    r->first = (r->first + 1) % r->size;
    r->count--;
    return slot;
}

static bool is_late(const struct slot *slot) {
    return clock_mono_ms() - slot->since_ms > REFRESH_WAIT_MS;
}

/* The agent may want another. */
static void let_go(struct refresh *r, const struct slot *slot) {
    struct agents *agents = r->serve->shared->agents;
    struct agent *agent = agents_lock(agents, &slot->pass.id, true);
    agent->refreshing = false;
    agents_unlock(agents, agent);
}

static void take_one(struct refresh *r, bool in_time) {
    struct slot *slot = take_oldest(r);
    if (in_time)
        r->go(r->serve, &slot->pass, (struct span){slot->body, slot->body_len});
    metric_add(in_time ? METRIC_REFRESH_SENT : METRIC_REFRESH_DROPPED, 1);
    let_go(r, slot);
    vault_give(r->vault, slot);
}

static void on_alarm(void *arg) {
    struct refresh *r = arg;
    bool draining = atomic_load(&r->serve->shared->draining);
    while (r->count > 0 && (draining || is_late(r->queue[r->first])))
        take_one(r, false);
    while (r->count > 0 && refresh_take_place(r->serve))
        take_one(r, true);
    set_alarm(r);
}

struct refresh *refresh_new(struct serve *s, refresh_go *go) {
    struct refresh *r = must_zalloc(sizeof *r);
    r->serve = s;
    r->go = go;
    size_t wanted = (REFRESH_SLOTS + s->shared->worker_count - 1) / s->shared->worker_count;
    r->vault = vault_new(wanted, sizeof(struct slot));
    r->size = vault_slots(r->vault);
    r->queue = must_zalloc((r->size + 1) * sizeof(struct slot *));
    timer_init(&r->timer, s->loop, on_alarm, r);
    if (r->size < wanted)
        log_warn("less locked memory than wanted for waiting refreshes; raise the limit (memlock)",
                 F_INT("slots", (int64_t)r->size), F_INT("wanted", (int64_t)wanted));
    return r;
}

void refresh_free(struct refresh *r) {
    timer_stop(&r->timer);
    vault_free(r->vault);
    free(r->queue);
    free(r);
}
