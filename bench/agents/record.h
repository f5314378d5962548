/* What was seen in a run: counters, histograms, a row each second, a section each stage.
 * Pure: the caller passes the time, microseconds since the run's start. */
#pragma once

#include "agents/life.h"
#include "agents/scenario.h"
#include "base/hist.h"
#include "base/str.h"

/* What agents did and what became of it. Each call ends in exactly one of the answers or faults. */
#define TALLY_ROWS(X)                                                                              \
    X(connects)                                                                                    \
    X(connects_ok)                                                                                 \
    X(heartbeats)                                                                                  \
    X(heartbeats_ok)                                                                               \
    X(disconnects)                                                                                 \
    X(disconnects_ok)                                                                              \
    X(answers_401)                                                                                 \
    X(answers_404)                                                                                 \
    X(answers_429)                                                                                 \
    X(answers_4xx) /* the others */                                                                \
    X(answers_5xx)                                                                                 \
    X(answers_odd) /* 2xx without a token, 1xx, 3xx */                                             \
    X(timeouts)    /* no answer in time */                                                         \
    X(refused)     /* the connection could not be made, or was reset */                            \
    X(closed)      /* it ended without an answer */                                                \
    X(tls_failed)                                                                                  \
    X(bad_answers)   /* not HTTP */                                                                \
    X(no_descriptor) /* our own machine's limits: ports, descriptors */                            \
    X(opened)        /* connections */                                                             \
    X(handshakes)    /* full ones */                                                               \
    X(resumptions)                                                                                 \
    X(attack_calls)                                                                                \
    X(attack_refused) /* 4xx, or closed */                                                         \
    X(attack_let_in)  /* 2xx: the attack worked */                                                 \
    X(attack_failed)  /* everything else: timeouts, 5xx, errors */

struct tally {
#define X(name) int64_t name;
    TALLY_ROWS(X)
#undef X
};

struct tally tally_since(const struct tally *now, const struct tally *before);
/* Calls made, calls that did not end as they should. */
int64_t tally_calls(const struct tally *t);
int64_t tally_errors(const struct tally *t);

/* What the controller (the stub, or one that counts like it) has seen; -1: unknown. */
#define SEEN_ROWS(X)                                                                               \
    X(requests)                                                                                    \
    X(connects)                                                                                    \
    X(bcrypts)                                                                                     \
    X(heartbeats)                                                                                  \
    X(bulk_requests)                                                                               \
    X(bulk_beats)                                                                                  \
    X(client_gone)                                                                                 \
    X(turned_away)

struct seen {
#define X(name) int64_t name;
    SEEN_ROWS(X)
#undef X
};

/* CPU in microseconds since its start, resident bytes; -1: unknown. */
struct usage {
    int64_t cpu_us, memory;
};

/* Everything that is seen from outside, at one time. */
struct scene {
    struct seen seen;
    struct usage gateway, controller, self;
};

enum { RECORD_ROWS_MAX = 90000, RECORD_SAMPLES_MAX = 900000, RECORD_HLOG_MAX = 256 << 20 };

struct record_row {
    int64_t at_us;
    int32_t state[LIFE_STATE_COUNT];
    int32_t stage;
    struct tally tally; /* since the start */
    struct scene scene;
    int64_t p50_us, p99_us, max_us; /* of the calls that ended in this row's second */
    int64_t lag_max_us;
};

/* How many were connected, ten times a second. */
struct record_sample {
    int64_t at_us;
    int32_t connected;
};

struct record_section {
    char name[SCENARIO_NAME_MAX];
    bool unmeasured, skipped, is_connect;
    int64_t from_us, to_us;
    struct tally tally; /* in the section */
    struct scene scene; /* likewise: CPU and counts in it, memory at its end; -1: unknown */
    struct hist *connect, *heartbeat;
    int64_t all_connected_us; /* connect stages: from the section's start; -1: never */
};

/* Steps of `connected`, for one that goes away for five minutes is beyond a histogram's 120 s: so
 * it reaches to 3 h 20 min. */
enum { RECORD_CONNECTED_US = 100 };

struct record {
    int64_t start_wall_ms;
    struct tally tally;
    struct hist *connect, *heartbeat; /* measured stages: from due to answered */
    struct hist *calls;               /* both */
    struct hist *connected; /* from wanting to be connected to being it, in RECORD_CONNECTED_US */
    struct hist *lag;       /* of the generator itself: see lag.h */
    struct hist *second_connect, *second_heartbeat;
    int64_t second_from_us, lag_max_us;
    size_t row_count, row_room;
    struct record_row *row;
    size_t sample_count, sample_room;
    struct record_sample *sample;
    size_t section_count;
    struct record_section section[SCENARIO_STAGES_MAX];
    struct str hlog;
};

void record_init(struct record *r, int64_t start_wall_ms);
void record_release(struct record *r);

/* The difference of what counts up; -1 stays unknown. Memory: as it is now. */
struct scene scene_since(const struct scene *now, const struct scene *before);

void record_section_begin(struct record *r, const struct stage *stage, int64_t now_us,
                          const struct scene *scene);
void record_section_end(struct record *r, int64_t now_us, const struct scene *scene);
bool record_is_measuring(const struct record *r);

/* A call that ended `took_us` after it was due: answered, or given up (a target that answers only
 * the lucky ones must not look fast). LIFE_CONNECT or LIFE_BEAT. */
void record_call(struct record *r, enum life_call call, int64_t took_us);
void record_connected(struct record *r, int64_t took_us);
void record_lag(struct record *r, int64_t lag_us);
/* Ends a second: `row` has everything but tally, percentiles and lag, which are filled in here.
 * Beyond RECORD_ROWS_MAX rows nothing is added. */
void record_row_add(struct record *r, const struct record_row *row);
void record_sample_add(struct record *r, int64_t now_us, int32_t connected);
