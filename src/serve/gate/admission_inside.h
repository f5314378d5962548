/* What admission.c (the gate that all workers share) and passage.c (one call on its way through it)
 * share, and nobody else sees. */
#pragma once

#include "serve/gate/admission.h"

#include <pthread.h>
#include <stdatomic.h>

struct passage_events;

/* A worker's: what it has at the gate, and whether it waits for room for heartbeats. */
struct desk {
    struct list passages;
    struct letter room; /* to on_room */
    void (*on_room)(struct serve *s);
    bool wants_room, room_posted; /* under the lock */
    /* Of who probes: it is told when a probe is wanted at once, and once until one has ended. */
    struct letter alarm; /* to on_alarm, NULL with the others */
    void (*on_alarm)(struct serve *s);
    bool alarm_posted, is_alarmed; /* under the lock */
    struct serve *serve;
};

struct admission {
    pthread_mutex_t lock;
    struct gate gate;
    size_t waiting_bytes;
    struct desk **desk; /* of each worker */
    size_t turn;        /* the desk that is told of room next */
    _Atomic int state;  /* enum controller */
    _Atomic bool doubtful;
    _Atomic bool suspected; /* see admission_take_suspicion */
    _Atomic int64_t heard_ms;
};

struct passage {
    struct list link; /* in the desk's */
    struct letter called;
    struct serve *serve;
    struct gate_ticket ticket;
    struct call *call; /* NULL: not yet */
    const struct passage_events *on;
    void *arg;
    struct admission_terms terms;
    struct call_request request; /* kept while it waits; head and body are: */
    char *kept;
    struct timer timer;      /* patience; or 0 ms, to refuse from the loop */
    enum gate_answer answer; /* under the lock, until it is called or refused */
    int retry_after_s;
    int64_t asked_us; /* monotonic */
    int64_t took_us;
    bool may_be_silent;
    bool is_called; /* under the lock: its letter is on its way */
    bool left;      /* its owner does not want it any more; the letter will find nobody */
};

/* Locks the gate, divided by the replicas known now. One of the next two unlocks it. */
struct gate *admission_enter(struct shared *shared);
/* After a change: unlocks it, and those whom the change concerns are told. `why` for the log. */
void admission_settle(struct shared *shared, int64_t now_us, const char *why);
/* Nothing has changed: unlocks it. */
void admission_look_only(const struct shared *shared);
