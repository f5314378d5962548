/* The controller's own no (401, 403, 404) to an agent's heartbeat: repeated to its next ones
 * until the controller has answered a connect, or for ten minutes.
 *
 * A 401 binds to the token it was said to, 403 and 404 to the agent. Everything here happens under
 * the agent's lock. */
#pragma once

#include "serve/beats/durable.h"
#include "serve/gate/fetch.h"

enum { VERDICT_MS = 600000 /* 10 min */ };

/* Is this answer such a no? Anybody else's 401, 403 and 404 (a proxy's, a wrong prefix') is not.
 * Copies the message. */
bool verdict_said(const struct fetched *result, char message[256]);

/* Notes it, and forgets the cached connect: it would hand out the refused token again. */
void verdict_keep(struct serve *s, struct agent *agent, uint64_t token_hash, int status,
                  const char *message);
/* The verdict that holds for this token, or NULL. Valid under the lock. */
const struct verdict *verdict_for(struct serve *s, struct agent *agent, struct span token);
/* The controller itself has let the agent in: told to all replicas. */
void verdict_lift(struct serve *s, struct agent *agent);
/* It holds no more; nobody is told. */
void verdict_forget(struct agent *agent);
/* As it stands in Redis for the other replicas; status 0: there is none. It borrows the message. */
struct durable_verdict verdict_to_share(const struct agent *agent);
