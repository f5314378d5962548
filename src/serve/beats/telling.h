/* What the controller said of an agent is told to Redis: what it has heard (so that no older beat
 * goes after it), verdicts, and that they were lifted. At once where Redis is here, else when it is
 * back (comeback.h). */
#pragma once

#include "serve/beats/durable.h"

struct telling;

/* NULL without Redis. */
struct telling *telling_new(struct serve *s);
void telling_free(struct telling *t); /* NULL is fine */
/* Has Redis answered all it was told? */
bool telling_is_idle(const struct serve *s);

/* Tells it; the agent's lease, if it has one, is given back. Under the agent's lock; nothing
 * happens without Redis. */
void telling_note(struct serve *s, struct agent *agent);
/* Redis went before it said what it made of this claim: when it is back it hears what is known of
 * the agent, and the agent is given back. `open`: nobody has counted the beat yet. The agent is not
 * locked. */
void telling_give_back_later(struct serve *s, const struct delivery *d, bool open);
/* A verdict was lifted. Under the agent's lock. */
void telling_note_lift(struct serve *s, struct agent *agent);

/* Tells what has not been told of this agent, and takes it there while a call of ours is under way.
 * Under its lock. False: not all could be asked; again. */
bool telling_catch_up(struct serve *s, struct agent *agent);
/* Was everything told that happened while Redis was away? Nothing may be claimed before. */
bool telling_is_complete(const struct serve *s);
/* It was, up to this one of Redis' arrivals. */
void telling_note_complete(struct serve *s, uint64_t arrivals);
