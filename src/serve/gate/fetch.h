/* A call to the controller whose answer is taken whole: small JSON, with a maximum. */
#pragma once

#include "serve/gate/admission.h"

struct fetch;

struct fetched {
    enum err error; /* ERR_OK: there is an answer (of any status) */
    int status;
    struct span content_type;
    struct span body;
    struct span date;  /* its Date; empty: none */
    int retry_after_s; /* see struct passage_events */
    int64_t took_us;   /* see passage_took_us; 0: there was no answer */
};

/* Is this answer the controller's own no (401, 403, 404)? Anybody else's (a proxy's, a wrong
 * prefix') is not. Copies the message. */
bool fetched_is_verdict(const struct fetched *result, char message[256]);

/* `done` is called once, from the loop, unless cancelled; *result is valid during the call. An
 * answer longer than `body_max` is ERR_UPSTREAM_PROTOCOL. */
struct fetch *fetch_start(struct serve *s, const struct call_request *request,
                          const struct admission_terms *terms, size_t body_max,
                          void (*done)(void *arg, const struct fetched *result), void *arg);
void fetch_cancel(struct fetch *f);
/* It has taken too long: as if it had failed. `done` is not called. */
void fetch_give_up(struct fetch *f);
bool fetch_was_sent(const struct fetch *f);
