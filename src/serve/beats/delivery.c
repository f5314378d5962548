#include "serve/beats/delivery.h"

#include "base/clock.h"
#include "base/metric.h"
#include "base/random.h"
#include "serve/beats/claims.h"
#include "serve/beats/comeback.h"
#include "serve/beats/flush.h"
#include "serve/beats/turn.h"
#include "serve/beats/verdict.h"

struct parcel delivery_parcel(struct serve *s, const struct agent *agent) {
    struct span token = {agent->token.ptr, agent->token.len};
    struct delivery delivery = {.id = agent->id,
                                .sequence = agent->beat.held_sequence,
                                .status = agent->beat.status,
                                .token = agents_token_hash(s->shared->agents, token),
                                .received_ms = agent->beat.received_ms};
    return (struct parcel){
        .delivery = delivery, .body = {agent->body.ptr, agent->body.len}, .token = token};
}

void delivery_begin(struct agent *agent) {
    beat_sent(&agent->beat, clock_mono_ms());
}

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
        comeback_note(s, agent);
    if (!turn_next(s, agent) && agent->beat.held)
        flush_schedule(s, agent);
    agents_unlock(agents, agent);
}

void delivery_time(int64_t received_ms) {
    metric_time(METRIC_TIME_BEAT_LAG, (clock_mono_ms() - received_ms) * 1000);
}

void delivery_end(struct serve *s, const struct delivery *d, enum beat_answer answer,
                  int verdict_status, const char *message) {
    if (answer != BEAT_FAILED)
        delivery_time(d->received_ms);
    if (d->claim != 0)
        claims_settle(s, d, answer, verdict_status, message);
    else
        end_held(s, d, answer, verdict_status, message);
}
