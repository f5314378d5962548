/* Connects answered from an old grant, seen to later: the controller is asked at the refresh rate,
 * and what it says is learnt.
 *
 * A waiting refresh needs the agent's secret. It is kept in locked memory only (io/vault), at most
 * REFRESH_SLOTS of them in the process, for REFRESH_WAIT_MS; then, or when it has been sent, it is
 * cleansed. What finds no room or no time is dropped and counted: the agent's next connect will do.
 */
#pragma once

#include "serve/request/request.h"

struct refresh;

enum { REFRESH_SLOTS = 1024, REFRESH_WAIT_MS = 30000 };

/* Its turn has come: the controller is to be asked, unless somebody does already. `body` is the
 * connect's; borrowed, cleansed afterwards. */
typedef void refresh_go(struct serve *s, const struct grant_pass *pass, struct span body);

struct refresh *refresh_new(struct serve *s, refresh_go *go);
/* Cleanses what waits. */
void refresh_free(struct refresh *r);

/* Wants this agent's grant to be fetched again. `body` is the connect's, with the secret. Under the
 * agent's lock; once per agent at a time. */
void refresh_want(struct refresh *r, struct agent *agent, const struct grant_pass *pass,
                  struct span body);

/* May the controller be asked now, of free choice? Takes a place in the refresh rate. */
bool refresh_take_place(struct serve *s);
