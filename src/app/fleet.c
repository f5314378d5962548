#include "app/fleet.h"

#include "base/clock.h"

/* Two heartbeats of the documented client, one a minute, and some time on the way. */
enum { ALIVE_MS = 150000 };

enum state { ALIVE, SILENT, REFUSED, STATES };

struct tally {
    int64_t now_ms;
    int64_t count[STATES];
};

static enum state state_of(const struct agent *a, int64_t now_ms) {
    bool is_revoked = a->revoked.why != REVOKED_NOT && now_ms < a->revoked.until_ms;
    if (is_revoked || (a->verdict && now_ms < a->verdict->until_ms))
        return REFUSED;
    bool is_heard = a->beat.last_received_ms >= 0;
    return is_heard && now_ms - a->beat.last_received_ms < ALIVE_MS ? ALIVE : SILENT;
}

static void count(void *arg, struct agent *agent) {
    struct tally *t = arg;
    t->count[state_of(agent, t->now_ms)]++;
}

void fleet_show(struct agents *agents, struct str *body) {
    static const char *const names[STATES] = {"alive", "silent", "refused"};
    struct tally t = {.now_ms = clock_mono_ms()};
    for (size_t shard = 0; shard < AGENTS_SHARDS; shard++)
        agents_each_owned(agents, shard, AGENTS_SHARDS, count, &t);
    STR_ADD(body,
            "# HELP aiwm_gateway_agents Agents this process knows of: heard within 150 s, not, "
            "or refused in the controller's name.\n# TYPE aiwm_gateway_agents gauge\n");
    for (size_t i = 0; i < STATES; i++)
        str_addf(body, "aiwm_gateway_agents{state=\"%s\"} %lld\n", names[i], (long long)t.count[i]);
}
