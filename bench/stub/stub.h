/* A stand-in for the AIWM controller: the agent API as the real one answers it, everything else
 * from recordings, and a few routes of its own for tests of streaming.
 *
 * It runs in a thread of its own on evhttp and shares nothing with its caller: no signals, no
 * environment, no library-wide settings. All functions here may be called from any thread.
 *
 * Agents: ids 6a0000000000000000000000 + N in hex with N < agents, secret
 * "agent-secret-for-tests-N" (N decimal), and the special ones at 6a000000000000000f000000 + K
 * with secret "agent-secret-for-tests-K":
 *   0 suspended, 1 deleted, 2 without a secret, 3 managed with a deployment, 4 without an
 *   instruction, 5 inactive, 6 of another organization.
 *
 * POST /agents/heartbeats (docs/bulk-heartbeats.openapi.yaml) is there only if switched on.
 *
 * What evhttp does not let it imitate: malformed requests get evhttp's own answers, methods it has
 * no name for get 501, and HTTP/1.0 is answered as HTTP/1.0. */
#pragma once

#include "stub/counts.h"

#include <stdbool.h>
#include <stdint.h>

struct stub;

struct stub_options {
    const char *address;         /* NULL: 127.0.0.1 */
    int port;                    /* 0: any free one */
    int control_port;            /* loopback; 0: any free one; -1: none */
    const char *jwt_secret;      /* NULL: STUB_JWT_SECRET */
    int agents;                  /* 0: 1000; at most 1,000,000 */
    int64_t token_ttl_s;         /* 0: 24 h */
    int connect_cost_ms;         /* CPU really burnt per secret compared, as bcrypt would */
    int processors;              /* 0: that CPU is this machine's; else at most 4 of a machine of
                                    its own: on each a secret takes its time, and nothing here */
    bool bulk;                   /* POST /agents/heartbeats is there */
    const char *transcripts_dir; /* NULL: no recordings */
    const char *journal_file;    /* NULL: none; else each answered request is added to it as a line
                                    of JSON before the answer goes, so that a kill keeps it */
};

/* The secret that signed the tokens in the recordings. */
#define STUB_JWT_SECRET "aiwm-local-test-secret-0123456789abcdef"

/* Serves when it returns. NULL and a static text in *why on failure. */
struct stub *stub_start(const struct stub_options *options, const char **why);
/* Drops all connections, ends the thread and frees everything. */
void stub_stop(struct stub *stub);

int stub_port(const struct stub *stub);
/* -1: there is none. */
int stub_control_port(const struct stub *stub);

void stub_counts(const struct stub *stub, struct stub_counts *out);
