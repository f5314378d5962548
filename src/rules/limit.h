/* How many per second: the generic cell rate algorithm (ITU-T I.371), one integer per key.
 *
 * The integer is the theoretical arrival time of the next one, microseconds on the caller's clock;
 * 0 to begin. A conforming one moves it by the gap; one that comes more than the burst ahead of it
 * is refused and changes nothing. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct limit {
    int64_t gap_us; /* between two in the long run */
    int64_t burst;  /* how many may come at once, 1 or more */
};

/* `per_second` 1 or more. */
struct limit limit_per_second(int64_t per_second, int64_t burst);

bool limit_take(int64_t *arrival_us, const struct limit *limit, int64_t now_us);
/* The same for an integer that threads share. */
bool limit_take_shared(_Atomic int64_t *arrival_us, const struct limit *limit, int64_t now_us);
/* When the next one will be taken: microseconds from now, 0: now. */
int64_t limit_wait_us(int64_t arrival_us, const struct limit *limit, int64_t now_us);
