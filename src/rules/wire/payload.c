/* What agents send is nearly always plain, and json_scan_plain reads it in one walk. For the rest
 * two readers share the work. rules/wire/json_scan judges the grammar and the depth first, in
 * Node's words, so that jansson never sees what is not bounded; jansson then reads values and finds
 * invalid UTF-8 and repeated names at any level. What Node's parser takes and jansson cannot hold
 * (half a surrogate pair, a number beyond double) is the controller's to judge. */
#include "rules/wire/payload.h"

#include "rules/trust/token.h"
#include "rules/wire/json_scan.h"

#include <jansson.h>
#include <stdio.h>

/* A verdict has about 230 bytes; what is larger was written by somebody else. */
enum { VERDICT_MAX = 16384, ANSWER_MAX = 262144 };

static const char STATUS_WRONG[] = "status must be one of the following values: ";
static const char METRICS_WRONG[] = "metrics must be an object";
static const char SECRET_NO_STRING[] = "secret must be a string";
static const char SECRET_EMPTY[] = "secret should not be empty";

/* ---- what the body is said to be ---- */

/* Moves `rest` past one more "; name=value"; false when it is not one. A quoted value is given
 * without quotes and may hold no backslash. */
static bool next_parameter(struct span *rest, struct span *name, struct span *value) {
    struct span s = span_trim(*rest);
    if (s.len == 0 || s.ptr[0] != ';')
        return false;
    s = span_trim(span_from(s, 1));
    const char *equals = s.len ? memchr(s.ptr, '=', s.len) : NULL;
    if (!equals)
        return false;
    *name = (struct span){s.ptr, (size_t)(equals - s.ptr)};
    s = span_from(s, name->len + 1);
    if (s.len && s.ptr[0] == '"') {
        const char *quote = memchr(s.ptr + 1, '"', s.len - 1);
        if (!quote)
            return false;
        *value = (struct span){s.ptr + 1, (size_t)(quote - s.ptr - 1)};
        *rest = span_from(s, value->len + 2);
        return !memchr(value->ptr, '\\', value->len);
    }
    const char *end = s.len ? memchr(s.ptr, ';', s.len) : NULL;
    *value = (struct span){s.ptr, end ? (size_t)(end - s.ptr) : s.len};
    *rest = span_from(s, value->len);
    *value = span_trim(*value);
    return value->len > 0;
}

bool payload_is_plain_json(struct span content_type, struct span content_encoding) {
    struct span encoding = span_trim(content_encoding);
    if (encoding.len && !span_equal_nocase(encoding, SPAN("identity")))
        return false;
    const char *end = content_type.len ? memchr(content_type.ptr, ';', content_type.len) : NULL;
    size_t len = end ? (size_t)(end - content_type.ptr) : content_type.len;
    struct span type = span_trim((struct span){content_type.ptr, len});
    if (!span_equal_nocase(type, SPAN("application/json")))
        return false;
    /* The only parameter we understand is one charset; any other is the controller's business. */
    struct span rest = span_trim(span_from(content_type, len)), name, value;
    if (rest.len == 0)
        return true;
    return next_parameter(&rest, &name, &value) && span_equal_nocase(name, SPAN("charset")) &&
           span_equal_nocase(value, SPAN("utf-8")) && span_trim(rest).len == 0;
}

/* ---- reading ---- */

static void refuse_syntax(struct payload_verdict *verdict, const char *what, size_t at,
                          bool ended) {
    verdict->kind = PAYLOAD_SYNTAX;
    if (ended)
        (void)snprintf(verdict->message, sizeof verdict->message, "%s", what);
    else
        (void)snprintf(verdict->message, sizeof verdict->message, "%s at position %zu", what, at);
}

/* Express' parser runs strictly: what does not begin as an object or an array is no JSON to it. */
static bool begins_as_container(struct span body, struct json_fault *fault) {
    size_t at = 0;
    while (at < body.len && memchr(" \t\r\n", body.ptr[at], 4))
        at++;
    if (at < body.len && (body.ptr[at] == '{' || body.ptr[at] == '['))
        return true;
    *fault = at < body.len
                 ? (struct json_fault){.what = "Unexpected token in JSON", .at = at}
                 : (struct json_fault){.what = "Unexpected end of JSON input", .ended = true};
    return false;
}

static json_t *load(struct span body, size_t flags, json_error_t *error) {
    return json_loadb(body.ptr, body.len, flags | JSON_REJECT_DUPLICATES, error);
}

/* Why jansson would not hold what the grammar allows. */
static void refuse_values(struct payload_verdict *verdict, const json_error_t *error) {
    size_t at = error->position > 0 ? (size_t)error->position : 0;
    switch (json_error_code(error)) {
    case json_error_duplicate_key:
        refuse_syntax(verdict, "Repeated property name in JSON", at, false);
        break;
    case json_error_invalid_utf8:
        refuse_syntax(verdict, "Invalid UTF-8 in JSON", at, false);
        break;
    default:
        verdict->kind = PAYLOAD_FOREIGN;
    }
}

/* A body that was read, by one reader or the other. */
struct body {
    json_t *root; /* NULL: it was plain, and `members` has it */
    struct json_members members;
};

/* A tree, or NULL and the verdict. */
static json_t *read_tree(struct span text, struct payload_verdict *verdict) {
    struct json_fault fault;
    json_error_t error;
    if (!begins_as_container(text, &fault) || !json_scan_text(text, &fault)) {
        refuse_syntax(verdict, fault.what, fault.at, fault.ended);
        return NULL;
    }
    /* Numbers are forwarded as they were spelled; as reals none is too long to be read. */
    json_t *root = load(text, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);
    if (!root)
        refuse_values(verdict, &error);
    return root;
}

/* False: the verdict says why. Without a body the controller's parser has an empty object. */
static bool read_body(struct span content_type, struct span content_encoding, struct span text,
                      struct payload_verdict *verdict, struct body *out) {
    bool said_nothing = text.len == 0 && content_type.len == 0 && content_encoding.len == 0;
    *verdict = (struct payload_verdict){.kind = PAYLOAD_FINE};
    out->root = NULL;
    out->members.count = 0;
    if (!said_nothing && !payload_is_plain_json(content_type, content_encoding)) {
        verdict->kind = PAYLOAD_FOREIGN;
        return false;
    }
    if (text.len == 0 || json_scan_plain(text, &out->members))
        return true;
    out->members.count = 0;
    out->root = read_tree(text, verdict);
    return out->root != NULL;
}

/* A property, whoever has read it. */
struct property {
    enum { ABSENT, IS_NULL, IS_STRING, IS_OBJECT, IS_OTHER } kind;
    struct span text; /* of a string */
};

/* Arrays have no properties to the controller's validation either. */
static json_t *property(const json_t *root, const char *name) {
    return json_is_object(root) ? json_object_get(root, name) : NULL;
}

static struct property property_of_tree(const json_t *root, const char *name) {
    const json_t *value = property(root, name);
    if (json_is_string(value))
        return (struct property){IS_STRING, {json_string_value(value), json_string_length(value)}};
    if (!value)
        return (struct property){ABSENT, SPAN_NONE};
    return (struct property){json_is_null(value)     ? IS_NULL
                             : json_is_object(value) ? IS_OBJECT
                                                     : IS_OTHER,
                             SPAN_NONE};
}

static struct property property_of(const struct body *body, const char *name) {
    struct span text;
    if (body->root)
        return property_of_tree(body->root, name);
    const struct json_member *member = json_member_find(&body->members, span_of(name));
    if (!member)
        return (struct property){ABSENT, SPAN_NONE};
    if (json_member_string(member, &text))
        return (struct property){IS_STRING, text};
    return (struct property){span_equal(member->value, SPAN("null")) ? IS_NULL
                             : member->kind == JSON_KIND_OBJECT      ? IS_OBJECT
                                                                     : IS_OTHER,
                             SPAN_NONE};
}

static void refuse_property(struct payload_verdict *verdict, const char *error) {
    verdict->errors[verdict->kind == PAYLOAD_INVALID] = error;
    verdict->kind = PAYLOAD_INVALID;
}

/* ---- heartbeat ---- */

static bool read_status(const struct property *value, enum beat_status *status) {
    static const struct {
        struct span name;
        enum beat_status status;
    } rows[] = {{{"online", 6}, BEAT_ONLINE}, {{"busy", 4}, BEAT_BUSY}, {{"idle", 4}, BEAT_IDLE}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && value->kind == IS_STRING; i++)
        if (span_equal(value->text, rows[i].name)) {
            *status = rows[i].status;
            return true;
        }
    return false;
}

void payload_read_beat(struct span content_type, struct span content_encoding, struct span text,
                       struct payload_verdict *verdict, enum beat_status *status) {
    struct body body;
    enum beat_status found;
    if (!read_body(content_type, content_encoding, text, verdict, &body))
        return;
    struct property said = property_of(&body, "status"), metrics = property_of(&body, "metrics");
    if (!read_status(&said, &found))
        refuse_property(verdict, STATUS_WRONG);
    if (metrics.kind == IS_STRING || metrics.kind == IS_OTHER)
        refuse_property(verdict, METRICS_WRONG);
    if (verdict->kind == PAYLOAD_FINE)
        *status = found;
    json_decref(body.root);
}

/* ---- connect ---- */

static void judge_secret(const struct property *secret, struct payload_verdict *verdict) {
    if (secret->kind != IS_STRING)
        refuse_property(verdict, SECRET_NO_STRING);
    if (secret->kind == ABSENT || secret->kind == IS_NULL ||
        (secret->kind == IS_STRING && secret->text.len == 0))
        refuse_property(verdict, SECRET_EMPTY);
    if (verdict->kind == PAYLOAD_FINE && secret->text.len > PAYLOAD_SECRET_MAX)
        verdict->kind = PAYLOAD_FOREIGN;
}

void payload_read_connect(struct span content_type, struct span content_encoding, struct span text,
                          struct payload_verdict *verdict, char secret[PAYLOAD_SECRET_MAX],
                          size_t *secret_len) {
    struct body body;
    if (!read_body(content_type, content_encoding, text, verdict, &body))
        return;
    struct property said = property_of(&body, "secret");
    judge_secret(&said, verdict);
    if (verdict->kind == PAYLOAD_FINE) {
        *secret_len = said.text.len;
        memcpy(secret, said.text.ptr, said.text.len);
    }
    json_decref(body.root);
}

/* ---- the controller's answers ---- */

/* The token that is this member, and its exp. */
static bool read_token(const struct json_member *member, struct connect_answer *out) {
    _Static_assert(sizeof out->org == TOKEN_ORG_MAX, "both hold an organization");
    return json_member_string(member, &out->token) &&
           token_peek(out->token, &out->expires_s, out->org);
}

/* The id of an object such as "instruction":{"id":...}; empty where there is none. */
static struct span read_id(const struct json_member *member) {
    struct json_members inner;
    struct span id = SPAN_NONE;
    if (member && json_scan_object(member->value, &inner))
        (void)json_member_string(json_member_find(&inner, SPAN("id")), &id);
    return id;
}

static void read_expires_in(const struct json_member *member, struct span body,
                            struct connect_answer *out) {
    int64_t seconds;
    if (!json_member_integer(member, &seconds))
        return;
    out->expires_in_at = (size_t)(member->value.ptr - body.ptr);
    out->expires_in_len = member->value.len;
}

bool payload_read_connect_answer(struct span body, struct connect_answer *out) {
    struct json_members members;
    struct connect_answer found = {0};
    if (body.len > ANSWER_MAX || !json_scan_object(body, &members))
        return false;
    if (!read_token(json_member_find(&members, SPAN("accessToken")), &found) &&
        !read_token(json_member_find(&members, SPAN("token")), &found))
        return false;
    const struct json_member *deployment = json_member_find(&members, SPAN("deployment"));
    read_expires_in(json_member_find(&members, SPAN("expiresIn")), body, &found);
    found.instruction = read_id(json_member_find(&members, SPAN("instruction")));
    found.deployment = read_id(deployment);
    found.has_deployment = deployment && deployment->kind == JSON_KIND_OBJECT;
    *out = found;
    return true;
}

/* Up to `max` bytes, but no half of a UTF-8 sequence. */
static size_t cut(struct span text, size_t max) {
    size_t len = text.len < max ? text.len : max;
    while (len > 0 && len < text.len && ((unsigned char)text.ptr[len] & 0xc0) == 0x80)
        len--;
    return len;
}

bool payload_is_verdict(int status, struct span body, char message[256]) {
    struct json_fault fault;
    json_error_t error;
    if (body.len > VERDICT_MAX || !json_scan_text(body, &fault))
        return false;
    json_t *root = load(body, 0, &error);
    const json_t *code = property(root, "statusCode"), *said = property(root, "message");
    struct span text = {json_string_value(said), json_string_length(said)};
    bool is_verdict = json_is_integer(code) && json_integer_value(code) == status &&
                      json_is_string(said) &&
                      (status != 404 || span_starts(text, SPAN("Agent with ID")));
    if (is_verdict) {
        size_t len = cut(text, 255);
        memcpy(message, text.ptr, len);
        message[len] = '\0';
    }
    json_decref(root);
    return is_verdict;
}

static bool is_other_agents(const json_t *root, const struct agent_id *agent) {
    const char *text = json_string_value(property(root, "_id"));
    struct agent_id id;
    return text && !(agent_id_parse(span_of(text), &id) && agent_id_equal(&id, agent));
}

enum payload_agent_status payload_read_agent_status(struct span body,
                                                    const struct agent_id *agent) {
    struct json_fault fault;
    enum payload_agent_status said = PAYLOAD_STATUS_UNSAID;
    if (!json_scan_text(body, &fault))
        return said;
    json_t *root = json_loadb(body.ptr, body.len, JSON_ALLOW_NUL, NULL);
    const char *status = json_string_value(property(root, "status"));
    if (status && !is_other_agents(root, agent))
        said = strcmp(status, "suspended") == 0 ? PAYLOAD_SUSPENDED : PAYLOAD_NOT_SUSPENDED;
    json_decref(root);
    return said;
}

/* ---- in bulk ---- */

bool payload_add_bulk_beat(struct str *out, const struct agent_id *agent, enum beat_status status,
                           struct span body, const char *at) {
    static const char *const names[] = {
        [BEAT_ONLINE] = "online", [BEAT_BUSY] = "busy", [BEAT_IDLE] = "idle"};
    struct json_members members;
    char id[AGENT_ID_HEX];
    if (!json_scan_object(body, &members))
        return false;
    agent_id_text(agent, id);
    str_addf(out, "{\"agentId\":\"%.*s\",\"status\":\"%s\",\"at\":\"%s\"", AGENT_ID_HEX, id,
             names[status], at);
    const struct json_member *metrics = json_member_find(&members, SPAN("metrics"));
    if (metrics && metrics->kind == JSON_KIND_OBJECT) {
        STR_ADD(out, ",\"metrics\":");
        str_add(out, metrics->value);
    }
    str_add_char(out, '}');
    return !out->overflow;
}

static bool is_bulk_result(const json_t *result) {
    json_int_t status = json_integer_value(property(result, "status"));
    return status >= 200 && status <= 599 && json_is_string(property(result, "agentId"));
}

static bool are_bulk_results(const json_t *results, size_t count) {
    if (!json_is_array(results) || json_array_size(results) != count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!is_bulk_result(json_array_get(results, i)))
            return false;
    return true;
}

bool payload_read_bulk_results(struct span body, size_t count,
                               void (*item)(void *arg, size_t at, struct span agent, int status,
                                            const char *message),
                               void *arg) {
    struct json_fault fault;
    json_error_t error;
    if (!json_scan_text(body, &fault)) /* bounded depth before jansson sees it */
        return false;
    json_t *root = load(body, 0, &error);
    const json_t *results = property(root, "results");
    bool fine = are_bulk_results(results, count);
    for (size_t i = 0; fine && i < count; i++) {
        const json_t *result = json_array_get(results, i), *id = property(result, "agentId");
        const char *message = json_string_value(property(result, "message"));
        item(arg, i, (struct span){json_string_value(id), json_string_length(id)},
             (int)json_integer_value(property(result, "status")), message ? message : "");
    }
    json_decref(root);
    return fine;
}
