#include "rules/beat.h"

enum {
    RETRY_FIRST_MS = 1000,
    RETRY_MAX_MS = 30000,
};

void beat_init(struct beat_state *s) {
    *s = (struct beat_state){.received_ms = -1, .last_received_ms = -1, .last_forward_ms = -1};
}

/* GCRA: one integer, exact. A beat may come up to a whole burst ahead of its time. */
bool beat_allowed(struct beat_state *s, const struct beat_policy *policy, int64_t now_ms) {
    int64_t now = now_ms * 1000;
    int64_t gap = 1000000 / policy->max_rate;
    int64_t due = s->rate_ms1000 > now ? s->rate_ms1000 : now;
    if (due - now > gap * (policy->max_rate - 1))
        return false;
    s->rate_ms1000 = due + gap;
    return true;
}

enum beat_place beat_receive(struct beat_state *s, const struct beat_policy *policy,
                             enum beat_status status, int64_t now_ms) {
    bool replaced = s->held;
    bool silent_before =
        s->last_received_ms < 0 || now_ms - s->last_received_ms > policy->expiry_ms;
    s->sequence++;
    s->held = true;
    s->held_sequence = s->sequence;
    s->status = status;
    s->received_ms = s->last_received_ms = now_ms;
    /* Against what the controller knows, not against the beat that was replaced: a change that
     * was taken back within the gap needs no call. */
    s->urgent = !s->ever_forwarded || silent_before || status != s->forwarded_status;
    if (replaced)
        return BEAT_REPLACED;
    return !s->ever_forwarded && !s->sending ? BEAT_FIRST : BEAT_HELD;
}

/* The agent's next point in the cycle at or after `from_ms`. */
static int64_t next_phase_ms(int64_t from_ms, int64_t interval_ms, uint64_t phase) {
    int64_t offset = (int64_t)(phase % (uint64_t)interval_ms);
    int64_t into = (from_ms - offset) % interval_ms;
    if (into < 0)
        into += interval_ms;
    return into == 0 ? from_ms : from_ms + interval_ms - into;
}

static int64_t later(int64_t a, int64_t b) {
    return a > b ? a : b;
}

int64_t beat_due_ms(const struct beat_state *s, const struct beat_policy *policy, uint64_t phase) {
    int64_t due = s->received_ms;
    if (!s->urgent) {
        int64_t from = later(s->received_ms, s->last_forward_ms + policy->interval_ms / 2);
        int64_t in_phase = next_phase_ms(from, policy->interval_ms, phase);
        int64_t at_most = s->received_ms + policy->max_hold_ms;
        due = in_phase < at_most ? in_phase : at_most;
    }
    if (s->last_forward_ms >= 0)
        due = later(due, s->last_forward_ms + policy->min_gap_ms);
    return later(due, s->retry_ms);
}

bool beat_is_expired(const struct beat_state *s, const struct beat_policy *policy, int64_t now_ms) {
    return now_ms - s->received_ms > policy->expiry_ms;
}

void beat_sent(struct beat_state *s, int64_t now_ms) {
    s->sending = true;
    s->held = false;
    s->former_forward_ms = s->last_forward_ms;
    s->last_forward_ms = now_ms;
}

static int64_t backoff_ms(int32_t failures, uint32_t random) {
    int64_t base = RETRY_FIRST_MS;
    for (int32_t i = 1; i < failures && base < RETRY_MAX_MS; i++)
        base *= 2;
    if (base > RETRY_MAX_MS)
        base = RETRY_MAX_MS;
    return base / 2 + (int64_t)(random % (uint32_t)(base / 2 + 1)); /* half to whole: spread */
}

enum beat_fate beat_answered(struct beat_state *s, uint64_t sequence, enum beat_status status,
                             bool delivered, int64_t now_ms, uint32_t random) {
    s->sending = false;
    if (delivered) {
        s->ever_forwarded = true;
        s->forwarded_status = status;
        s->failures = 0;
        s->retry_ms = 0;
        s->urgent = s->held && s->status != status;
        return BEAT_DELIVERED;
    }
    s->failures++;
    s->last_forward_ms = s->former_forward_ms;
    s->retry_ms = now_ms + backoff_ms(s->failures, random);
    if (s->held)
        return BEAT_SUPERSEDED;
    s->held = true;
    s->held_sequence = sequence;
    s->status = status;
    return BEAT_KEPT;
}

bool beat_disconnected(struct beat_state *s, uint64_t sequence) {
    bool dropped = s->held && s->held_sequence <= sequence;
    if (dropped)
        s->held = false;
    s->ever_forwarded = false;
    s->urgent = s->held;
    return dropped;
}
