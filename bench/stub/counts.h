/* What reached the stub, counted. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

/* Requests that reached it since the start or the last reset, and what became of them. */
#define STUB_COUNT_ROWS(X)                                                                         \
    X(requests)    /* all of them, /__stub/ included */                                            \
    X(connects)    /* POST /agents/:id/connect */                                                  \
    X(connects_ok) /* answered 201 */                                                              \
    X(bcrypts)     /* secrets whose comparing has begun */                                         \
    X(heartbeats)                                                                                  \
    X(heartbeats_ok)                                                                               \
    X(disconnects)                                                                                 \
    X(regenerates)                                                                                 \
    X(bulk_requests) /* POST /agents/heartbeats, while it is there */                              \
    X(bulk_beats)    /* heartbeats judged in them */                                               \
    X(bulk_beats_ok)                                                                               \
    X(others)      /* every other request */                                                       \
    X(client_gone) /* clients that had left when their answer was due */                           \
    X(turned_away) /* connections closed at once: no descriptor was left */

struct stub_counts {
#define X(name) int64_t name;
    STUB_COUNT_ROWS(X)
#undef X
};

/* The same while they are counted. Any thread. */
struct counters {
#define X(name) _Atomic int64_t name;
    STUB_COUNT_ROWS(X)
#undef X
};

void counters_read(const struct counters *counters, struct stub_counts *out);
void counters_reset(struct counters *counters);
