/* The gateway's own limits: measures what rules/gate/shed judges by, ten times a second and worker,
 * and refuses (503) what is to be given up. One timer a worker; the look at a request is a
 * comparison.
 */
#pragma once

#include "serve/request/request.h"

struct shedding;

struct shedding *shedding_new(struct serve *s);
void shedding_free(struct shedding *sh);

/* ERR_OK, or ERR_OVERLOADED and its Retry-After: some seconds, more for what is given up first. */
enum err shedding_judge(struct serve *s, const struct request *r, int *retry_after_s);
