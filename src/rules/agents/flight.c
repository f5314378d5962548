#include "rules/agents/flight.h"

#include "base/panic.h"

#include <stdlib.h>

struct flight *flight_find(struct list *flights, const uint8_t proof[GRANT_PROOF],
                           uint64_t purged) {
    list_each (at, flights) {
        struct flight *f = container_of(at, struct flight, link);
        if (f->purges_seen >= purged && grant_proof_equal(f->proof, proof))
            return f;
    }
    return NULL;
}

struct flight *flight_start(struct list *flights, const uint8_t proof[GRANT_PROOF],
                            uint64_t purges_seen) {
    struct flight *f = must_zalloc(sizeof *f);
    memcpy(f->proof, proof, GRANT_PROOF);
    f->purges_seen = purges_seen;
    list_init(&f->followers);
    list_push_back(flights, &f->link);
    return f;
}

bool flight_join(struct flight *flight, struct list *follower) {
    if (flight->follower_count == FLIGHT_FOLLOWERS_MAX)
        return false;
    list_push_back(&flight->followers, follower);
    flight->follower_count++;
    return true;
}

void flight_leave(struct flight *flight, struct list *follower) {
    list_remove(follower);
    flight->follower_count--;
}

void flight_land(struct flight *flight, struct list *followers) {
    list_init(followers);
    while (!list_empty(&flight->followers)) {
        struct list *l = flight->followers.next;
        list_remove(l);
        list_push_back(followers, l);
    }
    list_remove(&flight->link);
    free(flight);
}
