/* How much this process may be: processors, memory, descriptors, and what is configured. */
#pragma once

#include "rules/config/config.h"

#include <stddef.h>

/* The descriptors (RLIMIT_NOFILE) are divided at the start, so that nobody takes another's: with
 * all of his own in use each can still be served. Listeners, event loops, files, names and Redis
 * come first. */
struct capacity_descriptors {
    int64_t clients;    /* connections of agents, all workers together; at least 1 */
    size_t operators;   /* connections to the health port, and as many to the admin port */
    size_t controllers; /* connections to the controller, each worker; at least 1 */
};

size_t capacity_workers(const struct config *config);
/* Bytes for cached connects. */
size_t capacity_cache(const struct config *config);
/* Raises the limit of descriptors as far as allowed; says so in the log if it is too low. */
struct capacity_descriptors capacity_descriptors(const struct config *config, size_t workers);
