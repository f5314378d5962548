/* The control port: what tests and the bench ask the stub, and what they tell it to do.
 *
 *   GET /counts
 *   GET /requests?since=N[&limit=N]   entries with seq > N, at most `limit` (10,000); after one of
 *                                     heartbeats in bulk one with "route":"bulk" for each item
 *   POST /set {...}                   see set_rows (false is 0, true is 1); answers the settings in
 *                                     force
 *   POST /reset                       agents, settings, counts and log as at the start */
#include "stub/parts.h"

#include <event2/buffer.h>
#include <event2/keyvalq_struct.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { LIMIT = 10000 };

static const char *const outages[] = {"off", "refuse", "hang"};

static const struct {
    const char *name;
    size_t offset;
} set_rows[] = {
    {"delay_ms", offsetof(struct stub_set, delay_ms)},
    {"connect_delay_ms", offsetof(struct stub_set, connect_delay_ms)},
    {"connect_cost_ms", offsetof(struct stub_set, connect_cost_ms)},
    {"token_ttl_s", offsetof(struct stub_set, token_ttl_s)},
    {"heartbeat_status", offsetof(struct stub_set, heartbeat_status)},
    {"fail_next", offsetof(struct stub_set, fail_next)},
    {"fail_status", offsetof(struct stub_set, fail_status)},
    {"bulk", offsetof(struct stub_set, bulk)},
    {"bulk_fail_items", offsetof(struct stub_set, bulk_fail_items)},
    {"bulk_fail_status", offsetof(struct stub_set, bulk_fail_status)},
};
enum { SET_ROWS = sizeof set_rows / sizeof *set_rows };

static int64_t *set_member(struct stub_set *set, size_t row) {
    return (int64_t *)(void *)((char *)set + set_rows[row].offset);
}

static void reply(struct evhttp_request *request, int status, json_t *json) {
    char *text = json_dumps(json, JSON_COMPACT);
    struct evbuffer *body = evbuffer_new();
    if (text && body)
        evbuffer_add(body, text, strlen(text));
    evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type",
                      "application/json");
    evhttp_send_reply(request, status, NULL, body);
    if (body)
        evbuffer_free(body);
    free(text);
    json_decref(json);
}

static json_t *counts_json(const struct stub *stub) {
    json_t *json = json_object();
    struct stub_counts counts;
    counters_read(&stub->counts, &counts);
#define X(name) json_object_set_new(json, #name, json_integer(counts.name));
    STUB_COUNT_ROWS(X)
#undef X
    return json;
}

static json_t *set_json(struct stub *stub) {
    json_t *json = json_object();
    for (size_t i = 0; i < SET_ROWS; i++)
        json_object_set_new(json, set_rows[i].name, json_integer(*set_member(&stub->set, i)));
    json_object_set_new(json, "outage", json_string(outages[stub->set.outage]));
    return json;
}

static json_t *requests_json(struct stub *stub, const char *uri) {
    struct evkeyvalq query = {NULL, NULL};
    const char *at = strchr(uri, '?');
    if (at && evhttp_parse_query_str(at + 1, &query) != 0)
        return json_array();
    const char *since = evhttp_find_header(&query, "since");
    const char *limit = evhttp_find_header(&query, "limit");
    json_t *json = stub_log_since(stub->log, since ? strtoull(since, NULL, 10) : 0,
                                  limit ? strtoull(limit, NULL, 10) : LIMIT);
    evhttp_clear_headers(&query);
    return json;
}

/* Refusing drops the listener and all connections; hanging only begins with the next request;
 * being up again drops those that were left hanging. */
static bool set_outage(struct stub *stub, int outage) {
    int before = (int)stub->set.outage;
    if (outage == before)
        return true;
    if (outage == STUB_REFUSE || before == STUB_HANG)
        stub_unlisten(stub);
    stub->set.outage = outage;
    return outage == STUB_REFUSE || stub_listen(stub);
}

static int outage_of(const char *name) {
    for (int i = 0; i < 3; i++)
        if (name && strcmp(name, outages[i]) == 0)
            return i;
    return -1;
}

static bool set_one(struct stub *stub, const char *name, const json_t *value) {
    if (strcmp(name, "outage") == 0) {
        int outage = outage_of(json_string_value(value));
        return outage >= 0 && set_outage(stub, outage);
    }
    for (size_t i = 0; i < SET_ROWS; i++)
        if (strcmp(name, set_rows[i].name) == 0 &&
            (json_is_integer(value) || json_is_boolean(value))) {
            *set_member(&stub->set, i) =
                json_is_integer(value) ? json_integer_value(value) : json_is_true(value);
            return true;
        }
    return false;
}

static json_t *body_json(struct evhttp_request *request) {
    struct evbuffer *input = evhttp_request_get_input_buffer(request);
    size_t len = evbuffer_get_length(input);
    return len ? json_loadb((const char *)evbuffer_pullup(input, -1), len, 0, NULL) : NULL;
}

static void set_all(struct stub *stub, struct evhttp_request *request) {
    json_t *json = body_json(request), *value;
    const char *name, *wrong = json ? NULL : "body";
    json_object_foreach(json, name, value) {
        if (!set_one(stub, name, value))
            wrong = name;
    }
    if (wrong)
        reply(request, 400, json_pack("{s:s}", "wrong", wrong));
    else
        reply(request, 200, set_json(stub));
    json_decref(json);
}

static void reset(struct stub *stub) {
    set_outage(stub, STUB_UP);
    stub->set = stub->initial;
    stub_agents_reset(stub->agents);
    stub_log_clear(stub->log);
    counters_reset(&stub->counts);
}

void stub_control_handle(struct evhttp_request *request, void *arg) {
    struct stub *stub = arg;
    const char *uri = evhttp_request_get_uri(request);
    bool writes = evhttp_request_get_command(request) == EVHTTP_REQ_POST;
    if (!writes && strcmp(uri, "/counts") == 0) {
        reply(request, 200, counts_json(stub));
    } else if (!writes && strncmp(uri, "/requests", 9) == 0) {
        reply(request, 200, requests_json(stub, uri));
    } else if (writes && strcmp(uri, "/set") == 0) {
        set_all(stub, request);
    } else if (writes && strcmp(uri, "/reset") == 0) {
        reset(stub);
        reply(request, 200, set_json(stub));
    } else {
        reply(request, 404, json_pack("{s:s}", "wrong", "path"));
    }
}
