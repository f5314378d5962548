/* The agent API: what can be asked about agents, and what the controller answers.
 *
 * Order of checks, as on the real one: body parser (before us), path escapes, token, validation,
 * id format, look-up, the agent's state. */
#include "base/clock.h"
#include "base/panic.h"
#include "base/random.h"
#include "stub/parts.h"
#include "stub/stub_fleet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WRITER_MAX = 1024, ENV_CONFIG_SIZE = 1000, INSTALL_SCRIPT_SIZE = 6000 };

/* ---- refusals ---- */

static void answer_internal(struct call *c) {
    stub_answer_error(c, 500, "Internal server error", NULL);
}

static void answer_no_agent(struct call *c) {
    char message[64];
    snprintf(message, sizeof message, "Agent with ID %.24s not found", c->id);
    stub_answer_error(c, 404, message, NULL);
}

static void answer_invalid(struct call *c, const char *const *errors) {
    stub_answer_error(c, 400, "Validation failed", errors);
}

/* The agent, or NULL when it answered. */
static struct agent *look_up(struct call *c) {
    struct agent *a = NULL;
    if (!stub_agents_is_id(c->id))
        answer_internal(c);
    else if (!(a = stub_fleet_find(c->stub->agents, c->id, false)))
        answer_no_agent(c);
    return a;
}

/* ---- POST /agents/:id/connect ---- */

static bool secret_is_valid(struct call *c, const char **secret) {
    static const char *const missing[] = {"secret must be a string", "secret should not be empty",
                                          NULL};
    static const char *const empty[] = {"secret should not be empty", NULL};
    static const char *const no_string[] = {"secret must be a string", NULL};
    const json_t *given = json_object_get(c->json, "secret");
    *secret = json_string_value(given);
    if (*secret && **secret)
        return true;
    answer_invalid(c, *secret ? empty : !given || json_is_null(given) ? missing : no_string);
    return false;
}

static void connect_accepted(struct call *c, struct agent *a) {
    struct str token;
    str_init(&token, STUB_FLEET_TOKEN_MAX);
    stub_fleet_add_token(c->stub, &token, a, c->id);
    stub_fleet_add_configuration(&c->answer, a, str_span(&token), c->stub->set.token_ttl_s);
    str_release(&token);
    stub_answer_json(c, 201);
}

/* The update that follows the comparison is made for clients that have left, too. */
static void note_connected(struct call *c, struct agent *a) {
    a->connections++;
    a->connected_ms = clock_wall_ms();
    stub_count(c->stub, connects_ok);
}

static void connect_compared(struct call *c) {
    struct agent *a = stub_fleet_find(c->stub->agents, c->id, false);
    if (a && c->secret_matches)
        note_connected(c, a);
    if (!c->connection)
        stub_call_free(c);
    else if (!a)
        answer_no_agent(c);
    else if (c->secret_matches)
        connect_accepted(c, a);
    else
        stub_answer_error(c, 401, "Invalid credentials", NULL);
}

static void on_connect(struct call *c) {
    const char *secret;
    struct agent *a;
    c->delay_ms += c->stub->set.connect_delay_ms;
    if (!secret_is_valid(c, &secret) || !(a = look_up(c)))
        return;
    if (strcmp(a->status, "suspended") == 0) {
        stub_answer_error(c, 401, "Agent is suspended", NULL);
        return;
    }
    if (!a->has_secret) {
        stub_answer_error(c, 401, "Agent has no secret configured", NULL);
        return;
    }
    c->secret_matches = stub_fleet_secret_is(a, secret);
    if (c->stub->set.connect_cost_ms > 0) {
        stub_burners_submit(c->stub->burners, c, c->stub->set.connect_cost_ms, connect_compared);
        return;
    }
    stub_count(c->stub, bcrypts);
    connect_compared(c);
}

/* ---- POST /agents/:id/heartbeat, /disconnect ---- */

bool stub_agents_is_beat_status(const char *status) {
    return status && (strcmp(status, "online") == 0 || strcmp(status, "busy") == 0 ||
                      strcmp(status, "idle") == 0);
}

static bool beat_is_valid(struct call *c) {
    const char *errors[3] = {NULL};
    int count = 0;
    const char *status = json_string_value(json_object_get(c->json, "status"));
    const json_t *metrics = json_object_get(c->json, "metrics");
    if (!stub_agents_is_beat_status(status))
        errors[count++] = "status must be one of the following values: ";
    if (metrics && !json_is_null(metrics) && !json_is_object(metrics))
        errors[count++] = "metrics must be an object";
    if (count > 0)
        answer_invalid(c, errors);
    return count == 0;
}

static void on_heartbeat(struct call *c) {
    struct agent *a;
    if (c->stub->set.heartbeat_status) {
        stub_answer_error(c, (int)c->stub->set.heartbeat_status, "Failed on order", NULL);
        return;
    }
    if (!beat_is_valid(c) || !(a = look_up(c)))
        return;
    a->beat_ms = clock_wall_ms();
    stub_count(c->stub, heartbeats_ok);
    stub_answer_text(c, 201, "{\"success\":true}");
}

bool stub_agents_beat(struct agents *agents, const char *id, int64_t at_ms) {
    struct agent *a = stub_fleet_find(agents, id, false);
    if (a && a->beat_ms < at_ms)
        a->beat_ms = at_ms;
    return a != NULL;
}

static void on_disconnect(struct call *c) {
    static const char *const no_string[] = {"reason must be a string", NULL};
    const json_t *reason = json_object_get(c->json, "reason");
    struct agent *a;
    if (reason && !json_is_null(reason) && !json_is_string(reason)) {
        answer_invalid(c, no_string);
        return;
    }
    if (!(a = look_up(c)))
        return;
    a->connected_ms = 0;
    stub_answer_text(c, 201, "{\"success\":true}");
}

/* ---- POST /agents/:id/credentials/regenerate ---- */

static char *fresh_secret(void) {
    unsigned char bytes[32];
    char *text = must_alloc(2 * sizeof bytes + 1);
    random_fill(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    return text;
}

/* As long as the real one's, which nobody here reads. */
static void add_filler(struct str *s, const char *line, size_t size) {
    for (size_t start = s->len; s->len < start + size;)
        str_add(s, span_of(line));
}

static void on_regenerate(struct call *c) {
    struct agent *a;
    if (!(a = look_up(c)))
        return;
    if (a->managed) {
        stub_answer_error(c, 400, "Only autonomous agents have credentials to regenerate", NULL);
        return;
    }
    free(a->secret);
    a->secret = fresh_secret();
    a->has_secret = true;
    str_addf(&c->answer, "{\"agentId\":\"%s\",\"secret\":\"%s\",\"envConfig\":\"", c->id,
             a->secret);
    add_filler(&c->answer, "# AIWM agent\\n", ENV_CONFIG_SIZE);
    STR_ADD(&c->answer, "\",\"installScript\":\"");
    add_filler(&c->answer, "# install\\n", INSTALL_SCRIPT_SIZE);
    STR_ADD(&c->answer, "\"}");
    stub_answer_json(c, 201);
}

/* ---- GET, PUT, DELETE /agents/:id, GET /agents/:id/config ---- */

static bool sees(const struct claims *who, const struct agent *a) {
    return strcmp(who->org, a->of_other_org ? STUB_OTHER_ORG : STUB_ORG) == 0;
}

static void on_get(struct call *c, const struct claims *who) {
    struct agent *a = look_up(c);
    if (!a)
        return;
    if (!sees(who, a)) {
        answer_no_agent(c);
        return;
    }
    stub_fleet_add_document(&c->answer, c->stub->agents, a);
    stub_answer_json(c, 200);
}

static void on_config(struct call *c, const struct claims *who) {
    struct agent *a = look_up(c);
    if (!a)
        return;
    if (!sees(who, a)) {
        stub_answer_error(c, 401, "Not authorized to access this agent", NULL);
        return;
    }
    stub_fleet_add_configuration(&c->answer, a, SPAN(""), 0);
    stub_answer_json(c, 200);
}

static bool status_is_valid(const char *status) {
    return !strcmp(status, "active") || !strcmp(status, "inactive") || !strcmp(status, "busy") ||
           !strcmp(status, "suspended");
}

static void note_writer(struct agent *a, const struct claims *who) {
    json_t *roles = json_object_get(who->all, "roles");
    char *text = json_dumps(roles, JSON_COMPACT);
    struct str writer;
    str_init(&writer, WRITER_MAX);
    str_addf(&writer, "{\"userId\":\"%s\",\"roles\":%s,\"orgId\":\"%s\",", who->sub,
             text ? text : "[]", who->org);
    STR_ADD(&writer, "\"groupId\":\"\",\"agentId\":\"\",\"appId\":\"\"}");
    str_add_char(&writer, '\0');
    free(text);
    free(a->writer);
    a->writer = writer.ptr;
    a->updated_ms = clock_wall_ms();
}

static bool update_is_valid(struct call *c, const struct agent *a) {
    static const char *const bad_status[] = {"status must be one of the following values: ", NULL};
    const json_t *given = json_object_get(c->json, "status");
    const char *status = json_string_value(given);
    const char *type = json_string_value(json_object_get(c->json, "type"));
    const char *own = a->managed ? "managed" : "autonomous";
    char message[256];
    if (given && (!status || !status_is_valid(status))) {
        answer_invalid(c, bad_status);
        return false;
    }
    if (type && strcmp(type, own) != 0) {
        snprintf(message, sizeof message,
                 "Cannot change agent type from '%s' to '%.32s'. Please delete and recreate the "
                 "agent with the desired type.",
                 own, type);
        stub_answer_error(c, 400, message, NULL);
        return false;
    }
    return true;
}

static void on_update(struct call *c, const struct claims *who) {
    struct agent *a;
    if (!who->may_write) {
        stub_answer_error(c, 403, "You do not have permission to update.", NULL);
        return;
    }
    if (!(a = look_up(c)) || !update_is_valid(c, a))
        return;
    const char *status = json_string_value(json_object_get(c->json, "status"));
    const json_t *settings = json_object_get(c->json, "settings");
    if (status)
        snprintf(a->status, sizeof a->status, "%s", status);
    if (json_is_object(settings)) {
        free(a->settings);
        a->settings = json_dumps(settings, JSON_COMPACT);
    }
    note_writer(a, who);
    stub_fleet_add_document(&c->answer, c->stub->agents, a);
    stub_answer_json(c, 200);
}

/* Deleting twice is as good as once, and so is deleting nobody. */
static void on_delete(struct call *c, const struct claims *who) {
    struct agent *a;
    if (!who->may_write) {
        stub_answer_error(c, 403, "You do not have permission to delete.", NULL);
        return;
    }
    if (!stub_agents_is_id(c->id)) {
        answer_internal(c);
        return;
    }
    if ((a = stub_fleet_find(c->stub->agents, c->id, true)) != NULL)
        a->deleted = true;
    stub_answer_text(c, 200, "{\"message\":\"Agent deleted successfully\"}");
}

/* ---- which is which ---- */

enum route {
    ROUTE_NONE,
    ROUTE_CONNECT,
    ROUTE_HEARTBEAT,
    ROUTE_DISCONNECT,
    ROUTE_REGENERATE,
    ROUTE_GET,
    ROUTE_CONFIG,
    ROUTE_UPDATE,
    ROUTE_DELETE,
};

static const struct {
    enum route route;
    const char *method;
    const char *tail[2]; /* segments behind /agents/:id */
} routes[] = {
    {ROUTE_CONNECT, "POST", {"connect", NULL}},
    {ROUTE_HEARTBEAT, "POST", {"heartbeat", NULL}},
    {ROUTE_DISCONNECT, "POST", {"disconnect", NULL}},
    {ROUTE_REGENERATE, "POST", {"credentials", "regenerate"}},
    {ROUTE_GET, "GET", {NULL, NULL}},
    {ROUTE_GET, "HEAD", {NULL, NULL}},
    {ROUTE_CONFIG, "GET", {"config", NULL}},
    {ROUTE_UPDATE, "PUT", {NULL, NULL}},
    {ROUTE_DELETE, "DELETE", {NULL, NULL}},
};

static bool segment_is(const struct span *segments, int count, int at, const char *expected) {
    if (at >= count)
        return expected == NULL;
    return expected && span_equal_nocase(segments[at], span_of(expected));
}

static enum route route_of(const struct call *c, struct span *id) {
    struct span segments[4];
    int count = stub_segments(c->path, segments, 4);
    bool reads_recording = c->query.len > 1 && memmem(c->query.ptr, c->query.len, "populate=", 9);
    if (count < 2 || !span_equal_nocase(segments[0], SPAN("agents")) || reads_recording)
        return ROUTE_NONE;
    *id = segments[1];
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (strcmp(routes[i].method, c->method) == 0 &&
            segment_is(segments, count, 2, routes[i].tail[0]) &&
            segment_is(segments, count, 3, routes[i].tail[1]))
            return routes[i].route;
    return ROUTE_NONE;
}

bool stub_agents_token_is_good(struct call *c, struct claims *who) {
    enum token_answer answer = stub_token_check(c->stub, stub_call_header(c, "Authorization"),
                                                clock_wall_ms() / 1000, who);
    if (answer != TOKEN_OK)
        stub_answer_error(
            c, 401, answer == TOKEN_UNAUTHORIZED ? "Unauthorized" : "Invalid token payload", NULL);
    return answer == TOKEN_OK;
}

static void dispatch(struct call *c, enum route route, const struct claims *who) {
    switch (route) {
    case ROUTE_CONNECT:
        on_connect(c);
        return;
    case ROUTE_HEARTBEAT:
        on_heartbeat(c);
        return;
    case ROUTE_DISCONNECT:
        on_disconnect(c);
        return;
    case ROUTE_REGENERATE:
        on_regenerate(c);
        return;
    case ROUTE_GET:
        on_get(c, who);
        return;
    case ROUTE_CONFIG:
        on_config(c, who);
        return;
    case ROUTE_UPDATE:
        on_update(c, who);
        return;
    case ROUTE_DELETE:
        on_delete(c, who);
        return;
    case ROUTE_NONE:
        return;
    }
}

static void count_route(struct stub *stub, enum route route) {
    if (route == ROUTE_CONNECT)
        stub_count(stub, connects);
    else if (route == ROUTE_HEARTBEAT)
        stub_count(stub, heartbeats);
    else if (route == ROUTE_DISCONNECT)
        stub_count(stub, disconnects);
    else if (route == ROUTE_REGENERATE)
        stub_count(stub, regenerates);
    else
        stub_count(stub, others);
}

bool stub_agents_handle(struct call *c) {
    struct span id;
    struct claims who = {.all = NULL};
    enum route route = route_of(c, &id);
    if (route == ROUTE_NONE)
        return false;
    count_route(c->stub, route);
    if (!stub_decode(id, c->id, sizeof c->id)) {
        char message[256];
        snprintf(message, sizeof message, "Failed to decode param '%.*s'", SPAN_ARG(id));
        stub_answer_error(c, 400, message, NULL);
        return true;
    }
    stub_log_agent(c->stub->log, c->seq, c->id);
    if (route == ROUTE_CONNECT || stub_agents_token_is_good(c, &who))
        dispatch(c, route, &who);
    json_decref(who.all);
    return true;
}
