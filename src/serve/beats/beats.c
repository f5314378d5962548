#include "serve/beats/beats.h"

#include "base/clock.h"
#include "base/metric.h"
#include "serve/beats/appointments.h"
#include "serve/beats/bulk.h"
#include "serve/beats/claims.h"
#include "serve/beats/durable.h"
#include "serve/beats/sending.h"
#include "serve/beats/settling.h"
#include "serve/beats/storing.h"
#include "serve/beats/telling.h"
#include "serve/beats/turn.h"

/* ---- appointments kept ---- */

static void drop_expired(struct agent *agent) {
    beat_drop(&agent->beat);
    metric_add(METRIC_BEATS_EXPIRED, 1);
    metric_add(METRIC_BEATS_HELD, -1);
}

/* It fits neither way now. Not at once again: an appointment that is due would be kept for ever. */
static void look_again(struct serve *s, struct agent *agent, int64_t now) {
    enum { LOOK_AGAIN_MS = 50 };
    beat_put_off(&agent->beat, now + LOOK_AGAIN_MS);
    turn_go_on(s, agent); /* ordered calls need not wait for it meanwhile */
}

/* Where beats live in Redis, one that is held here only waited to get there. */
static bool pass(struct serve *s, struct agent *agent) {
    if (durable_is_here(s))
        return durable_is_prompt(s) && storing_move(s, agent);
    return sending_take(s->sending, agent);
}

/* Under the agent's lock. */
static void keep_appointment(struct serve *s, struct agent *agent) {
    struct beat_policy policy = beat_policy_of(s->shared->config);
    int64_t now = clock_mono_ms();
    if (agent->beat.sending || agent->beat.blocked)
        return; /* whoever is at it makes the next appointment */
    bool in_bulk = bulk_is_on(s);
    if (agent->beat.held && !in_bulk && beat_is_expired(&agent->beat, &policy, now))
        drop_expired(agent);
    if (!agent->beat.held || appointments_due_ms(s, agent) > now)
        turn_go_on(s, agent);
    else if (!pass(s, agent))
        look_again(s, agent, now);
}

/* ---- draining ---- */

static void make_due(void *arg, struct agent *agent) {
    struct serve *s = arg;
    beat_hurry(&agent->beat);
    if (!agent->beat.held || agent->beat.sending || agent->beat.blocked)
        return;
    agent->scheduled_ms = -1;
    appointments_schedule(s, agent);
}

void beats_drain(struct serve *s) {
    agents_each_owned(s->shared->agents, s->worker, s->shared->worker_count, make_due, s);
    bulk_drain(s->bulk);
    claims_drain(s);
}

/* ---- the whole ---- */

void beats_wake(struct serve *s) {
    appointments_look(s->appointments);
    claims_wake(s);
}

void beats_on_redis(struct serve *s, bool here) {
    claims_on_redis(s, here);
}

bool beats_are_idle(const struct serve *s) {
    return list_empty(&s->turns) && settling_is_idle(s) && claims_are_idle(s) && telling_is_idle(s);
}

void beats_close(struct serve *s) {
    bulk_close(s->bulk);
    turn_abandon_all(s);
}

void beats_adopt(struct serve *s) {
    durable_adopt(s->durable);
    bulk_adopt(s->bulk);
}

static const struct delivery_events delivery_events = {settling_end, beats_wake};

void beats_init(struct serve *s) {
    s->durable = durable_new(s);
    s->telling = telling_new(s);
    s->settling = settling_new();
    s->bulk = bulk_new(s, &delivery_events);
    s->sending = sending_new(s, &delivery_events);
    s->appointments = appointments_new(s, keep_appointment);
    s->storing = storing_queue_new(s, claims_note_due);
    s->claims = claims_new(s);
}

void beats_release(struct serve *s) {
    claims_free(s->claims);
    storing_queue_free(s->storing);
    appointments_free(s->appointments);
    sending_free(s->sending);
    bulk_free(s->bulk);
    settling_free(s->settling);
    telling_free(s->telling);
    durable_free(s->durable);
}
