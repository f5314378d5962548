#include "rules/limit.h"

#include <stdatomic.h>

enum { SECOND_US = 1000000 };

struct limit limit_per_second(int64_t per_second, int64_t burst) {
    return (struct limit){SECOND_US / per_second, burst};
}

int64_t limit_wait_us(int64_t arrival_us, const struct limit *limit, int64_t now_us) {
    int64_t ahead = arrival_us - now_us;
    int64_t allowed = limit->gap_us * (limit->burst - 1);
    return ahead > allowed ? ahead - allowed : 0;
}

static int64_t next_arrival(int64_t arrival_us, const struct limit *limit, int64_t now_us) {
    return (arrival_us > now_us ? arrival_us : now_us) + limit->gap_us;
}

bool limit_take(int64_t *arrival_us, const struct limit *limit, int64_t now_us) {
    if (limit_wait_us(*arrival_us, limit, now_us) > 0)
        return false;
    *arrival_us = next_arrival(*arrival_us, limit, now_us);
    return true;
}

bool limit_take_shared(_Atomic int64_t *arrival_us, const struct limit *limit, int64_t now_us) {
    int64_t seen = atomic_load(arrival_us);
    do {
        if (limit_wait_us(seen, limit, now_us) > 0)
            return false;
    } while (!atomic_compare_exchange_weak(arrival_us, &seen, next_arrival(seen, limit, now_us)));
    return true;
}
