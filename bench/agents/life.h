/* What the documented client does next: pure decisions, told the time and the answers.
 *
 *            begin               2xx with a token
 *   NEW ----------> CONNECTING ------------------> CONNECTED ---> a heartbeat each minute
 *                    |   ^  ^ 1, 2, 4 s               |  |        a connect each 23 hours
 *                    |   |  +--- network error        |  +--404--> STOPPED
 *    4th error, 5xx  |   |                            |401
 *                    v   | 5 min                      v
 *                   LOCAL                         CONNECTING
 *
 * 401 and 404 on a connect stop it. It has no jitter and knows nothing of Retry-After unless told
 * to. One call at a time: what falls due meanwhile is made late, and its latency counts from when
 * it was due, so that a slow target cannot slow down the load (coordinated omission). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define LIFE_NEVER INT64_MAX

#define LIFE_STATE_ROWS(X)                                                                         \
    X(NEW, "waiting")                                                                              \
    X(CONNECTING, "connecting")                                                                    \
    X(CONNECTED, "connected")                                                                      \
    X(LOCAL, "local")                                                                              \
    X(STOPPED, "stopped")

enum life_state {
#define X(symbol, name) LIFE_##symbol,
    LIFE_STATE_ROWS(X)
#undef X
        LIFE_STATE_COUNT
};

enum life_call { LIFE_NOTHING, LIFE_CONNECT, LIFE_BEAT, LIFE_DISCONNECT };

/* When the first heartbeat after a connect comes: an interval later as documented, at the agent's
 * own place in the interval, or at times that all agents share. */
enum life_phase { LIFE_AFTER_CONNECT, LIFE_SPREAD, LIFE_IN_PHASE };

enum { LIFE_RETRIES = 3 };

struct life_rules {
    int64_t timeout_us;
    int64_t retry_us[LIFE_RETRIES];
    int64_t local_us;
    int64_t beat_us; /* 0: no heartbeats */
    int64_t reconnect_us;
    int jitter_percent; /* of each heartbeat interval, both ways; 0 to 90 */
    enum life_phase phase;
    bool obey_retry_after;
};

/* As documented: 10 s; 1, 2, 4 s; 5 min; 60 s; 23 h. */
struct life_rules life_documented(void);

struct life {
    int64_t connect_us, beat_us, leave_us; /* when each is due; LIFE_NEVER */
    int64_t wanted_us;                     /* since when it wants to be connected */
    uint32_t random;
    uint8_t state;
    uint8_t tries;   /* connects that failed in a row */
    bool comes_back; /* leaves only to connect again: a restart */
};

/* `seed`: any number, its own for each agent. */
void life_init(struct life *l, uint32_t seed);
/* Wants to be connected from `when_us` on, whatever it was before. */
void life_begin(struct life *l, int64_t when_us);
/* Says goodbye at `when_us` if it is connected (else it just stops); with `comes_back` it begins
 * again after that. */
void life_leave(struct life *l, int64_t when_us, bool comes_back);

/* When something is to be done next. */
int64_t life_due_us(const struct life *l);
/* What is due by `now_us`, and since when. The call is to be made at once. */
enum life_call life_take(struct life *l, const struct life_rules *rules, int64_t now_us,
                         int64_t *intended_us);

/* How the call ended. `retry_after_s` -1: the answer had none. `has_token`: a connect's answer had
 * one. True when the agent is connected now and was not before. */
bool life_answered(struct life *l, const struct life_rules *rules, enum life_call call, int status,
                   bool has_token, int64_t retry_after_s, int64_t now_us);
/* A network error, or no answer in time. */
void life_failed(struct life *l, const struct life_rules *rules, enum life_call call,
                 int64_t now_us);
