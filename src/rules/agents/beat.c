#include "rules/agents/beat.h"

#include "rules/config/config.h"
#include "rules/gate/limit.h"

enum {
    RETRY_FIRST_MS = 1000,
    RETRY_MAX_MS = 30000,
};

void beat_init(struct beat_state *s) {
    *s = (struct beat_state){.received_ms = -1, .last_received_ms = -1, .last_forward_ms = -1};
}

/* A second's worth may come at once. */
bool beat_allowed(struct beat_state *s, const struct beat_policy *policy, int64_t now_ms) {
    struct limit rate = limit_per_second(policy->max_rate, policy->max_rate);
    return limit_take(&s->arrival_us, &rate, now_ms * 1000);
}

void beat_stamp(struct beat_state *s, int64_t now_us) {
    if (now_us > 0 && (uint64_t)now_us > s->sequence)
        s->sequence = (uint64_t)now_us - 1;
}

uint64_t beat_pass(struct beat_state *s, const struct beat_policy *policy, int64_t now_ms) {
    s->after_silence |=
        s->last_received_ms >= 0 && now_ms - s->last_received_ms > policy->expiry_ms;
    s->last_received_ms = now_ms;
    return ++s->sequence;
}

enum beat_place beat_hold(struct beat_state *s, uint64_t sequence, enum beat_status status,
                          int64_t received_ms) {
    bool replaced = s->held;
    if (sequence <= s->settled || (s->held && sequence <= s->held_sequence))
        return BEAT_OLDER;
    s->held = true;
    s->held_sequence = sequence;
    s->status = status;
    s->received_ms = received_ms;
    if (replaced)
        return BEAT_REPLACED;
    s->waiting_since_ms = received_ms;
    return !s->status_known && !s->sending ? BEAT_FIRST : BEAT_HELD;
}

/* Against what the controller knows, not against the beat that was replaced: a change that was
 * taken back within the gap needs no call. */
bool beat_is_news(const struct beat_state *s, enum beat_status status) {
    return !s->status_known || s->after_silence || status != s->forwarded_status;
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

static int64_t earlier(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Counted from the first beat that waits: were it counted from the newest, an agent that beats
 * just before its phase point would never reach it. */
static int64_t phase_due_ms(const struct beat_state *s, const struct beat_policy *policy,
                            uint64_t phase) {
    int64_t from = later(s->waiting_since_ms, s->last_forward_ms + policy->interval_ms / 2);
    int64_t in_phase = next_phase_ms(from, policy->interval_ms, phase);
    return earlier(in_phase, s->received_ms + policy->max_hold_ms);
}

int64_t beat_due_ms(const struct beat_state *s, const struct beat_policy *policy, uint64_t phase) {
    int64_t due = beat_is_news(s, s->status) ? s->received_ms : phase_due_ms(s, policy, phase);
    if (s->last_forward_ms >= 0)
        due = later(due, s->last_forward_ms + policy->min_gap_ms);
    return later(due, s->retry_ms);
}

bool beat_is_expired(const struct beat_state *s, const struct beat_policy *policy, int64_t now_ms) {
    return now_ms - s->received_ms > policy->expiry_ms;
}

void beat_drop(struct beat_state *s) {
    s->held = false;
}

void beat_put_off(struct beat_state *s, int64_t until_ms) {
    s->retry_ms = later(s->retry_ms, until_ms);
}

void beat_hurry(struct beat_state *s) {
    s->failures = 0;
    s->retry_ms = 0;
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

static void settle(struct beat_state *s, uint64_t sequence) {
    if (sequence > s->settled)
        s->settled = sequence;
}

static void controller_has(struct beat_state *s, uint64_t sequence, bool status_known,
                           enum beat_status status) {
    settle(s, sequence);
    s->status_known = status_known;
    s->forwarded_status = status;
    s->after_silence = false;
    s->failures = 0;
    s->retry_ms = 0;
}

static enum beat_fate failed(struct beat_state *s, uint64_t sequence, enum beat_status status,
                             int64_t now_ms, uint32_t random) {
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

enum beat_fate beat_answered(struct beat_state *s, uint64_t sequence, enum beat_status status,
                             enum beat_answer answer, int64_t now_ms, uint32_t random) {
    s->sending = false;
    if (answer == BEAT_FAILED)
        return failed(s, sequence, status, now_ms, random);
    controller_has(s, sequence, answer == BEAT_TAKEN, status);
    return BEAT_DELIVERED;
}

static bool drop_up_to(struct beat_state *s, uint64_t sequence) {
    bool dropped = s->held && s->held_sequence <= sequence;
    if (dropped)
        beat_drop(s);
    return dropped;
}

bool beat_passed(struct beat_state *s, uint64_t sequence, bool status_known,
                 enum beat_status status, int64_t now_ms) {
    controller_has(s, sequence, status_known, status);
    s->last_forward_ms = now_ms;
    return drop_up_to(s, sequence);
}

void beat_learn(struct beat_state *s, uint64_t sequence, bool status_known, enum beat_status status,
                int64_t sent_ms) {
    if (sequence <= s->settled)
        return;
    controller_has(s, sequence, status_known, status);
    s->last_forward_ms = sent_ms;
    if (sequence > s->sequence)
        s->sequence = sequence; /* of a clock ahead of ours: the next beat is newer all the same */
}

bool beat_disconnected(struct beat_state *s, uint64_t sequence) {
    settle(s, sequence);
    s->status_known = false;
    s->last_forward_ms = -1; /* the next one does not wait for the gap */
    beat_hurry(s);
    return drop_up_to(s, sequence);
}

struct beat_policy beat_policy_of(const struct config *config) {
    return (struct beat_policy){.interval_ms = config->heartbeat.forward_interval_ms,
                                .max_hold_ms = config->heartbeat.max_hold_ms,
                                .expiry_ms = config->heartbeat.expiry_ms,
                                .min_gap_ms = config->heartbeat.min_forward_gap_ms,
                                .max_rate = config->heartbeat.max_rate};
}
