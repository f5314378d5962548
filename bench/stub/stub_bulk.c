/* POST /agents/heartbeats, which the controller has only once its operator dropped it in: many
 * heartbeats in one request, judged one by one (docs/bulk-heartbeats.openapi.yaml). Not there
 * unless it was switched on. */
#include "base/clock.h"
#include "stub/parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    BEATS_MAX = 500,
    ERRORS_MAX = 4,
    ECHO_MAX = 64, /* of an agentId that is none */
};

struct beat {
    const char *id; /* "" when it is no string */
    int64_t at_ms;
    const char *errors[ERRORS_MAX + 1]; /* ends with NULL */
};

/* ---- the whole ---- */

bool stub_bulk_is_asked(const struct call *c) {
    struct span segments[2];
    return c->stub->set.bulk && strcmp(c->method, "POST") == 0 &&
           stub_segments(c->path, segments, 2) == 2 &&
           span_equal_nocase(segments[0], SPAN("agents")) &&
           span_equal_nocase(segments[1], SPAN("heartbeats"));
}

/* NULL when `beats` is a list of at most 500 objects. */
static const char *whole_is_wrong(const json_t *beats) {
    size_t i;
    const json_t *item;
    if (!json_is_array(beats))
        return "heartbeats must be an array";
    if (json_array_size(beats) > BEATS_MAX)
        return "heartbeats must contain no more than 500 elements";
    json_array_foreach(beats, i, item) {
        if (!json_is_object(item))
            return "each value in heartbeats must be an object";
    }
    return NULL;
}

/* ---- an item ---- */

/* Does it begin like the shape, in which '0' stands for any digit? */
static bool begins_like(const char *text, const char *shape) {
    for (; *shape; text++, shape++)
        if (*shape == '0' ? (*text < '0' || *text > '9') : *text != *shape)
            return false;
    return true;
}

/* Milliseconds of ".613", up to nine digits, moving *at behind it; -1 without digits. */
static int parse_fraction(const char **at) {
    int ms = 0, digits = 0;
    if (**at != '.')
        return 0;
    for ((*at)++; **at >= '0' && **at <= '9' && digits < 9; (*at)++, digits++)
        ms = digits < 3 ? ms * 10 + (**at - '0') : ms;
    for (int i = digits; i < 3; i++)
        ms *= 10;
    return digits > 0 ? ms : -1;
}

/* "2026-11-23T04:23:11.613Z" to milliseconds; -1: it is no such time. */
static int64_t parse_time(const char *text) {
    struct tm tm = {.tm_year = 0};
    if (!text || !begins_like(text, "0000-00-00T00:00:00"))
        return -1;
    const char *at = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    int day = tm.tm_mday;
    int ms = at ? parse_fraction(&at) : -1;
    int64_t seconds = timegm(&tm);
    return ms >= 0 && strcmp(at, "Z") == 0 && tm.tm_mday == day ? seconds * 1000 + ms : -1;
}

static struct beat read_beat(const json_t *item) {
    const char *id = json_string_value(json_object_get(item, "agentId"));
    const json_t *metrics = json_object_get(item, "metrics");
    struct beat beat = {.id = id ? id : ""};
    int count = 0;
    beat.at_ms = parse_time(json_string_value(json_object_get(item, "at")));
    if (!stub_agents_is_id(beat.id))
        beat.errors[count++] = "agentId must be a mongodb id";
    if (!stub_agents_is_beat_status(json_string_value(json_object_get(item, "status"))))
        beat.errors[count++] = "status must be one of the following values: online, busy, idle";
    if (metrics && !json_is_null(metrics) && !json_is_object(metrics))
        beat.errors[count++] = "metrics must be an object";
    if (beat.at_ms < 0)
        beat.errors[count] = "at must be a time in UTC, like 2026-11-23T04:23:11.613Z";
    return beat;
}

static bool fails_on_order(struct stub_set *set) {
    if (set->bulk_fail_items <= 0)
        return false;
    set->bulk_fail_items--;
    return true;
}

static int judge(struct stub *stub, const struct beat *beat) {
    int64_t now_ms = clock_wall_ms();
    if (beat->errors[0])
        return 400;
    if (fails_on_order(&stub->set))
        return (int)stub->set.bulk_fail_status;
    return stub_agents_beat(stub->agents, beat->id, beat->at_ms < now_ms ? beat->at_ms : now_ms)
               ? 200
               : 404;
}

static void add_message(struct str *s, int status, const struct beat *beat) {
    if (status == 200)
        return;
    STR_ADD(s, ",\"message\":\"");
    if (status == 404)
        str_addf(s, "Agent with ID %.24s not found", beat->id);
    else
        str_add(s, status == 400 ? SPAN("Validation failed") : SPAN("Failed on order"));
    STR_ADD(s, "\"");
    for (int i = 0; beat->errors[i]; i++)
        str_addf(s, "%s\"%s\"", i ? "," : ",\"errors\":[", beat->errors[i]);
    if (beat->errors[0])
        STR_ADD(s, "]");
}

static void answer_item(struct call *c, const json_t *item) {
    struct beat beat = read_beat(item);
    int status = judge(c->stub, &beat);
    char *text = json_dumps(item, JSON_COMPACT);
    size_t echo = strnlen(beat.id, ECHO_MAX);
    stub_log_beat(c->stub->log, c, span_of(text ? text : ""), beat.errors[0] ? "" : beat.id,
                  status);
    free(text);
    stub_count(c->stub, bulk_beats);
    if (status == 200)
        stub_count(c->stub, bulk_beats_ok);
    STR_ADD(&c->answer, "{\"agentId\":");
    str_add_json(&c->answer, (struct span){beat.id, echo});
    str_addf(&c->answer, ",\"status\":%d", status);
    add_message(&c->answer, status, &beat);
    STR_ADD(&c->answer, "}");
}

/* ---- the route ---- */

static bool sender_is_good(struct call *c) {
    struct claims who;
    bool genuine = stub_agents_token_is_good(c, &who);
    bool good = genuine && who.speaks_for_agents;
    if (genuine && !good)
        stub_answer_error(c, 403, "You do not have permission to send heartbeats for agents.",
                          NULL);
    json_decref(who.all);
    return good;
}

static void answer_all(struct call *c, const json_t *beats) {
    size_t i;
    const json_t *item;
    STR_ADD(&c->answer, "{\"results\":[");
    json_array_foreach(beats, i, item) {
        if (i > 0)
            STR_ADD(&c->answer, ",");
        answer_item(c, item);
    }
    STR_ADD(&c->answer, "]}");
    stub_answer_json(c, 200);
}

bool stub_bulk_handle(struct call *c) {
    if (!stub_bulk_is_asked(c))
        return false;
    stub_count(c->stub, bulk_requests);
    if (!sender_is_good(c))
        return true;
    const json_t *beats = json_object_get(c->json, "heartbeats");
    const char *errors[] = {whole_is_wrong(beats), NULL};
    if (errors[0])
        stub_answer_error(c, 400, "Validation failed", errors);
    else if (c->stub->set.heartbeat_status)
        stub_answer_error(c, (int)c->stub->set.heartbeat_status, "Failed on order", NULL);
    else
        answer_all(c, beats);
    return true;
}
