/* Is this a Redis we can work with? */
#pragma once

#include "io/redis.h"

/* A Redis that is away comes later, and nobody waits for it longer than a first attempt takes. One
 * in Cluster mode never fits: that is a mistake in the configuration. Waits; before the threads. */
bool trial_redis_fits(const struct redis_options *options);
