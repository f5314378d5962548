/* Heartbeats in bulk: one request for many, where the controller offers it
 * (docs/bulk-heartbeats.openapi.yaml) and a service token is configured.
 *
 * The first worker asks at the start and every ten minutes, with an empty list, whether the route
 * is there; until it is, and whenever it is not, beats go one by one. Each item carries its own
 * time, so beats do not expire on this way. One request is under way per worker; meanwhile the next
 * batch fills. */
#pragma once

#include "serve/beats/delivery.h"

struct bulk;

enum bulk_state { BULK_UNKNOWN, BULK_ON, BULK_OFF };

/* Borrows `on`. */
struct bulk *bulk_new(struct serve *s, const struct delivery_events *on);
void bulk_free(struct bulk *b);
/* A reload: whether bulk is wanted, or the service token, may have changed. */
void bulk_adopt(struct bulk *b);

/* Is this the way for beats now? */
bool bulk_is_on(const struct serve *s);
/* Has the batch room for one more? */
bool bulk_has_room(const struct bulk *b);
/* For how many, at least. */
size_t bulk_room(const struct bulk *b);
/* Takes it along. False: it does not fit, or cannot be spelled as an item; nothing was taken. */
bool bulk_take(struct bulk *b, const struct parcel *p);
/* The loops have stopped: what was not sent is held again. */
void bulk_close(struct bulk *b);
/* TERM: nobody waits for others any more. */
void bulk_drain(struct bulk *b);
