#include "rules/agents/refusals.h"

#include "base/panic.h"

#include <pthread.h>
#include <stdlib.h>

enum { WAYS = 4 };

struct entry {
    int64_t until_ms; /* 0: empty */
    struct agent_id agent;
    uint8_t proof[GRANT_PROOF];
    struct refusal refusal;
};

struct refusals {
    pthread_mutex_t lock;
    size_t sets; /* a power of two */
    int64_t ttl_ms;
    struct entry *entry;
};

struct refusals *refusals_new(size_t entries, int64_t ttl_ms) {
    struct refusals *r = must_zalloc(sizeof *r);
    pthread_mutex_init(&r->lock, NULL);
    r->ttl_ms = ttl_ms;
    r->sets = 1;
    while (r->sets * WAYS < entries)
        r->sets *= 2;
    r->entry = must_zalloc(r->sets * WAYS * sizeof *r->entry);
    return r;
}

void refusals_free(struct refusals *r) {
    pthread_mutex_destroy(&r->lock);
    free(r->entry);
    free(r);
}

/* The proof is an HMAC under our key: its bytes are as good as a keyed hash. */
static struct entry *set_of(struct refusals *r, const uint8_t proof[GRANT_PROOF]) {
    uint64_t hash;
    memcpy(&hash, proof, sizeof hash);
    return r->entry + (hash & (r->sets - 1)) * WAYS;
}

static bool is_about(const struct entry *e, const struct agent_id *agent,
                     const uint8_t proof[GRANT_PROOF]) {
    return agent_id_equal(&e->agent, agent) && grant_proof_equal(e->proof, proof);
}

void refusals_add(struct refusals *r, const struct agent_id *agent,
                  const uint8_t proof[GRANT_PROOF], int status, const char *message,
                  int64_t now_ms) {
    size_t len = strlen(message);
    if (len >= REFUSAL_MESSAGE)
        return;
    pthread_mutex_lock(&r->lock);
    struct entry *set = set_of(r, proof), *into = set;
    for (struct entry *e = set; e < set + WAYS; e++) {
        if (is_about(e, agent, proof)) {
            into = e;
            break;
        }
        if (e->until_ms < into->until_ms)
            into = e;
    }
    *into = (struct entry){.until_ms = now_ms + r->ttl_ms, .agent = *agent};
    memcpy(into->proof, proof, GRANT_PROOF);
    into->refusal.status = status;
    memcpy(into->refusal.message, message, len + 1);
    pthread_mutex_unlock(&r->lock);
}

bool refusals_find(struct refusals *r, const struct agent_id *agent,
                   const uint8_t proof[GRANT_PROOF], int64_t now_ms, struct refusal *out) {
    bool found = false;
    pthread_mutex_lock(&r->lock);
    struct entry *set = set_of(r, proof);
    for (struct entry *e = set; e < set + WAYS && !found; e++) {
        found = e->until_ms > now_ms && is_about(e, agent, proof);
        if (found)
            *out = e->refusal;
    }
    pthread_mutex_unlock(&r->lock);
    return found;
}

void refusals_forget(struct refusals *r, const struct agent_id *agent) {
    pthread_mutex_lock(&r->lock);
    for (struct entry *e = r->entry; e < r->entry + r->sets * WAYS; e++)
        if (agent_id_equal(&e->agent, agent))
            e->until_ms = 0;
    pthread_mutex_unlock(&r->lock);
}
