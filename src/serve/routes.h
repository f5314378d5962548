/* The product's table of contents: what an agent or admin can ask for, and what becomes of it. */
#pragma once

#include "base/err.h"
#include "serve/request/route.h"

/* ERR_OK, or what route_split says against the path; there is a route in any case. */
enum err routes_match(struct span method, struct span path, struct span prefix, struct match *out);
