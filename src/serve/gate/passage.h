/* One call to the controller, from the wish to the end of its answer: on its way through the gate,
 * and to who asked. */
#pragma once

#include "serve/gate/admission.h"

struct passage;

/* As struct call_events (io/upstream.h), but for the end. */
struct passage_events {
    void (*on_head)(void *arg, const struct http_response *head);
    void (*on_body)(void *arg, struct span bytes);
    void (*on_turn)(void *arg); /* may be NULL */
    /* `retry_after_s`: 0, or with ERR_CONTROLLER_BUSY and _DOWN when it makes sense to ask again.
     */
    void (*on_done)(void *arg, enum err error, int retry_after_s);
    void (*on_drained)(void *arg); /* may be NULL */
};

/* Never NULL: trouble comes through on_done, from the loop. The request is copied if it waits. */
struct passage *passage_start(struct serve *s, const struct call_request *request,
                              const struct admission_terms *terms, const struct passage_events *on,
                              void *arg);
/* Nobody is told. */
void passage_cancel(struct passage *p);
/* Likewise, but a call that was made has failed. */
void passage_give_up(struct passage *p);
/* Can the controller have seen it? */
bool passage_was_sent(const struct passage *p);
/* From asking to the head of its answer, once that has come: microseconds. */
int64_t passage_took_us(const struct passage *p);
/* From on_head on: may its answer be silent for as long as it likes (an event stream, a long call)?
 */
bool passage_may_be_silent(const struct passage *p);
/* Is it past the gate? */
bool passage_has_begun(const struct passage *p);
void passage_pause(struct passage *p);
void passage_resume(struct passage *p);
void passage_write(struct passage *p, struct span bytes);
size_t passage_unsent(const struct passage *p);

/* The loops have stopped, the upstream is still there: who waits is told ERR_CANCELLED. */
void passage_cancel_all(struct desk *desk);
