/* From held beats to the controller: who is due, one sender per agent, as many at a time as the
 * gate lets through (serve/gate/admission).
 *
 * Each agent has one worker that looks after its held beat: the owner keeps its appointments, in a
 * heap by time (while beats go in bulk one worker owns them all). A worker that receives a beat for
 * another's agent posts the owner a letter when the appointment must be earlier than the one it
 * has. First beats and changed states are sent by whoever receives them. */
#pragma once

#include "serve/request/context.h"

struct flush;
struct parcel;

struct flush *flush_new(struct serve *s);
void flush_free(struct flush *f);

/* Told once how a beat that somebody waits for ended, from the loop, the agent not locked. */
struct flush_waiter {
    /* `verdict_status` 0: delivered, or not delivered and held again. */
    void (*done)(struct flush_waiter *w, int verdict_status, const char *message);
};

/* Takes the agent's held beat to be sent from this worker. Under the agent's lock; only while the
 * beat is held, not `sending` and not `blocked`. `waiter` may be NULL; it lives until it is told,
 * or until flush_forget. False when there is no place at the controller: flush_schedule it. */
bool flush_prepare(struct flush *f, struct agent *agent, struct flush_waiter *waiter);
/* The same for a beat nobody waits for, in bulk where that is the way. */
bool flush_send(struct flush *f, struct agent *agent);
/* How many more may be under way, one by one. */
size_t flush_room(const struct flush *f);
/* Counts on `count` of them for beats that may be claimed in Redis; false: there is no room. */
bool flush_reserve(struct flush *f, size_t count);
void flush_unreserve(struct flush *f, size_t count);
/* Sends a beat that was claimed there. */
void flush_carry(struct flush *f, const struct parcel *p, struct flush_waiter *waiter);
/* The same for a beat nobody waits for, in bulk where that is the way. */
void flush_carry_any(struct flush *f, const struct parcel *p);
/* There may be room again. */
void flush_wake(struct flush *f);
/* Sends what was prepared last, if anything. Call it once the agent is unlocked. */
void flush_launch(struct flush *f);
/* The waiter does not want to know any more. */
void flush_forget(struct flush *f, struct flush_waiter *waiter);

/* Makes (or moves) the owner's appointment for the held beat. Under the agent's lock. */
void flush_schedule(struct serve *s, struct agent *agent);

/* TERM (shared->draining is set): everything held by this worker's agents is due now. */
void flush_drain(struct flush *f);

/* The heartbeat policy of the configuration. */
struct beat_policy flush_policy(const struct config *config);
