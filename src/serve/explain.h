/* What would become of a request, for operators who wonder: its route, who may, what is done, what
 * is kept of the answer, what bounds it. */
#pragma once

#include "base/str.h"
#include "serve/request/context.h"

/* `target`: the path as a client would send it, its query is not looked at. Writes JSON; false when
 * no request can look like that. */
bool explain(const struct shared *shared, struct span method, struct span target, struct str *out);
