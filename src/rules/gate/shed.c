#include "rules/gate/shed.h"

/* In hundredths of what may be used; 0: never. */
struct thresholds {
    int connects, calls, beats;
};

static const struct thresholds of_lag = {100, 200, 400};
static const struct thresholds of_memory = {85, 92, 97};
static const struct thresholds of_connections = {90, 0, 0};
static const struct thresholds of_in_flight = {90, 100, 0};

static bool reaches(const struct shed_use *use, int hundredths) {
    return hundredths > 0 && use->now >= use->most * hundredths / 100;
}

static enum shed_level level_of(const struct shed_use *use, const struct thresholds *t) {
    if (use->most <= 0)
        return SHED_NOTHING;
    if (reaches(use, t->beats))
        return SHED_BEATS;
    if (reaches(use, t->calls))
        return SHED_CALLS;
    return reaches(use, t->connects) ? SHED_CONNECTS : SHED_NOTHING;
}

static enum shed_level worse(enum shed_level a, enum shed_level b) {
    return a > b ? a : b;
}

enum shed_level shed_level(const struct shed_facts *facts) {
    return worse(worse(level_of(&facts->lag, &of_lag), level_of(&facts->memory, &of_memory)),
                 worse(level_of(&facts->connections, &of_connections),
                       level_of(&facts->in_flight, &of_in_flight)));
}

void shed_lag_note(struct shed_lag *lag, int64_t late_ms) {
    lag->late_ms[lag->at++ % SHED_LOOKS] = late_ms;
}

int64_t shed_lag_standing_ms(const struct shed_lag *lag) {
    int64_t least_ms = lag->late_ms[0];
    for (int i = 1; i < SHED_LOOKS; i++)
        if (lag->late_ms[i] < least_ms)
            least_ms = lag->late_ms[i];
    return least_ms;
}
