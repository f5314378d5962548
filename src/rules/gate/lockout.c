#include "rules/gate/lockout.h"

#include "base/panic.h"

#include <pthread.h>
#include <stdlib.h>

enum { WAYS = 4 };

struct place {
    uint64_t address; /* 0: nobody's */
    int64_t due_us;
};

struct locked {
    uint64_t agent; /* 0: empty */
    int64_t until_us;
    int64_t next_place_us; /* due when the next place dealt is */
    struct place place[LOCKOUT_ADDRESSES];
};

struct lockout {
    pthread_mutex_t lock;  /* of `locked` */
    struct limits *tries;  /* judged: per agent */
    struct limits *shares; /* per agent and address */
    size_t sets;           /* a power of two */
    struct locked *locked;
};

struct lockout *lockout_new(size_t agents, size_t keys, const uint8_t hash_key[16]) {
    struct lockout *l = must_zalloc(sizeof *l);
    pthread_mutex_init(&l->lock, NULL);
    l->tries = limits_new(keys, hash_key);
    l->shares = limits_new(keys, hash_key);
    l->sets = 1;
    while (l->sets * WAYS < agents)
        l->sets *= 2;
    l->locked = must_zalloc(l->sets * WAYS * sizeof *l->locked);
    return l;
}

void lockout_free(struct lockout *l) {
    if (!l)
        return;
    pthread_mutex_destroy(&l->lock);
    limits_free(l->tries);
    limits_free(l->shares);
    free(l->locked);
    free(l);
}

/* ---- who is locked ---- */

static struct locked *set_of(struct lockout *l, uint64_t agent) {
    return l->locked + (agent & (l->sets - 1)) * WAYS;
}

/* NULL: not locked, or not any more. */
static struct locked *find(struct lockout *l, uint64_t agent, int64_t now_us) {
    struct locked *set = set_of(l, agent);
    for (struct locked *e = set; e < set + WAYS; e++)
        if (e->agent == agent && e->until_us > now_us)
            return e;
    return NULL;
}

static struct locked *make(struct lockout *l, uint64_t agent, int64_t now_us, int64_t gap_us) {
    struct locked *set = set_of(l, agent), *into = set;
    for (struct locked *e = set; e < set + WAYS && into->agent != agent; e++)
        if (e->agent == agent || e->until_us < into->until_us)
            into = e;
    *into = (struct locked){
        .agent = agent, .until_us = now_us + LOCKOUT_LOCKED_US, .next_place_us = now_us + gap_us};
    return into;
}

/* ---- places ---- */

static bool is_free(const struct place *p, int64_t now_us) {
    return p->address == 0 || now_us - p->due_us > LOCKOUT_KEPT_US;
}

/* The address' own place, else one that nobody has (address 0), else NULL. */
static struct place *find_place(struct locked *e, uint64_t address, int64_t now_us) {
    struct place *empty = NULL;
    for (struct place *p = e->place; p < e->place + LOCKOUT_ADDRESSES; p++) {
        if (is_free(p, now_us))
            *(empty = p) = (struct place){0};
        else if (p->address == address)
            return p;
    }
    return empty;
}

static void deal(struct locked *e, struct place *p, uint64_t address, int64_t now_us,
                 int64_t gap_us) {
    int64_t due_us = e->next_place_us > now_us ? e->next_place_us : now_us;
    *p = (struct place){address, due_us};
    e->next_place_us = due_us + gap_us;
}

/* 0: its place is due, and used up. */
static int64_t ask_place(struct locked *e, uint64_t address, int64_t now_us, int64_t gap_us) {
    struct place *p = find_place(e, address, now_us);
    if (!p) /* full: somebody's place may be free by then */
        return gap_us;
    if (p->address == 0)
        deal(e, p, address, now_us, gap_us);
    int64_t wait_us = p->due_us - now_us;
    if (wait_us > 0)
        return wait_us;
    p->address = 0;
    return 0;
}

/* ---- the whole ---- */

/* NULL: not locked. Locks it where too many have failed, here or at other replicas. */
static struct locked *find_or_lock(struct lockout *l, const struct lockout_policy *policy,
                                   uint64_t agent, int64_t now_us) {
    struct locked *e = find(l, agent, now_us);
    if (!e && limits_wait_us(l->tries, agent, &policy->limit, now_us) > 0)
        e = make(l, agent, now_us, policy->place_gap_us);
    return e;
}

int64_t lockout_try(struct lockout *l, const struct lockout_policy *policy, uint64_t agent,
                    uint64_t address, int64_t now_us, enum lockout_hold *hold) {
    int64_t wait_us = 0;
    pthread_mutex_lock(&l->lock);
    struct locked *e = find_or_lock(l, policy, agent, now_us);
    if (e)
        wait_us = ask_place(e, address, now_us, policy->place_gap_us);
    pthread_mutex_unlock(&l->lock);
    *hold = LOCKOUT_PLACE;
    if (!e) {
        *hold = LOCKOUT_SHARE;
        (void)limits_take(l->shares, limits_key_of_both(agent, address), &policy->limit, now_us,
                          &wait_us);
    }
    if (wait_us > 0)
        *hold = LOCKOUT_NOTHING;
    return wait_us;
}

int64_t lockout_try_again(struct lockout *l, const struct lockout_policy *policy, uint64_t agent,
                          uint64_t address, int64_t now_us) {
    int64_t wait_us = 0;
    pthread_mutex_lock(&l->lock);
    struct locked *e = find_or_lock(l, policy, agent, now_us);
    if (e)
        wait_us = ask_place(e, address, now_us, policy->place_gap_us);
    pthread_mutex_unlock(&l->lock);
    return wait_us;
}

void lockout_return(struct lockout *l, const struct lockout_policy *policy, uint64_t agent,
                    uint64_t address) {
    limits_refund(l->shares, limits_key_of_both(agent, address), &policy->limit);
}

void lockout_failed(struct lockout *l, const struct lockout_policy *policy, uint64_t agent,
                    int64_t now_us) {
    int64_t wait_us;
    pthread_mutex_lock(&l->lock);
    struct locked *e = find(l, agent, now_us);
    if (e)
        e->until_us = now_us + LOCKOUT_LOCKED_US;
    else /* beyond the limit it is not owed: the next try locks the agent, and that lasts */
        (void)limits_take(l->tries, agent, &policy->limit, now_us, &wait_us);
    pthread_mutex_unlock(&l->lock);
}

bool lockout_is_locked(struct lockout *l, uint64_t agent, int64_t now_us) {
    pthread_mutex_lock(&l->lock);
    bool locked = find(l, agent, now_us) != NULL;
    pthread_mutex_unlock(&l->lock);
    return locked;
}

struct limits *lockout_tries(struct lockout *l) {
    return l->tries;
}
