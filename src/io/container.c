#include "io/container.h"

#include "base/panic.h"

#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* The first line of a small file of the kernel's that begins with `start`; false: there is none. */
static bool read_line(const char *path, const char *start, char *line, int size) {
    FILE *f = fopen(path, "re");
    bool found = false;
    while (f && !found && fgets(line, size, f))
        found = strncmp(line, start, strlen(start)) == 0;
    if (f)
        (void)fclose(f);
    return found;
}

/* ---- limits ---- */

static void lower(int64_t *limit, int64_t to) {
    if (to > 0 && (*limit == 0 || to < *limit))
        *limit = to;
}

/* "quota period" in microseconds, or "max period". 0: no limit. */
static int64_t read_cpu_max(const char *line) {
    char *rest;
    int64_t quota = strtoll(line, &rest, 10);
    int64_t period = quota > 0 ? strtoll(rest, NULL, 10) : 0;
    return period > 0 ? (quota + period - 1) / period : 0;
}

/* A number, or "max": no limit. */
static int64_t read_memory_max(const char *line) {
    return strtoll(line, NULL, 10);
}

/* What `file` of the group at `group` says lowers `limit`. */
static void heed(const char *root, const char *group, const char *file,
                 int64_t (*read)(const char *line), int64_t *limit) {
    char path[PATH_MAX], line[64];
    int len = snprintf(path, sizeof path, "%s/sys/fs/cgroup%s/%s", root, group, file);
    if (len < (int)sizeof path && read_line(path, "", line, sizeof line))
        lower(limit, read(line));
}

/* Version 2 has one line, "0::/system.slice/aiwm-gateway.service"; in a container it is "0::/". */
static void own_group(const char *root, char group[PATH_MAX]) {
    char path[PATH_MAX], line[PATH_MAX];
    group[0] = 0;
    int len = snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    if (len >= (int)sizeof path || !read_line(path, "0::/", line, sizeof line))
        return;
    line[strcspn(line, "\n")] = 0;
    memcpy(group, line + strlen("0::"), strlen(line + strlen("0::")) + 1);
}

struct container_limits container_limits(const char *root) {
    struct container_limits limits = {0};
    char group[PATH_MAX];
    own_group(root, group);
    for (char *slash = group + strlen(group); slash; slash = strrchr(group, '/')) {
        *slash = 0;
        heed(root, group, "cpu.max", read_cpu_max, &limits.processors);
        heed(root, group, "memory.max", read_memory_max, &limits.memory);
    }
    if (limits.memory == 0) /* version 1 */
        heed(root, "/memory", "memory.limit_in_bytes", read_memory_max, &limits.memory);
    return limits;
}

int container_processors(void) {
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    int64_t limit = container_limits("").processors;
    if (limit > 0 && limit < count)
        count = (int)limit;
    return count < 1 ? 1 : count;
}

int64_t container_memory(void) {
    int64_t machine = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    int64_t limit = container_limits("").memory;
    return limit > 0 && limit < machine ? limit : machine;
}

/* ---- use ---- */

int64_t container_cpu_us(void) {
    struct rusage used;
    invariant(getrusage(RUSAGE_SELF, &used) == 0);
    return (int64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000 +
           used.ru_utime.tv_usec + used.ru_stime.tv_usec;
}

/* The second number of statm: resident pages (proc(5)). */
int64_t container_resident(void) {
    char line[128], *rest;
    if (!read_line("/proc/self/statm", "", line, sizeof line))
        return 0;
    (void)strtoll(line, &rest, 10);
    return strtoll(rest, NULL, 10) * sysconf(_SC_PAGESIZE);
}
