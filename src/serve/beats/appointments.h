/* When held beats are due, and who sees to them.
 *
 * Each agent has one worker that looks after its held beat: the owner keeps its appointments, in a
 * heap by time (while beats go in bulk one worker owns them all). A worker that receives a beat for
 * another's agent posts the owner a letter when the appointment must be earlier than the one it
 * has. First beats and changed states are sent by whoever receives them. */
#pragma once

#include "serve/request/context.h"

struct appointments;

/* It is time: the agent's beat is to be seen to now. Under the agent's lock. */
typedef void appointments_keep(struct serve *s, struct agent *agent);

struct appointments *appointments_new(struct serve *s, appointments_keep *keep);
void appointments_free(struct appointments *book);

/* Makes (or moves) the owner's appointment for the held beat. Under the agent's lock. */
void appointments_schedule(struct serve *s, struct agent *agent);
/* When the held beat is due; monotonic. Under the agent's lock. */
int64_t appointments_due_ms(struct serve *s, const struct agent *agent);
/* There may be room at the controller for what is due. */
void appointments_look(struct appointments *book);
