/* Answers: to a request that is still here, or to a kept caller. The only place that spells the
 * gateway's own answers and errors. */
#pragma once

#include "serve/request/request.h"

/* What an answer needs after the request's bytes are gone. */
struct caller {
    struct exchange *x; /* NULL: the client has left */
    char *path;         /* with its query, terminated */
    uint8_t correlation_len;
    char correlation[HEADERS_CORRELATION_MAX];
};

void caller_keep(struct caller *c, const struct request *r);
void caller_release(struct caller *c);
struct span caller_correlation(const struct caller *c);

/* 201 with a constant body; `in_memory`: with X-AIWM-Ack: memory, for it would not survive us. */
void request_answer_success(struct serve *s, struct request *r, bool in_memory);
void request_refuse(struct serve *s, struct request *r, enum err error);
/* With a Retry-After that somebody has worked out; 0: as above. */
void request_refuse_until(struct serve *s, struct request *r, enum err error, int retry_after_s);
/* The controller's 400: `message`, and `errors` unless they are NULL. */
void request_refuse_payload(struct serve *s, struct request *r, const struct payload_verdict *v);
/* The controller's own words, repeated. */
void request_refuse_verdict(struct serve *s, struct request *r, int status, const char *message);

void caller_answer_success(struct serve *s, struct caller *c, bool in_memory);
void caller_refuse(struct serve *s, struct caller *c, enum err error);
void caller_refuse_until(struct serve *s, struct caller *c, enum err error, int retry_after_s);
void caller_refuse_verdict(struct serve *s, struct caller *c, int status, const char *message);
/* `fields` beyond Content-Type and the correlation id; may be empty. */
void caller_answer(struct serve *s, struct caller *c, int status, struct span content_type,
                   struct span fields, struct span body);

/* The fields and the body of what the server itself refuses. `target` as it came, or empty;
 * `retry_after_s` 0: nothing is said of that. */
void answer_spell_refusal(struct str *fields, struct str *body, enum err error, int retry_after_s,
                          struct span target, struct span correlation_id);
