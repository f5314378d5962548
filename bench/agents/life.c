#include "agents/life.h"

struct life_rules life_documented(void) {
    const int64_t second = 1000000;
    return (struct life_rules){
        .timeout_us = 10 * second,
        .retry_us = {1 * second, 2 * second, 4 * second},
        .local_us = 300 * second,
        .beat_us = 60 * second,
        .reconnect_us = 23 * 3600 * second,
        .phase = LIFE_AFTER_CONNECT,
    };
}

void life_init(struct life *l, uint32_t seed) {
    *l = (struct life){.connect_us = LIFE_NEVER,
                       .beat_us = LIFE_NEVER,
                       .leave_us = LIFE_NEVER,
                       .random = seed * 2654435761u | 1,
                       .state = LIFE_NEW};
}

/* xorshift (Marsaglia): the same life for the same seed. */
static uint32_t draw(struct life *l) {
    l->random ^= l->random << 13;
    l->random ^= l->random >> 17;
    l->random ^= l->random << 5;
    return l->random;
}

/* Evenly from 0 to `range` - 1. */
static int64_t draw_below(struct life *l, int64_t range) {
    return (int64_t)((double)draw(l) / 4294967296.0 * (double)range);
}

static void connect_at(struct life *l, int64_t when_us) {
    l->state = LIFE_CONNECTING;
    l->connect_us = when_us;
    l->beat_us = l->leave_us = LIFE_NEVER;
}

void life_begin(struct life *l, int64_t when_us) {
    connect_at(l, when_us);
    l->wanted_us = when_us;
    l->tries = 0;
}

static void stop(struct life *l) {
    l->state = LIFE_STOPPED;
    l->connect_us = l->beat_us = l->leave_us = LIFE_NEVER;
}

void life_leave(struct life *l, int64_t when_us, bool comes_back) {
    if (l->state == LIFE_CONNECTED) {
        l->leave_us = when_us;
        l->comes_back = comes_back;
    } else if (comes_back) {
        life_begin(l, when_us);
    } else {
        stop(l);
    }
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

int64_t life_due_us(const struct life *l) {
    return least(l->leave_us, least(l->connect_us, l->beat_us));
}

/* ---- heartbeats ---- */

static int64_t next_beat(struct life *l, const struct life_rules *rules, int64_t last_us) {
    int64_t range = rules->beat_us * rules->jitter_percent / 100;
    return last_us + rules->beat_us + (range > 0 ? draw_below(l, 2 * range + 1) - range : 0);
}

static int64_t first_beat(struct life *l, const struct life_rules *rules, int64_t now_us) {
    if (rules->beat_us <= 0)
        return LIFE_NEVER;
    if (rules->phase == LIFE_SPREAD)
        return now_us + draw_below(l, rules->beat_us);
    if (rules->phase == LIFE_IN_PHASE)
        return (now_us / rules->beat_us + 1) * rules->beat_us;
    return next_beat(l, rules, now_us);
}

/* ---- calls ---- */

enum life_call life_take(struct life *l, const struct life_rules *rules, int64_t now_us,
                         int64_t *intended_us) {
    int64_t due = life_due_us(l);
    if (due > now_us)
        return LIFE_NOTHING;
    *intended_us = due;
    if (due == l->leave_us) {
        l->leave_us = LIFE_NEVER;
        return LIFE_DISCONNECT;
    }
    if (due == l->connect_us) {
        l->connect_us = LIFE_NEVER;
        return LIFE_CONNECT;
    }
    l->beat_us = next_beat(l, rules, due);
    return LIFE_BEAT;
}

static void work_locally(struct life *l, const struct life_rules *rules, int64_t now_us) {
    connect_at(l, now_us + rules->local_us);
    l->state = LIFE_LOCAL;
    l->tries = 0;
}

static bool has_connected(struct life *l, const struct life_rules *rules, int64_t now_us) {
    bool is_new = l->state != LIFE_CONNECTED;
    int64_t leave_us = l->leave_us;
    connect_at(l, now_us + rules->reconnect_us);
    l->leave_us = leave_us;
    l->state = LIFE_CONNECTED;
    l->tries = 0;
    l->beat_us = first_beat(l, rules, now_us);
    return is_new;
}

static bool is_told_to_wait(const struct life_rules *rules, int status, int64_t retry_after_s) {
    return rules->obey_retry_after && retry_after_s >= 0 && (status == 429 || status == 503);
}

static bool connect_answered(struct life *l, const struct life_rules *rules, int status,
                             bool has_token, int64_t retry_after_s, int64_t now_us) {
    if (status >= 200 && status < 300 && has_token)
        return has_connected(l, rules, now_us);
    if (status == 401 || status == 404)
        stop(l);
    else if (is_told_to_wait(rules, status, retry_after_s))
        connect_at(l, now_us + retry_after_s * 1000000);
    else
        work_locally(l, rules, now_us);
    return false;
}

static void beat_answered(struct life *l, const struct life_rules *rules, int status,
                          int64_t retry_after_s, int64_t now_us) {
    if (l->state != LIFE_CONNECTED)
        return;
    if (status == 401)
        life_begin(l, now_us);
    else if (status == 404)
        stop(l);
    else if (is_told_to_wait(rules, status, retry_after_s))
        l->beat_us = now_us + retry_after_s * 1000000;
}

static void has_left(struct life *l, int64_t now_us) {
    if (l->comes_back)
        life_begin(l, now_us);
    else
        stop(l);
}

bool life_answered(struct life *l, const struct life_rules *rules, enum life_call call, int status,
                   bool has_token, int64_t retry_after_s, int64_t now_us) {
    if (call == LIFE_CONNECT)
        return connect_answered(l, rules, status, has_token, retry_after_s, now_us);
    if (call == LIFE_BEAT)
        beat_answered(l, rules, status, retry_after_s, now_us);
    else
        has_left(l, now_us);
    return false;
}

void life_failed(struct life *l, const struct life_rules *rules, enum life_call call,
                 int64_t now_us) {
    if (call == LIFE_DISCONNECT)
        has_left(l, now_us);
    if (call != LIFE_CONNECT)
        return;
    if (l->tries >= LIFE_RETRIES) {
        work_locally(l, rules, now_us);
        return;
    }
    connect_at(l, now_us + rules->retry_us[l->tries]);
    l->tries++;
}
