/* Does it make sense to ask the controller at all? Pure: results and the time in, a yes or no out.
 *
 *   closed   calls go, and their results are watched
 *     | `failures` in a row, or more than `percent` of at least `calls_min` within `window`
 *     v
 *   open     no call goes for `open`, which doubles with each probe that fails, up to `open_max`
 *     |
 *     v
 *   probing  one call goes; it closes the breaker, or opens it again. One that brings no result
 *            within BREAKER_PROBE_US has failed
 *
 * What counts as failure is the caller's to say (rules/gate/gate.h): a connection that cannot be
 * made, a probe that fails, a call of our own without an answer. What becomes of a call that a
 * client has made is none, else one client could close the controller to all others. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct breaker_policy {
    int64_t failures;
    int64_t window_us;
    int64_t calls_min;
    int64_t percent; /* 1 to 100 */
    int64_t open_us;
    int64_t open_max_us; /* not below open_us */
};

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_PROBING };

enum { BREAKER_CELLS = 10, BREAKER_PROBE_US = 3000000 };

struct breaker {
    enum breaker_state state;
    int64_t in_a_row; /* failures since the last good result */
    struct {
        int64_t number; /* which tenth of a window it is */
        int64_t fine, failed;
    } cell[BREAKER_CELLS];
    int64_t open_for_us;  /* how long it opened the last time; 0: it is well */
    int64_t until_us;     /* open: then a probe may go; probing: then it has failed */
    int64_t closed_at_us; /* when a probe closed it last; meaningful when `ever_closed` */
    bool ever_closed;
    uint32_t probe; /* the number of the last probe; 0: none yet */
};

/* What a caller may do. `probe` is not 0 for the one call that probes: hand it to breaker_note. */
struct breaker_pass {
    bool go;
    uint32_t probe;
};

/* `may_probe`: is this call's result soon known and its loss harmless? Others wait for the result
 * of a probe. */
struct breaker_pass breaker_ask(struct breaker *b, const struct breaker_policy *policy,
                                bool may_probe, int64_t now_us);

/* A call's result. Late ones of calls that began before it opened change nothing. */
void breaker_note(struct breaker *b, const struct breaker_policy *policy, uint32_t probe, bool fine,
                  int64_t now_us);
/* The probe ended without a result (its client left): the next may go at once. */
void breaker_forgo(struct breaker *b, uint32_t probe, int64_t now_us);

/* How long until a call may go: 0: now. While a probe is under way: until it has failed. */
int64_t breaker_wait_us(const struct breaker *b, int64_t now_us);
/* Is it closed, and has been for less than `ramp_us`? */
bool breaker_is_ramping(const struct breaker *b, int64_t ramp_us, int64_t now_us);
/* Nobody has time: what is open may be probed now. */
void breaker_hurry(struct breaker *b, int64_t now_us);
