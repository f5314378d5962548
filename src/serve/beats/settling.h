/* A delivery's end, noted where its beat is held: in the agent's entry here, or in Redis, which is
 * told. Whoever waits for the agent is next. */
#pragma once

#include "serve/beats/delivery.h"

struct settling;

struct settling *settling_new(void);
void settling_free(struct settling *st);

/* As delivery_events' `end`. */
void settling_end(struct serve *s, const struct delivery *d, enum beat_answer answer,
                  int verdict_status, const char *message);
/* Has Redis answered all it was told? */
bool settling_is_idle(const struct serve *s);
