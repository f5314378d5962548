#include "io/container.h"

#include "base/panic.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

/* The first line of a small file of the kernel's; false when there is no such file. */
static bool read_line(const char *path, char *line, int size) {
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    bool read = fgets(line, size, f) != NULL;
    (void)fclose(f);
    return read;
}

/* cgroup v2's cpu.max: "quota period" in microseconds, or "max period". 0: no limit. */
static int cgroup_processors(void) {
    char line[64], *rest;
    if (!read_line("/sys/fs/cgroup/cpu.max", line, sizeof line))
        return 0;
    long quota = strtol(line, &rest, 10);
    long period = quota > 0 ? strtol(rest, NULL, 10) : 0;
    return period > 0 ? (int)((quota + period - 1) / period) : 0;
}

int container_processors(void) {
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    int limit = cgroup_processors();
    if (limit > 0 && limit < count)
        count = limit;
    return count < 1 ? 1 : count;
}

/* v2's memory.max ("max": none), else v1's. 0: no limit. */
static int64_t cgroup_memory(void) {
    static const char *const paths[] = {"/sys/fs/cgroup/memory.max",
                                        "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
    char line[64];
    for (int i = 0; i < 2; i++)
        if (read_line(paths[i], line, sizeof line))
            return strtoll(line, NULL, 10);
    return 0;
}

int64_t container_memory(void) {
    int64_t machine = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    int64_t limit = cgroup_memory();
    return limit > 0 && limit < machine ? limit : machine;
}

int64_t container_cpu_us(void) {
    struct rusage used;
    invariant(getrusage(RUSAGE_SELF, &used) == 0);
    return (int64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000 +
           used.ru_utime.tv_usec + used.ru_stime.tv_usec;
}

/* The second number of statm: resident pages (proc(5)). */
int64_t container_resident(void) {
    char line[128], *rest;
    if (!read_line("/proc/self/statm", line, sizeof line))
        return 0;
    (void)strtoll(line, &rest, 10);
    return strtoll(rest, NULL, 10) * sysconf(_SC_PAGESIZE);
}
