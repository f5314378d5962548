#include "app/capacity.h"

#include "base/log.h"
#include "io/container.h"
#include "io/operator_conns.h"

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

static int64_t at_most(int64_t value, int64_t most) {
    return value < most ? value : most;
}

static int64_t at_least(int64_t value, int64_t least) {
    return value > least ? value : least;
}

/* What is not a connection of a client, an operator or to the controller. */
static int64_t needed_first(const struct config *config, int64_t workers) {
    enum {
        PROCESS = 32,  /* log, signals, listeners and loop of the main thread; files of a reload */
        WORKER = 16,   /* loop, mailbox, listener and its copy for a successor, spare, resolvers */
        REDIS_LINK = 8 /* connection, sentinel, resolvers of both */
    };
    int64_t links = config->redis.url[0] ? workers + 2 : 0; /* and those of io/main: peers, tail */
    links += config->aiwm_events.redis_url[0] ? 1 : 0;
    return PROCESS + workers * WORKER + links * REDIS_LINK;
}

/* Each port's: a third of what is left at most, and not less than a few. */
static int64_t operators_share(int64_t left) {
    enum { LEAST = 8 };
    return at_least(at_most(left / 3, OPERATOR_CONNS_MAX), LEAST);
}

/* A quarter. With few descriptors half at most: a client has one call at a time. */
static int64_t controllers_share(int64_t left, int64_t workers) {
    enum { A_WORKER = 1024, LEAST_A_WORKER = 16 };
    int64_t share = at_least(left / 4, at_most(left / 2, workers * LEAST_A_WORKER));
    return at_least(at_most(share / workers, A_WORKER), 1);
}

struct capacity_descriptors capacity_descriptors(const struct config *config, size_t workers) {
    enum { PORTS = 2, ARRIVING = 1 /* accepted, and not admitted yet */ };
    int64_t all = raise_descriptors(), wanted = config->listen.max_connections;
    int64_t left = all - needed_first(config, (int64_t)workers);
    int64_t operators = operators_share(left);
    left -= PORTS * (operators + ARRIVING);
    int64_t controllers = controllers_share(left, (int64_t)workers);
    left -= (int64_t)workers * controllers;
    if (left < wanted || operators < OPERATOR_CONNS_MAX)
        log_warn("fewer descriptors than listen.max_connections and the reserves need: raise the "
                 "limit of open files",
                 F_INT("descriptors", all), F_INT("max_connections", wanted),
                 F_INT("clients", at_least(left, 1)), F_INT("operators_each_port", operators),
                 F_INT("controller_each_worker", controllers));
    return (struct capacity_descriptors){.clients = at_least(at_most(left, wanted), 1),
                                         .operators = (size_t)operators,
                                         .controllers = (size_t)controllers};
}
