#include "serve/gate/fetch.h"

#include "base/panic.h"
#include "base/secret.h"
#include "rules/wire/payload.h"
#include "serve/gate/passage.h"

#include <stdlib.h>

struct fetch {
    struct serve *serve;
    struct passage *passage;
    void (*done)(void *arg, const struct fetched *result);
    void *arg;
    int status;
    int64_t took_us;
    struct str content_type;
    struct str body;
    char date[32];
    size_t date_len;
};

static void fetch_free(struct fetch *f) {
    str_release(&f->content_type);
    secret_cleanse(f->body.ptr, f->body.len); /* it may hold a token */
    str_release(&f->body);
    free(f);
}

static void on_head(void *arg, const struct http_response *head) {
    struct fetch *f = arg;
    f->status = head->status;
    f->took_us = passage_took_us(f->passage);
    str_add(&f->content_type, head->fields.known[HTTP_CONTENT_TYPE]);
    struct span date = head->fields.known[HTTP_DATE];
    f->date_len = date.len < sizeof f->date ? date.len : 0;
    if (f->date_len > 0)
        memcpy(f->date, date.ptr, f->date_len);
}

static void on_body(void *arg, struct span bytes) {
    struct fetch *f = arg;
    str_add(&f->body, bytes);
}

static void on_done(void *arg, enum err error, int retry_after_s) {
    struct fetch *f = arg;
    if (error == ERR_OK && f->body.overflow)
        error = ERR_UPSTREAM_PROTOCOL;
    f->done(f->arg, &(struct fetched){.error = error,
                                      .status = f->status,
                                      .content_type = str_span(&f->content_type),
                                      .body = str_span(&f->body),
                                      .date = {f->date, f->date_len},
                                      .retry_after_s = retry_after_s,
                                      .took_us = f->took_us});
    fetch_free(f);
}

static const struct passage_events events = {
    .on_head = on_head, .on_body = on_body, .on_done = on_done};

struct fetch *fetch_start(struct serve *s, const struct call_request *request,
                          const struct admission_terms *terms, size_t body_max,
                          void (*done)(void *arg, const struct fetched *result), void *arg) {
    struct fetch *f = must_zalloc(sizeof *f);
    f->serve = s;
    f->done = done;
    f->arg = arg;
    str_init(&f->content_type, HTTP_HEAD_MAX);
    str_init(&f->body, body_max);
    struct call_request whole = *request;
    whole.is_whole = true;
    f->passage = passage_start(s, &whole, terms, &events, f);
    return f;
}

void fetch_cancel(struct fetch *f) {
    passage_cancel(f->passage);
    fetch_free(f);
}

void fetch_give_up(struct fetch *f) {
    passage_give_up(f->passage);
    fetch_free(f);
}

bool fetch_was_sent(const struct fetch *f) {
    return passage_was_sent(f->passage);
}

bool fetched_is_verdict(const struct fetched *result, char message[256]) {
    bool is_no = result->status == 401 || result->status == 403 || result->status == 404;
    return result->error == ERR_OK && is_no &&
           payload_is_verdict(result->status, result->body, message);
}
