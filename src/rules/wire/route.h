/* Paths as the controller's router sees them: case-insensitive, one trailing slash allowed,
 * percent-escapes decoded. Every spelling of a path gets the same rules as the plain one. */
#pragma once

#include "base/err.h"
#include "base/span.h"

enum { ROUTE_SEGMENTS_MAX = 16, ROUTE_MEMORY = 512, ROUTE_PARAMS_MAX = 2 };

/* A path taken apart. Borrows the path, and itself where something was decoded: not to be copied.
 */
struct route_path {
    size_t count;                            /* segments; 0 for "/" */
    struct span segment[ROUTE_SEGMENTS_MAX]; /* decoded */
    bool plain; /* false: no pattern matches (too long, undecodable, empty segments, "*"); `segment`
                   ends before that */
    char memory[ROUTE_MEMORY];
};

/* The path without the prefix, when the prefix matches whole segments; else the path as it is. */
struct span route_strip(struct span path, struct span prefix);

/* ERR_OK, or ERR_BAD_PATH for dot segments in any spelling: what is authorised here must be what
 * is reached there, whoever resolves them in between. */
enum err route_split(struct span path, struct route_path *out);

/* Does "/agents/:id/connect" match? Parameters (":name") are copied to `params` in order; a final
 * "*" takes any rest, also none. */
bool route_matches(const char *pattern, const struct route_path *path,
                   struct span params[ROUTE_PARAMS_MAX]);

/* The same, but of a path that is not plain what stands before the trouble is enough for a final
 * "*". For what decides nothing about rights. */
bool route_begins(const char *pattern, const struct route_path *path,
                  struct span params[ROUTE_PARAMS_MAX]);
