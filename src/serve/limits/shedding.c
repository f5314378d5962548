#include "serve/limits/shedding.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/panic.h"
#include "io/container.h"
#include "rules/gate/shed.h"

#include <stdatomic.h>
#include <stdlib.h>

enum {
    TICK_MS = 100,
    TICKS_PER_MEMORY = 5, /* asking the kernel costs some 10 us */
    /* Nobody can know when it is over: long enough that those who obey are no burden. */
    CONNECT_AGAIN_S = 10,
    CALL_AGAIN_S = 3,
    BEAT_AGAIN_S = 1,
};

struct shedding {
    struct serve *serve;
    struct timer tick;
    int64_t due_ms;
    unsigned int ticks;
    struct shed_lag lag;
    int64_t memory; /* resident, bytes */
    enum shed_level level;
};

static struct shed_facts measure(struct shedding *sh) {
    const struct shared *shared = sh->serve->shared;
    const struct config *config = shared->config;
    const struct server_limits *l = &shared->limits;
    int64_t most = config->limits.memory > 0 ? config->limits.memory : container_memory();
    return (struct shed_facts){
        .lag = {shed_lag_standing_ms(&sh->lag), config->limits.max_loop_lag_ms},
        .memory = {sh->memory, most},
        .connections = {atomic_load_explicit(&l->vouched, memory_order_relaxed),
                        l->max_connections},
        .in_flight = {atomic_load_explicit(&l->in_flight, memory_order_relaxed),
                      config->limits.max_in_flight},
    };
}

static void tell(const struct shedding *sh, enum shed_level level, const struct shed_facts *f) {
    static const char *const what[] = {"nothing", "connects", "connects and calls", "everything"};
    if (level == sh->level)
        return;
    if (level != SHED_NOTHING)
        log_warn("at the gateway's own limits", F_TEXT("refused", what[level]),
                 F_INT("loop_lag_ms", f->lag.now), F_INT("memory", f->memory.now),
                 F_INT("agents_connections", f->connections.now),
                 F_INT("in_flight", f->in_flight.now));
    else
        log_info("within the gateway's own limits again", F_NONE);
}

static void look(struct shedding *sh) {
    struct shed_facts facts = measure(sh);
    enum shed_level level = shed_level(&facts);
    tell(sh, level, &facts);
    sh->level = level;
}

static void start_tick(struct shedding *sh, int64_t now_ms) {
    sh->due_ms = now_ms + TICK_MS;
    timer_start(&sh->tick, TICK_MS);
}

static void on_tick(void *arg) {
    struct shedding *sh = arg;
    int64_t now_ms = clock_mono_ms();
    shed_lag_note(&sh->lag, now_ms - sh->due_ms);
    metric_time(METRIC_TIME_LOOP_LAG, (now_ms - sh->due_ms) * 1000);
    int64_t memory = sh->ticks++ % TICKS_PER_MEMORY == 0 ? container_resident() : 0;
    if (memory > 0) /* there may be no descriptor to ask with */
        sh->memory = memory;
    look(sh);
    start_tick(sh, now_ms);
}

struct shedding *shedding_new(struct serve *s) {
    struct shedding *sh = must_zalloc(sizeof *sh);
    sh->serve = s;
    timer_init(&sh->tick, s->loop, on_tick, sh);
    start_tick(sh, clock_mono_ms());
    return sh;
}

void shedding_free(struct shedding *sh) {
    timer_stop(&sh->tick);
    free(sh);
}

static enum err refuse(enum metric counted, int again_s, int *retry_after_s) {
    metric_add(counted, 1);
    *retry_after_s = again_s;
    return ERR_OVERLOADED;
}

/* Between two looks many may come. */
static bool is_full(const struct shared *shared) {
    const struct config *config = shared->config;
    return atomic_load_explicit(&shared->limits.in_flight, memory_order_relaxed) >=
           config->limits.max_in_flight;
}

enum err shedding_judge(struct serve *s, const struct request *r, int *retry_after_s) {
    enum shed_level level = s->shedding->level;
    if (r->route->counted == ROUTE_HEARTBEAT)
        return level < SHED_BEATS ? ERR_OK : refuse(METRIC_SHED_BEATS, BEAT_AGAIN_S, retry_after_s);
    bool full = is_full(s->shared);
    if (r->route->counted == ROUTE_CONNECT)
        return level < SHED_CONNECTS && !full
                   ? ERR_OK
                   : refuse(METRIC_SHED_CONNECTS, CONNECT_AGAIN_S, retry_after_s);
    return level < SHED_CALLS && !full ? ERR_OK
                                       : refuse(METRIC_SHED_CALLS, CALL_AGAIN_S, retry_after_s);
}
