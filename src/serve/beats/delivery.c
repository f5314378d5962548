#include "serve/beats/delivery.h"

#include "base/clock.h"
#include "base/metric.h"

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

bool delivery_may_go(const struct delivery *d) {
    return d->go_by_ms == 0 || clock_mono_ms() < d->go_by_ms;
}

void delivery_begin(struct agent *agent) {
    beat_sent(&agent->beat, clock_mono_ms());
}

void delivery_time(int64_t received_ms) {
    metric_time(METRIC_TIME_BEAT_LAG, (clock_mono_ms() - received_ms) * 1000);
}
