/* How much this process may be: processors, memory, descriptors, and what is configured. */
#pragma once

#include "rules/config/config.h"

size_t capacity_workers(const struct config *config);
/* Bytes for cached connects. */
size_t capacity_cache(const struct config *config);
/* Clients' connections; raises the limit of descriptors, and says so if it is too low. */
int64_t capacity_connections(const struct config *config);
