/* The access log: one line per request when its exchange ends, as far as log.access wants it.
 *
 *   begin: the request is noted, by reference ------------- it ends at once: the line, or none
 *      '-- still pending when its bytes go: kept, copied -- it ends later: likewise
 *
 * What a line holds is the table of fields in access.c, and nothing else: no header, no body, no
 * query but what log.access_query names, the path by the allow-list of rules/wire/access.h, of a
 * token eight hex digits of a keyed hash. Failures, and all others, are bounded by log.access_rate
 * each; what is left out is counted. Where log.access is off, all that is done for it is to look
 * whether it is.
 *
 * Also times every request, for request_duration_seconds. */
#pragma once

#include "serve/request/request.h"

struct access; /* a worker's */

struct access *access_new(struct serve *s);
void access_free(struct access *a);

/* What became of a request. The first that is told of it stands. */
enum outcome_kind {
    OUTCOME_NONE,
    OUTCOME_FORWARDED, /* the controller's answer */
    OUTCOME_COLLAPSED, /* the same, asked for by another connect */
    OUTCOME_HIT,       /* from the cache */
    OUTCOME_STALE,     /* from the cache, older than wanted: the controller failed or was slow */
    OUTCOME_STORED,    /* a heartbeat that is in Redis */
    OUTCOME_HELD,      /* a heartbeat that is in memory */
    OUTCOME_REPEATED,  /* a no of the controller's, said again */
    OUTCOME_REFUSED,   /* by the gateway */
    OUTCOME_PREFLIGHT, /* a browser's question, answered by the gateway */
};

/* Around a request's journey. */
void access_begin(struct serve *s, const struct request *r);
void access_keep(struct serve *s);
/* A request that the server refuses; `http` may be NULL. */
void access_refused(struct serve *s, struct exchange *x, enum err error,
                    const struct http_request *http, struct span correlation_id);

void access_mark(struct exchange *x, enum outcome_kind outcome);
/* Refused; `code` (static) may be NULL. */
void access_mark_refused(struct exchange *x, const char *code);
/* The controller's answer took so long to begin. */
void access_mark_asked(struct exchange *x, const struct serve *s, int64_t took_us);

/* For the server's events. */
void access_end(void *serve, struct exchange *x, const struct exchange_report *report);
