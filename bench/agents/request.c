#include "agents/request.h"

#include "rules/wire/json_scan.h"

static const char *const actions[] = {
    [LIFE_CONNECT] = "connect", [LIFE_BEAT] = "heartbeat", [LIFE_DISCONNECT] = "disconnect"};

static void add_head(struct str *out, const struct request *r, size_t body_len) {
    STR_ADD(out, "POST ");
    str_add(out, span_of(r->prefix));
    STR_ADD(out, "/agents/");
    str_add(out, r->id);
    STR_ADD(out, "/");
    str_add(out, span_of(actions[r->call]));
    STR_ADD(out, " HTTP/1.1\r\nHost: ");
    str_add(out, span_of(r->authority));
    STR_ADD(out, "\r\nContent-Type: application/json\r\nContent-Length: ");
    str_add_int(out, (int64_t)body_len);
    if (r->call != LIFE_CONNECT) {
        STR_ADD(out, "\r\nAuthorization: Bearer ");
        str_add(out, r->token);
    }
    if (r->close)
        STR_ADD(out, "\r\nConnection: close");
    STR_ADD(out, "\r\n\r\n");
}

void request_build(struct str *out, const struct request *r) {
    char memory[1024];
    struct str body;
    str_init_fixed(&body, memory, sizeof memory);
    if (r->call == LIFE_CONNECT) {
        STR_ADD(&body, "{\"secret\":");
        str_add_json(&body, r->secret);
        STR_ADD(&body, "}");
    } else if (r->call == LIFE_BEAT) {
        STR_ADD(&body, "{\"status\":\"online\",\"metrics\":{\"cpu\":45,\"memory\":60,"
                       "\"activeConnections\":3}}");
    } else {
        STR_ADD(&body, "{\"reason\":\"shutdown\"}");
    }
    add_head(out, r, body.len);
    str_add(out, str_span(&body));
    explicit_bzero(memory, sizeof memory);
}

bool request_find_token(struct span body, struct span *token) {
    struct json_members members;
    if (!json_scan_object(body, &members))
        return false;
    return json_member_string(json_member_find(&members, SPAN("accessToken")), token) ||
           json_member_string(json_member_find(&members, SPAN("token")), token);
}
