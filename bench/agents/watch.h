/* What the run does to others: the controller's counts, the gateway's fates of heartbeats, CPU and
 * memory of all. Asked from outside: no target needs to know of the bench. */
#pragma once

#include "agents/record.h"
#include "io/loop.h"

#include <sys/types.h>

/* What became of the heartbeats that the gateway has acknowledged; -1: unknown. */
struct fates {
    int64_t received, delivered, superseded, expired, held;
};

struct watch;

struct watch_options {
    struct loop *loop;
    int control_port, health_port; /* 0: none */
};

struct watch *watch_new(const struct watch_options *options);
void watch_free(struct watch *w);
/* Asks both; `done` (may be NULL) comes when both have answered or cannot, and a watch_set before
 * it is done; perhaps at once. A call while one is under way joins it, and takes over `done`. */
void watch_ask(struct watch *w, void (*done)(void *arg), void *arg);
/* POST /set on the stub's control port; false when there is none or it is busy. */
bool watch_set(struct watch *w, const char *json);

/* As of the last answer. */
struct seen watch_seen(const struct watch *w);
struct fates watch_fates(const struct watch *w);

/* Of a process, now; pid 0: unknown. */
struct usage usage_of(pid_t pid);
/* One line of Prometheus' text, without labels; -1 when it is not there. Pure. */
int64_t watch_metric(struct span text, struct span name);
