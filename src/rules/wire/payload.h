/* The bodies of agent calls: JSON in, verdict out (the only rules file that includes jansson.h).
 *
 * Judges as the controller does, with its messages, in its order of checks: its body parser, then
 * its validation. Bodies that its parser takes but we do not read (form, gzip, other charsets, no
 * Content-Type) are PAYLOAD_FOREIGN: forwarded as they are. */
#pragma once

#include "base/span.h"
#include "base/str.h"
#include "rules/agents/agent_id.h"

#include <stdint.h>

enum payload_kind {
    PAYLOAD_FINE,
    PAYLOAD_SYNTAX,  /* 400, `message` says what is wrong with the JSON */
    PAYLOAD_INVALID, /* 400 "Validation failed" with `errors` */
    PAYLOAD_FOREIGN, /* not ours to judge */
};

enum beat_status { BEAT_ONLINE, BEAT_BUSY, BEAT_IDLE };

struct payload_verdict {
    enum payload_kind kind;
    char message[160];     /* terminated; for PAYLOAD_SYNTAX. Never quotes the body */
    const char *errors[2]; /* static texts; unused ones NULL */
};

/* Is the body JSON as we read it: Content-Type application/json (or what Express' json parser
 * takes: exactly that type), charset absent or utf-8, no Content-Encoding but identity? */
bool payload_is_plain_json(struct span content_type, struct span content_encoding);

/* Heartbeat: status one of online, busy, idle; metrics absent, null or an object. An empty body
 * counts as {}. Strict JSON: depth at most 64, no duplicate keys, valid UTF-8. */
void payload_read_beat(struct span content_type, struct span content_encoding, struct span text,
                       struct payload_verdict *verdict, enum beat_status *status);

enum { PAYLOAD_SECRET_MAX = 4096 };

/* Connect: `secret` is a non-empty string. On FINE it is copied, decoded, to `secret` (cleansing
 * that buffer is the caller's duty); longer ones are PAYLOAD_FOREIGN. */
void payload_read_connect(struct span content_type, struct span content_encoding, struct span text,
                          struct payload_verdict *verdict, char secret[PAYLOAD_SECRET_MAX],
                          size_t *secret_len);

/* What matters in the controller's answer to a connect. */
struct connect_answer {
    struct span token;       /* the JWT at accessToken or token. Borrows the body */
    int64_t expires_s;       /* its exp */
    size_t expires_in_at;    /* where the digits of the top-level expiresIn stand in the body */
    size_t expires_in_len;   /* 0: there is none (or it is not a plain integer) */
    struct span instruction; /* its id; empty: there is none. Borrows the body */
    struct span deployment;  /* its id, likewise */
    bool has_deployment;     /* a managed agent, whether or not the id could be read */
    char org[64];            /* of the token; "" when it has none */
};

/* False when the body is no JSON object with such a token: such answers are not cached. */
bool payload_read_connect_answer(struct span body, struct connect_answer *out);

/* One item of a bulk request, from what was read of the agent's body: its status, its metrics, and
 * nothing else (a body that names an agentId must not speak for another agent). `at` is an ISO
 * time. False when the body cannot be taken apart or the item does not fit; what was added then is
 * the caller's to cut off. */
bool payload_add_bulk_beat(struct str *out, const struct agent_id *agent, enum beat_status status,
                           struct span body, const char *at);

/* The answer to a bulk request: calls `item` for each result in order, `message` terminated (""
 * when there is none). False, and nothing called, unless there are exactly `count` of them. */
bool payload_read_bulk_results(struct span body, size_t count,
                               void (*item)(void *arg, size_t at, struct span agent, int status,
                                            const char *message),
                               void *arg);

enum payload_agent_status { PAYLOAD_STATUS_UNSAID, PAYLOAD_SUSPENDED, PAYLOAD_NOT_SUSPENDED };

/* What the controller's answer to PUT /agents/:id, the agent's document, says about its status.
 * UNSAID also when it is no JSON, or another agent's document. */
enum payload_agent_status payload_read_agent_status(struct span body, const struct agent_id *agent);

/* Is this an error of the controller's own making: JSON whose statusCode equals `status`, and for
 * 404 a message that begins "Agent with ID"? Anything else with 401/403/404 is an upstream fault
 * (a wrong prefix, somebody else's proxy). Copies the message (terminated, cut to fit). */
bool payload_is_verdict(int status, struct span body, char message[256]);
