/* A held beat on its way to the controller: taken from its agent, and settled by the answer. The
 * two ways there, one by one (flush.c) and in bulk (bulk.c), begin and end alike. */
#pragma once

#include "serve/serve.h"

struct delivery {
    struct agent_id id;
    uint64_t sequence;
    uint64_t token; /* its hash: what a 401 binds to */
    enum beat_status status;
};

/* Under the agent's lock; only while the beat is held, not `sending` and not `blocked`. */
struct delivery delivery_begin(struct serve *s, struct agent *agent);

/* `verdict_status` 0: no verdict, and `message` is not looked at. The agent is not locked. */
void delivery_end(struct serve *s, const struct delivery *d, enum beat_answer answer,
                  int verdict_status, const char *message);
