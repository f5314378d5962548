/* How many per second: the generic cell rate algorithm (ITU-T I.371), one integer per key.
 *
 * The integer is the theoretical arrival time of the next one, microseconds on the caller's clock;
 * 0 to begin. A conforming one moves it by the gap; one that comes more than the burst ahead of it
 * is refused and changes nothing. An integer in the past is as good as none at all. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct limit {
    int64_t gap_us; /* between two in the long run */
    int64_t burst;  /* how many may come at once, 1 or more */
};

/* The gap is rounded down to a microsecond: within 1 % up to LIMIT_PER_SECOND_MAX. */
enum { LIMIT_PER_SECOND_MAX = 10000 };
/* `per_second`, `per_minute` 1 or more. */
struct limit limit_per_second(int64_t per_second, int64_t burst);
struct limit limit_per_minute(int64_t per_minute, int64_t burst);

bool limit_take(int64_t *arrival_us, const struct limit *limit, int64_t now_us);
/* The same for an integer that threads share. */
bool limit_take_shared(_Atomic int64_t *arrival_us, const struct limit *limit, int64_t now_us);
/* When the next one will be taken: microseconds from now, 0: now. */
int64_t limit_wait_us(int64_t arrival_us, const struct limit *limit, int64_t now_us);

/* `count` of them that happened whether they conformed or not. What exceeds the burst is owed, but
 * never more than one whole burst: nobody is shut out for longer than burst * gap. */
void limit_charge(int64_t *arrival_us, const struct limit *limit, int64_t count, int64_t now_us);
/* Gives one back that was taken. */
void limit_refund(int64_t *arrival_us, const struct limit *limit);
/* How many could come at once, 0 to burst. */
int64_t limit_left(int64_t arrival_us, const struct limit *limit, int64_t now_us);

/* A wait as Retry-After spells it: whole seconds, rounded up, 1 or more. */
int64_t limit_retry_after_s(int64_t wait_us);
