/* What the container (its cgroup) and the machine let this process use. */
#pragma once

#include <stdint.h>

/* Whole processors: the smaller of our affinity and the cgroup's CPU limit; at least 1. */
int container_processors(void);
/* Bytes: the smaller of the cgroup's memory limit and the machine's memory. */
int64_t container_memory(void);
/* Bytes this process has in memory now; 0 when the kernel does not say. */
int64_t container_resident(void);
/* CPU that this process has used until now, all its threads, user and system; microseconds. */
int64_t container_cpu_us(void);
