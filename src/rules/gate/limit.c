#include "rules/gate/limit.h"

#include <stdatomic.h>

enum { SECOND_US = 1000000 };

struct limit limit_per_second(int64_t per_second, int64_t burst) {
    return (struct limit){SECOND_US / per_second, burst};
}

struct limit limit_per_minute(int64_t per_minute, int64_t burst) {
    return (struct limit){60LL * SECOND_US / per_minute, burst};
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

void limit_charge(int64_t *arrival_us, const struct limit *limit, int64_t count, int64_t now_us) {
    int64_t from = *arrival_us > now_us ? *arrival_us : now_us;
    int64_t most = 2 * limit->burst; /* what may come at once, and what may be owed */
    int64_t latest = now_us + most * limit->gap_us;
    int64_t then = from + (count < most ? count : most) * limit->gap_us;
    *arrival_us = then < latest ? then : from > latest ? from : latest;
}

void limit_refund(int64_t *arrival_us, const struct limit *limit) {
    *arrival_us -= limit->gap_us;
}

int64_t limit_left(int64_t arrival_us, const struct limit *limit, int64_t now_us) {
    int64_t used_us = arrival_us > now_us ? arrival_us - now_us : 0;
    int64_t left_us = limit->burst * limit->gap_us - used_us;
    return left_us > 0 ? left_us / limit->gap_us : 0;
}

int64_t limit_retry_after_s(int64_t wait_us) {
    int64_t seconds = (wait_us + SECOND_US - 1) / SECOND_US;
    return seconds > 0 ? seconds : 1;
}
