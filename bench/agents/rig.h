/* The processes of a run: a stub and a gateway of our own, or pids that we were given. What was
 * started here is stopped here, whatever happens: it ends with us (PR_SET_PDEATHSIG). */
#pragma once

#include "agents/record.h"
#include "agents/scenario.h"
#include "base/str.h"

#include <sys/types.h>

enum { RIG_WHY = 320, RIG_ENV_MAX = 16 };

struct rig_options {
    bool stub, gateway; /* start them */
    bool redis;         /* the gateway that is started has one of its own */
    bool tls;           /* of the gateway */
    size_t agents;
    int connect_cost_ms;          /* of the stub */
    int processors;               /* likewise: of its own machine; 0: this one's */
    bool bulk;                    /* likewise */
    const char *env[RIG_ENV_MAX]; /* NAME=VALUE for the gateway; NULL ends the list */
    pid_t gateway_pid, controller_pid, redis_pid; /* given; 0: none */
};

struct rig;

/* NULL with a sentence in `why`. Waits until they serve, 15 s at most. */
struct rig *rig_start(const struct rig_options *options, char why[RIG_WHY]);
/* TERM, then KILL after 10 s; frees everything. */
void rig_stop(struct rig *r);

/* "http://127.0.0.1:1234", of the gateway if there is one. */
const char *rig_url(const struct rig *r);
/* The certificate to trust; empty: none. */
struct span rig_ca(const struct rig *r);
/* Ports, 0: unknown. */
int rig_stub_control_port(const struct rig *r);
int rig_health_port(const struct rig *r);
/* 0: unknown. */
pid_t rig_gateway_pid(const struct rig *r);
pid_t rig_controller_pid(const struct rig *r);

/* Stages STAGE_GATEWAY, and STAGE_CONTROLLER and STAGE_REDIS with pause, resume or kill. False with
 * a sentence in `why` when it cannot be done here. */
bool rig_do(struct rig *r, const struct stage *stage, char why[RIG_WHY]);
/* Reads and drops what the gateway has logged, so that it never has to drop lines itself. */
void rig_drain(struct rig *r);
