/* A received beat on its way into Redis, and the acknowledgement that waits for it.
 *
 *   storing_start --> Redis answers in time ------------> 201, or the verdict it knows
 *                 '-> not within heartbeat.ack_budget --> held in memory, 201 X-AIWM-Ack: memory;
 *                                                         released when Redis answers after all
 *                 '-> Redis is gone --------------------> held in memory, and on as without Redis
 *
 * No timer per beat: replies come in the order of the questions, and one timer watches the
 * oldest. A beat that is due at once, and which nobody else has, is given to us by the very
 * reply: it is sent from here without another round trip. */
#pragma once

#include "serve/beats/holding.h"

struct storing_queue;

/* A beat was stored that is due, and that nobody has. */
typedef void storing_due(struct serve *s);

struct storing_queue *storing_queue_new(struct serve *s, storing_due *on_due);
void storing_queue_free(struct storing_queue *q);

/* What is known here of the agent, perhaps no more true. */
struct storing_facts {
    uint64_t settled; /* up to this stamp its beats are */
    bool had_verdict;
    bool urgent; /* a first or changed one: there shall be a sender free for it */
};

/* False: it could not be asked, nothing was done. The agent is not locked. */
bool storing_start(struct serve *s, const struct request *r, const struct arrival *a,
                   const struct storing_facts *facts);
/* A beat held in memory goes there, too; it is released when it has arrived. Under the agent's
 * lock. False: it could not be asked. */
bool storing_move(struct serve *s, struct agent *agent);
