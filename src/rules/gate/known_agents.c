#include "rules/gate/known_agents.h"

#include "base/panic.h"
#include "rules/gate/limits.h"

#include <pthread.h>
#include <stdlib.h>

enum { PAIR_WAYS = 8, PLACE_WAYS = 4 };

/* An agent at an address. */
struct pair {
    uint64_t key; /* of both; 0: empty */
    uint32_t period;
};

struct place {
    uint64_t address; /* 0: empty */
    uint32_t period;
    uint32_t agents, before; /* of that period, of the one before it */
};

struct known_agents {
    pthread_mutex_t lock;
    uint32_t period;              /* the latest seen: two threads' times may differ a little */
    size_t pair_sets, place_sets; /* powers of two */
    struct pair *pair;
    struct place *place;
};

static size_t sets_for(size_t entries, size_t ways) {
    size_t sets = 1;
    while (sets * ways < entries)
        sets *= 2;
    return sets;
}

struct known_agents *known_agents_new(size_t agents, size_t addresses) {
    struct known_agents *k = must_zalloc(sizeof *k);
    pthread_mutex_init(&k->lock, NULL);
    k->pair_sets = sets_for(agents, PAIR_WAYS);
    k->place_sets = sets_for(addresses, PLACE_WAYS);
    k->pair = must_zalloc(k->pair_sets * PAIR_WAYS * sizeof *k->pair);
    k->place = must_zalloc(k->place_sets * PLACE_WAYS * sizeof *k->place);
    return k;
}

void known_agents_free(struct known_agents *k) {
    if (!k)
        return;
    pthread_mutex_destroy(&k->lock);
    free(k->pair);
    free(k->place);
    free(k);
}

uint32_t known_agents_period(int64_t now_us) {
    return (uint32_t)(now_us / KNOWN_AGENTS_PERIOD_US) + 1;
}

/* ---- pairs ---- */

/* False: it was added in this period, or there is no room. */
static bool add_pair(struct known_agents *k, uint64_t key, uint32_t period) {
    struct pair *set = k->pair + (key & (k->pair_sets - 1)) * PAIR_WAYS, *oldest = set;
    for (struct pair *p = set; p < set + PAIR_WAYS; p++) {
        if (p->key == key) {
            oldest = p;
            break;
        }
        if (p->period < oldest->period)
            oldest = p;
    }
    if (oldest->period == period)
        return false;
    *oldest = (struct pair){key, period};
    return true;
}

/* ---- addresses ---- */

static struct place *place_set(struct known_agents *k, uint64_t address) {
    return k->place + (address & (k->place_sets - 1)) * PLACE_WAYS;
}

/* How many that is at `period`. */
static uint32_t agents_at(const struct place *p, uint32_t period) {
    if (p->period == period)
        return p->agents > p->before ? p->agents : p->before;
    return p->period + 1 == period ? p->agents : 0;
}

static struct place *find_or_make(struct known_agents *k, uint64_t address, uint32_t period) {
    struct place *set = place_set(k, address), *smallest = set;
    for (struct place *p = set; p < set + PLACE_WAYS; p++) {
        if (p->address == address)
            return p;
        if (agents_at(p, period) < agents_at(smallest, period))
            smallest = p;
    }
    *smallest = (struct place){.address = address, .period = period};
    return smallest;
}

static void add_agent(struct place *p, uint32_t period) {
    if (p->period != period) {
        p->before = p->period + 1 == period ? p->agents : 0;
        p->agents = 0;
        p->period = period;
    }
    p->agents++;
}

/* ---- the whole ---- */

/* Locks; the period it is. */
static uint32_t lock_at(struct known_agents *k, int64_t now_us) {
    uint32_t period = known_agents_period(now_us);
    pthread_mutex_lock(&k->lock);
    if (period > k->period)
        k->period = period;
    return k->period;
}

void known_agents_add(struct known_agents *k, uint64_t address, uint64_t agent, int64_t now_us) {
    uint32_t period = lock_at(k, now_us);
    if (add_pair(k, limits_key_of_both(agent, address), period))
        add_agent(find_or_make(k, address, period), period);
    pthread_mutex_unlock(&k->lock);
}

int64_t known_agents_count(struct known_agents *k, uint64_t address, int64_t now_us) {
    uint32_t period = lock_at(k, now_us);
    const struct place *set = place_set(k, address);
    int64_t agents = 0;
    for (const struct place *p = set; p < set + PLACE_WAYS; p++)
        if (p->address == address)
            agents = agents_at(p, period);
    pthread_mutex_unlock(&k->lock);
    return agents;
}
