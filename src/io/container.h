/* What the container (its cgroup) and the machine let this process use. */
#pragma once

#include <stdint.h>

/* The lowest limits of the cgroups that this process is in: its own (a container's, a service's)
 * and all above it, cgroups(7). 0: none. `root` stands before /proc and /sys: "", but for tests. */
struct container_limits {
    int64_t processors; /* whole ones, rounded up */
    int64_t memory;     /* bytes */
};
struct container_limits container_limits(const char *root);

/* Whole processors: the smaller of our affinity and the cgroup's CPU limit; at least 1. */
int container_processors(void);
/* Bytes: the smaller of the cgroup's memory limit and the machine's memory. */
int64_t container_memory(void);
/* Bytes this process has in memory now; 0 when the kernel does not say. */
int64_t container_resident(void);
/* CPU that this process has used until now, all its threads, user and system; microseconds. */
int64_t container_cpu_us(void);
