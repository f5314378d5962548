/* A held beat on its way to the controller: taken from its agent, and settled by the answer
 * (settling.h). The two ways there, one by one (sending.h) and in bulk (bulk.h), begin and end
 * alike. */
#pragma once

#include "serve/request/context.h"

struct delivery {
    struct agent_id id;
    uint64_t sequence;
    uint64_t token; /* its hash: what a 401 binds to */
    uint64_t claim; /* the lease in Redis under which it goes; 0: it is held in memory */
    int64_t
        go_by_ms; /* monotonic: later its lease may end before its call does; 0: there is none */
    enum beat_status status;
    int64_t received_ms; /* monotonic */
};

/* What travels. */
struct parcel {
    struct delivery delivery;
    struct span body, token; /* borrowed from whoever holds the beat */
};

/* The agent's held beat, not taken yet; it borrows the agent's bytes. Under the agent's lock. */
struct parcel delivery_parcel(struct serve *s, const struct agent *agent);
/* May it still set out? A process that was stopped, or a batch that was kept while the controller
 * was left alone, may find that somebody else has sent it, and newer ones. */
bool delivery_may_go(const struct delivery *d);
/* Now it is under way. Under the agent's lock; only while it is held, not `sending` and not
 * `blocked`. */
void delivery_begin(struct agent *agent);

/* A beat that came at `received_ms` has got the controller's answer: times its way. */
void delivery_time(int64_t received_ms);
/* Whom the two ways tell. Both from the loop, no agent is locked. */
struct delivery_events {
    /* How it ended: `verdict_status` 0: no verdict, and `message` is not looked at. */
    void (*end)(struct serve *s, const struct delivery *d, enum beat_answer answer,
                int verdict_status, const char *message);
    /* There may be room for others. */
    void (*room)(struct serve *s);
};
