#include "serve/request/answer.h"

#include "base/clock.h"
#include "base/panic.h"
#include "serve/request/access.h"

#include <stdio.h>
#include <stdlib.h>

enum { ERROR_PATH_MAX = 2048 };

#define JSON_TYPE "application/json; charset=utf-8"

/* ---- spelling ---- */

struct answering {
    struct exchange *x;
    struct span path, query;
    struct span correlation_id;
    struct span allowance; /* whole fields, or empty */
};

static void spell_fields(struct str *fields, struct span content_type, struct span correlation_id) {
    str_clear(fields);
    STR_ADD(fields, "x-correlation-id: ");
    str_add(fields, correlation_id);
    STR_ADD(fields, "\r\nContent-Type: ");
    str_add(fields, content_type);
    STR_ADD(fields, "\r\n");
}

/* The controller's error shape. `code` NULL: none; `errors`: up to two static texts or NULL. */
static void spell_error(struct str *body, int status, const char *message,
                        const struct answering *to, const char *const *errors, const char *code) {
    char now[CLOCK_ISO_SIZE], memory[ERROR_PATH_MAX];
    struct str path;
    str_init_fixed(&path, memory, sizeof memory);
    str_add(&path, to->path);
    str_add(&path, to->query);
    clock_iso(now, clock_wall_ms());
    str_clear(body);
    STR_ADD(body, "{\"statusCode\":");
    str_add_int(body, status);
    STR_ADD(body, ",\"message\":");
    str_add_json(body, span_of(message));
    STR_ADD(body, ",\"timestamp\":\"");
    str_add(body, span_of(now));
    STR_ADD(body, "\",\"path\":");
    str_add_json(body, str_span(&path));
    STR_ADD(body, ",\"correlationId\":");
    str_add_json(body, to->correlation_id);
    if (errors) {
        STR_ADD(body, ",\"errors\":[");
        for (int i = 0; i < 2 && errors[i]; i++) {
            if (i > 0)
                str_add_char(body, ',');
            str_add_json(body, span_of(errors[i]));
        }
        STR_ADD(body, "]");
    }
    if (code)
        str_addf(body, ",\"code\":\"%s\"", code);
    STR_ADD(body, "}");
}

static void answer_error(struct serve *s, struct answering to, int status, const char *message,
                         const char *const *errors, const char *code, int retry_after_s) {
    spell_fields(&s->fields, SPAN(JSON_TYPE), to.correlation_id);
    if (retry_after_s > 0)
        str_addf(&s->fields, "Retry-After: %d\r\n", retry_after_s);
    str_add(&s->fields, to.allowance);
    spell_error(&s->body, status, message, &to, errors, code);
    exchange_answer(to.x, &(struct answer){status, str_span(&s->fields), false},
                    str_span(&s->body));
}

/* What can be tried again can be tried in a second, unless somebody knows better. */
static void answer_row(struct serve *s, struct answering to, enum err error, int retry_after_s) {
    const struct err_row *row = err_row(error);
    int usual_s = row->retryable ? 1 : 0;
    access_mark_refused(to.x, row->code);
    answer_error(s, to, row->status, row->message, NULL, row->code,
                 retry_after_s > 0 ? retry_after_s : usual_s);
}

static void answer_success(struct serve *s, struct answering to, bool in_memory) {
    access_mark(to.x, s->redis && !in_memory ? OUTCOME_STORED : OUTCOME_HELD);
    spell_fields(&s->fields, SPAN(JSON_TYPE), to.correlation_id);
    if (in_memory)
        STR_ADD(&s->fields, "X-AIWM-Ack: memory\r\n");
    exchange_answer(to.x, &(struct answer){201, str_span(&s->fields), false},
                    SPAN("{\"success\":true}"));
}

static struct answering to_request(const struct request *r) {
    return (struct answering){
        r->x, r->path, r->http->query, r->correlation_id, {r->allowance, r->allowance_len}};
}

static struct answering to_caller(const struct caller *c) {
    return (struct answering){c->x, span_of(c->path), SPAN_NONE, caller_correlation(c), SPAN_NONE};
}

void request_answer_success(struct serve *s, struct request *r, bool in_memory) {
    answer_success(s, to_request(r), in_memory);
}

/* In the controller's words, of which one names the agent. */
static void refuse_deleted(struct serve *s, struct request *r) {
    char id[AGENT_ID_HEX], message[64];
    access_mark_refused(r->x, err_row(ERR_AGENT_DELETED)->code);
    agent_id_text(&r->claims.agent, id);
    (void)snprintf(message, sizeof message, "Agent with ID %.*s not found", AGENT_ID_HEX, id);
    request_refuse_verdict(s, r, err_row(ERR_AGENT_DELETED)->status, message);
}

void request_refuse_until(struct serve *s, struct request *r, enum err error, int retry_after_s) {
    if (error == ERR_AGENT_DELETED)
        refuse_deleted(s, r);
    else
        answer_row(s, to_request(r), error, retry_after_s);
}

void request_refuse(struct serve *s, struct request *r, enum err error) {
    request_refuse_until(s, r, error, 0);
}

void request_refuse_payload(struct serve *s, struct request *r, const struct payload_verdict *v) {
    bool syntax = v->kind == PAYLOAD_SYNTAX;
    access_mark_refused(r->x, NULL);
    answer_error(s, to_request(r), 400, syntax ? v->message : "Validation failed",
                 syntax ? NULL : v->errors, NULL, 0);
}

void request_refuse_verdict(struct serve *s, struct request *r, int status, const char *message) {
    access_mark(r->x, OUTCOME_REPEATED);
    answer_error(s, to_request(r), status, message, NULL, NULL, 0);
}

void caller_answer_success(struct serve *s, struct caller *c, bool in_memory) {
    answer_success(s, to_caller(c), in_memory);
}

void caller_refuse(struct serve *s, struct caller *c, enum err error) {
    answer_row(s, to_caller(c), error, 0);
}

void caller_refuse_until(struct serve *s, struct caller *c, enum err error, int retry_after_s) {
    answer_row(s, to_caller(c), error, retry_after_s);
}

void caller_refuse_verdict(struct serve *s, struct caller *c, int status, const char *message) {
    access_mark(c->x, OUTCOME_REPEATED);
    answer_error(s, to_caller(c), status, message, NULL, NULL, 0);
}

void caller_answer(struct serve *s, struct caller *c, int status, struct span content_type,
                   struct span fields, struct span body) {
    access_mark(c->x, OUTCOME_FORWARDED);
    spell_fields(&s->fields, content_type.len ? content_type : SPAN(JSON_TYPE),
                 caller_correlation(c));
    str_add(&s->fields, fields);
    exchange_answer(c->x, &(struct answer){status, str_span(&s->fields), false}, body);
}

/* ---- callers ---- */

void caller_keep(struct caller *c, const struct request *r) {
    struct answering to = to_request(r);
    c->x = r->x;
    size_t path_len = to.path.len, query_len = to.query.len;
    c->path = must_alloc(path_len + query_len + 1);
    memcpy(c->path, to.path.ptr, path_len);
    if (query_len > 0)
        memcpy(c->path + path_len, to.query.ptr, query_len);
    c->path[path_len + query_len] = '\0';
    c->correlation_len = (uint8_t)r->correlation_id.len;
    memcpy(c->correlation, r->correlation_id.ptr, r->correlation_id.len);
}

void caller_release(struct caller *c) {
    free(c->path);
    c->path = NULL;
    c->x = NULL;
}

struct span caller_correlation(const struct caller *c) {
    return (struct span){c->correlation, c->correlation_len};
}

/* ---- what the server refuses ---- */

void answer_spell_refusal(struct str *fields, struct str *body, enum err error, int retry_after_s,
                          struct span target, struct span correlation_id) {
    const struct err_row *row = err_row(error);
    struct answering to = {.path = target, .correlation_id = correlation_id};
    spell_fields(fields, SPAN(JSON_TYPE), correlation_id);
    if (retry_after_s > 0)
        str_addf(fields, "Retry-After: %d\r\n", retry_after_s);
    spell_error(body, row->status, row->message, &to, NULL, row->code);
}
