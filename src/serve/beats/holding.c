#include "serve/beats/holding.h"

#include "base/clock.h"
#include "base/metric.h"
#include "serve/beats/appointments.h"
#include "serve/beats/await.h"
#include "serve/beats/durable.h"
#include "serve/beats/sending.h"

#include <stdatomic.h>

/* Sends it, or sees that it will be sent. Returns whether a first beat's caller waits. */
static bool pass_on(struct serve *s, struct agent *agent, struct caller *caller,
                    enum beat_place place) {
    struct beat_policy policy = beat_policy_of(s->shared->config);
    /* Whoever is at it makes the next appointment. */
    if (agent->beat.sending || agent->beat.blocked)
        return false;
    uint64_t phase = agent->hash;
    bool due = beat_due_ms(&agent->beat, &policy, phase) <= clock_mono_ms();
    bool may_send = !durable_is_here(s); /* else it is put there when it can be */
    if (may_send && place == BEAT_FIRST && caller->x) {
        struct await *a = await_new(s, caller, s->redis != NULL);
        if (sending_prepare(s->sending, agent, await_waiter(a)))
            return true;
        await_cancel(a, caller);
    }
    if (!(may_send && due && sending_take(s->sending, agent)))
        appointments_schedule(s, agent);
    return false;
}

bool holding_take(struct serve *s, struct agent *agent, const struct arrival *a,
                  struct caller *caller) {
    enum beat_place place = beat_hold(&agent->beat, a->sequence, a->status, a->received_ms);
    atomic_store_explicit(&s->shared->beats.spoke, true, memory_order_relaxed);
    metric_add(METRIC_BEATS_RECEIVED, 1);
    if (place == BEAT_OLDER || place == BEAT_REPLACED)
        metric_add(METRIC_BEATS_SUPERSEDED, 1);
    else
        metric_add(METRIC_BEATS_HELD, 1);
    if (place == BEAT_OLDER)
        return false;
    if (durable_is_here(s))
        atomic_fetch_add(&s->shared->beats.spilled, 1);
    bytes_set(&agent->body, a->body);
    bytes_set(&agent->token, a->token);
    return pass_on(s, agent, caller, place);
}

void holding_release(struct agent *agent, uint64_t sequence) {
    if (!agent->beat.held || agent->beat.held_sequence != sequence)
        return;
    beat_drop(&agent->beat);
    metric_add(METRIC_BEATS_HELD, -1);
}
