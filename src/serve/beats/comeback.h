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
