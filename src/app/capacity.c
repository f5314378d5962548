#include "app/capacity.h"

#include "base/log.h"
#include "io/container.h"

#include <sys/resource.h>

size_t capacity_workers(const struct config *config) {
    enum { WORKERS_MAX = 64 };
    if (config->workers > 0)
        return (size_t)config->workers;
    int count = container_processors();
    return count > WORKERS_MAX ? WORKERS_MAX : (size_t)count;
}

/* Cached connects may take a quarter of what the container may have, whatever is configured. */
size_t capacity_cache(const struct config *config) {
    int64_t quarter = container_memory() / 4;
    return (size_t)(config->connect_cache.memory < quarter ? config->connect_cache.memory
                                                           : quarter);
}

/* Returns how many descriptors this process may have. */
static int64_t raise_descriptors(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return INT64_MAX;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur > INT64_MAX ? INT64_MAX : (int64_t)limit.rlim_cur;
}

/* A part of the descriptors is for calls to the controller. Beyond the rest a connection could not
 * be taken, and no stranger could make room for it (io/server). */
int64_t capacity_connections(const struct config *config) {
    enum { CALLS_MAX = 2048 };
    int64_t all = raise_descriptors(), wanted = config->listen.max_connections;
    int64_t usable = all - (all / 4 < CALLS_MAX ? all / 4 : CALLS_MAX);
    if (usable >= wanted)
        return wanted;
    log_warn("fewer descriptors than listen.max_connections and the calls to the controller need: "
             "raise the limit of open files",
             F_INT("descriptors", all), F_INT("max_connections", wanted), F_INT("used", usable));
    return usable;
}
