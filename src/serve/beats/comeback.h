/* What happened without Redis is told to it when it comes back, before anything is claimed there:
 * what the controller has heard (so that no older beat goes after it), verdicts, and the beats that
 * are held in memory. */
#pragma once

#include "serve/beats/durable.h"

/* Tells all that this worker's agents have to tell. False: not everything could be asked; again.
 * `on_hello` gets the reply to durable_hello(). */
bool comeback_tell(struct serve *s, redis_done *on_hello, void *arg);
/* What this worker's agents hold in memory goes to Redis, which was slow. False: not all; again. */
bool comeback_gather(struct serve *s);
/* Redis went: held beats are sent from memory again. */
void comeback_go_on(struct serve *s);

/* What the controller said of the agent goes to Redis, at once where it is here; the agent's lease,
 * if it has one, is given back. Under the agent's lock; nothing happens without Redis. */
void comeback_note(struct serve *s, struct agent *agent);
/* Redis went before it said what it made of this claim: when it is back it hears what is known of
 * the agent, and the agent is given back. `open`: nobody has counted the beat yet. The agent is not
 * locked. */
void comeback_give_back_later(struct serve *s, const struct delivery *d, bool open);
/* A verdict was lifted. Under the agent's lock. */
void comeback_note_lift(struct serve *s, struct agent *agent);

struct comeback;
struct comeback *comeback_new(struct serve *s);
void comeback_free(struct comeback *b);
bool comeback_is_idle(const struct serve *s);
