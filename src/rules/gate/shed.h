/* What the gateway still does when it is at its own limits: connects are given up first, then
 * calls, heartbeats last. Pure: the caller measures.
 *
 *   resource      connects    calls     heartbeats are refused
 *   loop lag      1 x         2 x       4 x the largest that is fine
 *   memory        85 %        92 %      97 %
 *   connections   90 %        -         -         of those that agents hold
 *   in flight     90 %        100 %     -         heartbeats seldom wait for anybody
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum shed_level { SHED_NOTHING, SHED_CONNECTS, SHED_CALLS, SHED_BEATS };

/* Each of any unit, as long as it is the same; `most` 0: no limit. */
struct shed_use {
    int64_t now, most;
};

struct shed_facts {
    struct shed_use lag, memory, connections, in_flight;
};

enum shed_level shed_level(const struct shed_facts *facts);

/* The lag of an event loop: how late its timer is. One late tick is somebody else's doing (a busy
 * machine, a page fault); standing lag is what the last SHED_LOOKS ticks all had. */
enum { SHED_LOOKS = 3 };

/* Zero it to start. */
struct shed_lag {
    int64_t late_ms[SHED_LOOKS];
    unsigned int at;
};

void shed_lag_note(struct shed_lag *lag, int64_t late_ms);
int64_t shed_lag_standing_ms(const struct shed_lag *lag);
