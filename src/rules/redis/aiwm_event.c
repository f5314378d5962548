#include "rules/redis/aiwm_event.h"

#include "rules/wire/json_scan.h"

enum aiwm_event_kind aiwm_event_kind(struct span name) {
    if (span_equal(name, SPAN("agent.updated")))
        return AIWM_EVENT_UPDATED;
    if (span_equal(name, SPAN("agent.deleted")))
        return AIWM_EVENT_DELETED;
    return AIWM_EVENT_OTHER;
}

/* NULL if there is none. Of twins the first, as every reader of streams has it. */
static const struct span *find(const struct span *words, size_t count, struct span name) {
    for (size_t i = 0; i + 1 < count && i + 1 < AIWM_EVENT_FIELDS_MAX; i += 2)
        if (span_equal(words[i], name))
            return &words[i + 1];
    return NULL;
}

/* It becomes part of a key that we ask for. */
static bool is_job_id(struct span id) {
    for (size_t i = 0; i < id.len; i++)
        if (id.ptr[i] <= ' ' || id.ptr[i] > '~')
            return false;
    return id.len > 0 && id.len <= AIWM_EVENT_JOB_MAX;
}

bool aiwm_event_job(const struct span *words, size_t count, struct span *job) {
    const struct span *event = find(words, count, SPAN("event"));
    const struct span *name = find(words, count, SPAN("name"));
    const struct span *id = find(words, count, SPAN("jobId"));
    if (!event || !id || !span_equal(*event, SPAN("added")) || !is_job_id(*id))
        return false;
    if (name && aiwm_event_kind(*name) == AIWM_EVENT_OTHER)
        return false;
    *job = *id;
    return true;
}

static bool read_id(const struct json_members *members, struct agent_id *out) {
    static const char *const names[] = {"_id", "id", "agentId"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct span text;
        if (json_member_string(json_member_find(members, span_of(names[i])), &text) &&
            agent_id_parse(text, out))
            return true;
    }
    return false;
}

static bool read_inner(const struct json_members *members, struct span name, struct agent_id *out) {
    const struct json_member *member = json_member_find(members, name);
    struct json_members inner;
    return member && member->kind == JSON_KIND_OBJECT && json_scan_object(member->value, &inner) &&
           read_id(&inner, out);
}

bool aiwm_event_agent(struct span data, struct agent_id *out) {
    struct json_members members;
    if (data.len > AIWM_EVENT_DATA_MAX || !json_scan_object(data, &members))
        return false;
    return read_id(&members, out) || read_inner(&members, SPAN("agent"), out) ||
           read_inner(&members, SPAN("data"), out);
}
