/* Beats in Redis that are due: this worker claims as many as it can send, sends them, and settles
 * them there. It looks when the next is due, and every quarter of a second. */
#pragma once

#include "serve/beats/durable.h"

struct claims;

struct claims *claims_new(struct serve *s);
void claims_free(struct claims *c);

/* Redis came, or went. */
void claims_on_redis(struct serve *s, bool here);
/* There may be room again. Nothing happens without Redis. */
void claims_wake(struct serve *s);
/* A beat is due that nobody has. */
void claims_note_due(struct serve *s);
/* TERM: what is due is sent; the rest stays in Redis. */
void claims_drain(struct serve *s);
/* Has nothing to wait for: no reply, and when draining nothing that is due. */
bool claims_are_idle(const struct serve *s);
