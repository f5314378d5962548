/* The figures of a run by name: what reports show, comparisons compare and --fail-if judges.
 * Pure; a figure is added as a row here and as a line in figures.c. */
#pragma once

#include "agents/record.h"
#include "agents/units.h"

/*   name, unit, is less better (1), more (-1) or neither (0), help */
#define FIGURE_ROWS(X)                                                                             \
    X(all_connected, TIME, 1, "from the start of the last connect stage until all are connected")  \
    X(connected_p50, TIME, 1, "from wanting to be connected to being it, retries included")        \
    X(connected_p99, TIME, 1, "the same")                                                          \
    X(connected_max, TIME, 1, "the same, of those that got there")                                 \
    X(unconnected, COUNT, 1, "agents not connected at the end")                                    \
    X(p50, TIME, 1, "of connects and heartbeats, from when each was due")                          \
    X(p99, TIME, 1, "the same")                                                                    \
    X(p999, TIME, 1, "the same, 99.9 %")                                                           \
    X(max, TIME, 1, "the same")                                                                    \
    X(connect_p50, TIME, 1, "of connects alone")                                                   \
    X(connect_p99, TIME, 1, "the same")                                                            \
    X(connect_p999, TIME, 1, "the same")                                                           \
    X(heartbeat_p50, TIME, 1, "of heartbeats alone")                                               \
    X(heartbeat_p99, TIME, 1, "the same")                                                          \
    X(heartbeat_p999, TIME, 1, "the same")                                                         \
    X(calls, COUNT, 0, "connects, heartbeats, disconnects made")                                   \
    X(rate, COUNT, 0, "calls a second")                                                            \
    X(errors, COUNT, 1, "calls that did not end as they should")                                   \
    X(error_percent, PERCENT, 1, "the same, of all calls")                                         \
    X(timeouts, COUNT, 1, "calls without an answer in time")                                       \
    X(controller_requests, COUNT, 1, "requests that reached the controller")                       \
    X(controller_bcrypts, COUNT, 1, "secrets it compared")                                         \
    X(controller_heartbeats, COUNT, 0, "heartbeats it was told of, single or in bulk")             \
    X(bcrypt_percent, PERCENT, 1, "bcrypts of the controller per connect that succeeded")          \
    X(requests_per_heartbeat, COUNT, 1, "heartbeat requests at the controller per heartbeat")      \
    X(lost, COUNT, 1,                                                                              \
      "heartbeats acknowledged, but neither delivered, superseded, expired nor held")              \
    X(expired, COUNT, 1, "heartbeats that grew too old while the controller was away")             \
    X(gateway_cpu, TIME, 1, "CPU of the gateway")                                                  \
    X(gateway_cpu_per_call, TIME, 1, "the same per call")                                          \
    X(gateway_memory, BYTES, 1, "its resident memory, at most")                                    \
    X(gateway_memory_per_agent, BYTES, 1, "what it grew by, per agent")                            \
    X(controller_cpu, TIME, 1, "CPU of the controller")                                            \
    X(attack_let_in, COUNT, 1, "strangers who got a 2xx")                                          \
    X(generator_cpu, PERCENT, 0, "CPU of this program, of one processor")                          \
    X(generator_lag_p999, TIME, 0, "how late this program was itself")                             \
    X(generator_lag_max, TIME, 0, "the same")                                                      \
    X(generator_memory_per_agent, BYTES, 0, "of this program's resident memory")                   \
    X(connections, COUNT, 0, "open at once, at most")

enum figure {
#define X(name, unit, better, help) FIGURE_##name,
    FIGURE_ROWS(X)
#undef X
        FIGURE_COUNT
};

struct figure_row {
    const char *name;
    enum unit unit;
    int less_is_better;
    const char *help;
};

const struct figure_row *figure_row(enum figure f);
/* FIGURE_COUNT when there is none of that name; "p99.9" is p999. */
enum figure figure_find(struct span name);

struct figures_input {
    const struct record *record;
    size_t agents;
    int64_t unconnected, lost, expired; /* -1: unknown */
    int64_t gateway_memory_before;      /* likewise */
    int64_t generator_memory_per_agent; /* likewise */
    int64_t connections;
};

/* NaN: unknown. Only what measured stages saw, but for memory. */
void figures_fill(const struct figures_input *in, double out[FIGURE_COUNT]);

/* ---- thresholds ---- */

struct threshold {
    enum figure figure;
    bool above; /* fails when it is above, else when it is below */
    bool or_equal;
    double value;
};

/* "p99>50ms", "unconnected>0", "rate<100"; false with a sentence in `why`. */
bool threshold_parse(const char *text, struct threshold *out, char why[SCENARIO_WHY]);
/* A figure that is unknown fails: it was asked for. */
bool threshold_failed(const struct threshold *t, const double figures[FIGURE_COUNT]);
void threshold_print(const struct threshold *t, struct str *out);

/* Why the figures are the generator's and not the target's; NULL when they are not. The rule: at
 * 99.9 % it was itself late by `max_lag_us` at most, or by a twentieth of the latency at 99.9 %;
 * and it never ran out of ports or descriptors. */
const char *figures_invalid(const struct record *record, const double figures[FIGURE_COUNT],
                            double max_lag_us);
