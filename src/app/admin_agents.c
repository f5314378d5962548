#include "app/admin_agents.h"

#include "base/clock.h"
#include "base/panic.h"

#include <stdio.h>
#include <stdlib.h>

enum { LIMIT_PRESET = 100, LIMIT_MAX = 1000 };

/* What is copied of an agent under its shard's lock. Times in milliseconds ago; -1: never. */
struct view {
    struct agent_id id;
    enum beat_status status;
    bool seen, held, cached, owed;
    int64_t beat_ms, forward_ms, fetched_ms, expires_in_s;
    int refused_with; /* the controller's no to heartbeats; 0: none */
    enum revoked revoked;
};

struct wanted {
    struct span prefix, status, only;
    struct agent_id after;
    bool has_after;
    size_t limit;
    struct view *found; /* by id, `count` of them, the smallest */
    size_t count;
    bool more;
};

static const char *const statuses[] = {
    [BEAT_ONLINE] = "online", [BEAT_BUSY] = "busy", [BEAT_IDLE] = "idle"};
static const char *const revocations[] = {[REVOKED_NOT] = NULL,
                                          [REVOKED_DELETED] = "deleted",
                                          [REVOKED_SUSPENDED] = "suspended",
                                          [REVOKED_REGENERATED] = "regenerated"};

static int64_t ago(int64_t then_ms, int64_t now_ms) {
    return then_ms < 0 ? -1 : now_ms - then_ms;
}

static enum revoked why_revoked(const struct revocation *r, int64_t now_ms) {
    if (now_ms >= r->until_ms)
        return REVOKED_NOT;
    return r->why == REVOKED_NOT && r->regenerated_s > 0 ? REVOKED_REGENERATED : r->why;
}

static struct view view_of(const struct agent *a) {
    int64_t now_ms = clock_mono_ms(), wall_ms = clock_wall_ms();
    bool refused = a->verdict && now_ms < a->verdict->until_ms;
    struct view v = {.id = a->id,
                     .status = a->beat.status,
                     .seen = a->beat.last_received_ms >= 0,
                     .held = a->beat.held,
                     .cached = a->grant != NULL,
                     .owed = a->owed,
                     .beat_ms = ago(a->beat.last_received_ms, now_ms),
                     .forward_ms = ago(a->beat.last_forward_ms, now_ms),
                     .refused_with = refused ? a->verdict->status : 0,
                     .revoked = why_revoked(&a->revoked, now_ms)};
    if (a->grant) {
        v.fetched_ms = wall_ms - a->grant->fetched_ms;
        v.expires_in_s = a->grant->expires_s - wall_ms / 1000;
    }
    return v;
}

/* ---- as JSON ---- */

static void add_ago(struct str *out, const char *name, int64_t ms) {
    if (ms >= 0)
        str_addf(out, ",\"%s\":%.1f", name, (double)ms / 1000);
    else
        str_addf(out, ",\"%s\":null", name);
}

static void add_view(struct str *out, const struct view *v) {
    char id[AGENT_ID_HEX];
    agent_id_text(&v->id, id);
    str_addf(out, "{\"id\":\"%.*s\"", AGENT_ID_HEX, id);
    if (v->seen)
        str_addf(out, ",\"status\":\"%s\"", statuses[v->status]);
    add_ago(out, "last_heartbeat_s", v->beat_ms);
    add_ago(out, "last_forwarded_s", v->forward_ms);
    str_addf(out, ",\"held\":%s,\"cached\":%s", v->held ? "true" : "false",
             v->cached ? "true" : "false");
    if (v->cached) {
        add_ago(out, "cached_age_s", v->fetched_ms);
        str_addf(out, ",\"cached_expires_in_s\":%lld", (long long)v->expires_in_s);
    }
    if (v->owed)
        STR_ADD(out, ",\"refresh_owed\":true");
    if (v->refused_with != 0)
        str_addf(out, ",\"refused_with\":%d", v->refused_with);
    if (v->revoked != REVOKED_NOT)
        str_addf(out, ",\"revoked\":\"%s\"", revocations[v->revoked]);
    STR_ADD(out, "}");
}

static int complain(struct str *body, const char *what) {
    STR_ADD(body, "{\"error\":");
    str_add_json(body, span_of(what));
    STR_ADD(body, "}\n");
    return 400;
}

/* ---- a page of them ---- */

static bool is_of(const struct view *v, struct span only) {
    if (span_equal(only, SPAN("held")))
        return v->held;
    if (span_equal(only, SPAN("cached")))
        return v->cached;
    if (span_equal(only, SPAN("refused")))
        return v->refused_with != 0;
    if (span_equal(only, SPAN("revoked")))
        return v->revoked != REVOKED_NOT;
    return true;
}

static bool is_wanted(const struct wanted *w, const struct view *v) {
    char id[AGENT_ID_HEX];
    agent_id_text(&v->id, id);
    if (w->has_after && memcmp(&v->id, &w->after, sizeof v->id) <= 0)
        return false;
    if (!span_starts((struct span){id, sizeof id}, w->prefix) || !is_of(v, w->only))
        return false;
    return w->status.len == 0 || (v->seen && span_equal(w->status, span_of(statuses[v->status])));
}

static size_t place_for(const struct wanted *w, const struct agent_id *id) {
    size_t low = 0, high = w->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (memcmp(&w->found[middle].id, id, sizeof *id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Keeps the smallest ids: `found` has room for `limit`. */
static void consider(void *arg, struct agent *agent) {
    struct wanted *w = arg;
    struct view v = view_of(agent);
    if (!is_wanted(w, &v))
        return;
    size_t at = place_for(w, &v.id);
    w->more = w->more || w->count == w->limit;
    if (at == w->limit)
        return;
    w->count -= w->count == w->limit;
    memmove(w->found + at + 1, w->found + at, (w->count - at) * sizeof v);
    w->found[at] = v;
    w->count++;
}

static size_t read_limit(struct span text) {
    char memory[8] = "";
    if (text.len == 0)
        return LIMIT_PRESET;
    if (text.len < sizeof memory)
        memcpy(memory, text.ptr, text.len);
    long limit = strtol(memory, NULL, 10);
    return limit > 0 && limit <= LIMIT_MAX ? (size_t)limit : 0;
}

static bool is_filter(struct span only) {
    static const char *const known[] = {"", "held", "cached", "refused", "revoked"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (span_equal(only, span_of(known[i])))
            return true;
    return false;
}

static void add_page(struct str *body, const struct wanted *w) {
    STR_ADD(body, "{\"agents\":[");
    for (size_t i = 0; i < w->count; i++) {
        STR_ADD(body, "\n ");
        add_view(body, &w->found[i]);
        if (i + 1 < w->count)
            STR_ADD(body, ",");
    }
    STR_ADD(body, "]");
    if (w->more) {
        char id[AGENT_ID_HEX];
        agent_id_text(&w->found[w->count - 1].id, id);
        str_addf(body, ",\"next\":\"%.*s\"", AGENT_ID_HEX, id);
    }
    STR_ADD(body, "}\n");
}

int admin_show_agents(struct agents *agents, const struct operator_request *request,
                      struct str *body) {
    struct span after = operator_parameter(request, "after");
    struct wanted w = {.prefix = operator_parameter(request, "prefix"),
                       .status = operator_parameter(request, "status"),
                       .only = operator_parameter(request, "only"),
                       .limit = read_limit(operator_parameter(request, "limit")),
                       .has_after = after.len > 0};
    if (w.limit == 0)
        return complain(body, "limit must be from 1 to 1000");
    if (!is_filter(w.only))
        return complain(body, "only must be held, cached, refused or revoked");
    if (w.has_after && !agent_id_parse(after, &w.after))
        return complain(body, "after must be an agent's id: what the page before gave as next");
    w.found = must_zalloc(w.limit * sizeof *w.found);
    for (size_t shard = 0; shard < AGENTS_SHARDS; shard++)
        agents_each_owned(agents, shard, AGENTS_SHARDS, consider, &w);
    add_page(body, &w);
    free(w.found);
    return 200;
}

/* ---- one ---- */

int admin_show_agent(struct agents *agents, const struct operator_request *request,
                     struct str *body) {
    struct agent_id id;
    if (!agent_id_parse(operator_segment(request), &id))
        return complain(body, "an agent's id has 24 hex digits");
    struct agent *agent = agents_lock(agents, &id, false);
    if (!agent) {
        STR_ADD(body, "{\"error\":\"this gateway knows nothing of that agent\"}\n");
        return 404;
    }
    struct view v = view_of(agent);
    agents_unlock(agents, agent);
    add_view(body, &v);
    STR_ADD(body, "\n");
    return 200;
}
