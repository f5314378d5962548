#include "serve/beats/settling.h"

#include "base/clock.h"
#include "base/metric.h"
#include "base/panic.h"
#include "base/random.h"
#include "rules/agents/verdict.h"
#include "serve/beats/appointments.h"
#include "serve/beats/durable.h"
#include "serve/beats/telling.h"
#include "serve/beats/turn.h"
#include "serve/beats/verdict.h"

#include <stdlib.h>

struct settling {
    struct list asked; /* replies that are awaited */
    size_t count;
};

/* ---- one that is held in memory ---- */

static void count_fate(enum beat_fate fate) {
    if (fate == BEAT_KEPT)
        return;
    metric_add(fate == BEAT_DELIVERED ? METRIC_BEATS_DELIVERED : METRIC_BEATS_SUPERSEDED, 1);
    metric_add(METRIC_BEATS_HELD, -1);
}

static void end_held(struct serve *s, const struct delivery *d, enum beat_answer answer,
                     int verdict_status, const char *message) {
    struct agents *agents = s->shared->agents;
    struct agent *agent = agents_lock(agents, &d->id, true);
    count_fate(beat_answered(&agent->beat, d->sequence, d->status, answer, clock_mono_ms(),
                             (uint32_t)random_u64()));
    if (verdict_status != 0)
        verdict_keep(s, agent, d->token, verdict_status, message);
    if (answer != BEAT_FAILED || agent->lease != 0)
        telling_note(s, agent);
    agent->beat_is_next = false;
    turn_go_on(s, agent);
    agents_unlock(agents, agent);
}

/* ---- one that was claimed in Redis ---- */

struct settled {
    struct list link;
    struct serve *serve;
    struct delivery delivery;
    enum beat_answer answer;
};

static void settled_free(struct settled *g) {
    list_remove(&g->link);
    g->serve->settling->count--;
    free(g);
}

/* Nobody else says what became of it. A failed one lives on in Redis. */
static void settle_alone(struct serve *s, const struct delivery *d, enum beat_answer answer) {
    bool delivered = answer != BEAT_FAILED;
    metric_add(METRIC_BEATS_DELIVERED, delivered);
    telling_give_back_later(s, d, !delivered);
}

static void on_settled(void *arg, const struct redis_reply *reply) {
    struct settled *g = arg;
    struct serve *s = g->serve;
    enum durable_done_result result = (enum durable_done_result)redis_integer(reply);
    if (!reply)
        settle_alone(s, &g->delivery, g->answer);
    else if (result == DURABLE_NEWER_WAITS)
        metric_add(METRIC_BEATS_SUPERSEDED, 1);
    else if (result == DURABLE_NOTED && g->answer != BEAT_FAILED)
        metric_add(METRIC_BEATS_DELIVERED, 1);
    settled_free(g);
}

/* What this process should know when Redis is away. */
static void note_here(struct serve *s, const struct delivery *d, enum beat_answer answer,
                      int verdict_status, const char *message) {
    if (answer == BEAT_FAILED)
        return;
    struct agents *agents = s->shared->agents;
    struct agent *agent = agents_lock(agents, &d->id, true);
    beat_learn(&agent->beat, d->sequence, answer == BEAT_TAKEN, d->status, clock_mono_ms());
    if (verdict_status != 0)
        verdict_keep(s, agent, d->token, verdict_status, message);
    agents_unlock(agents, agent);
}

static void end_claimed(struct serve *s, const struct delivery *d, enum beat_answer answer,
                        int verdict_status, const char *message) {
    struct durable_verdict verdict = {verdict_status, d->token, message, VERDICT_MS};
    note_here(s, d, answer, verdict_status, message);
    struct settled *g = must_zalloc(sizeof *g);
    *g = (struct settled){.serve = s, .delivery = *d, .answer = answer};
    list_push_back(&s->settling->asked, &g->link);
    s->settling->count++;
    if (durable_done(s, d, answer, &verdict, on_settled, g))
        return;
    settle_alone(s, d, answer);
    settled_free(g);
}

/* ---- either ---- */

void settling_end(struct serve *s, const struct delivery *d, enum beat_answer answer,
                  int verdict_status, const char *message) {
    if (answer != BEAT_FAILED)
        delivery_time(d->received_ms);
    if (d->claim != 0)
        end_claimed(s, d, answer, verdict_status, message);
    else
        end_held(s, d, answer, verdict_status, message);
}

/* ---- life ---- */

bool settling_is_idle(const struct serve *s) {
    return s->settling->count == 0;
}

struct settling *settling_new(void) {
    struct settling *st = must_zalloc(sizeof *st);
    list_init(&st->asked);
    return st;
}

void settling_free(struct settling *st) {
    list_each_safe (at, &st->asked)
        settled_free(container_of(at, struct settled, link));
    free(st);
}
