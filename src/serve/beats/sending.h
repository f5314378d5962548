/* Beats on their way to the controller: one sender per agent, as many at a time as the gate lets
 * through (serve/gate/admission), or with many others in bulk. */
#pragma once

#include "serve/beats/delivery.h"

struct sending;

/* Borrows `on`. */
struct sending *sending_new(struct serve *s, const struct delivery_events *on);
void sending_free(struct sending *g);

/* Told once how a beat that somebody waits for ended, from the loop, the agent not locked. */
struct sending_waiter {
    /* `verdict_status` 0: delivered, or not delivered and held again. */
    void (*done)(struct sending_waiter *w, int verdict_status, const char *message);
};

/* Takes the agent's held beat to be sent from this worker. Under the agent's lock; only while the
 * beat is held, not `sending` and not `blocked`. `waiter` may be NULL; it lives until it is told,
 * or until sending_forget. False when there is no place at the controller: make an appointment. */
bool sending_prepare(struct sending *g, struct agent *agent, struct sending_waiter *waiter);
/* The same for a beat nobody waits for, in bulk where that is the way. */
bool sending_take(struct sending *g, struct agent *agent);
/* How many more may be under way, one by one. */
size_t sending_room(const struct sending *g);
/* Counts on `count` of them for beats that may be claimed in Redis; false: there is no room. */
bool sending_reserve(struct sending *g, size_t count);
void sending_unreserve(struct sending *g, size_t count);
/* Sends a beat that was claimed there. */
void sending_carry(struct sending *g, const struct parcel *p, struct sending_waiter *waiter);
/* The same for a beat nobody waits for, in bulk where that is the way. */
void sending_carry_any(struct sending *g, const struct parcel *p);
/* Sends what was prepared last, if anything. Call it once the agent is unlocked. */
void sending_launch(struct sending *g);
/* The waiter does not want to know any more. */
void sending_forget(struct sending *g, struct sending_waiter *waiter);
