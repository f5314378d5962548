/* A forwarded request walks like this:
 *
 *   authorised as its route says -> sent to the controller, whole
 *        -> the head of the answer: what the write made untrue is forgotten first; an agent's
 *           document is read for that, and passed on as a whole
 *        -> the body, as it comes; a slow client stops us reading from the controller
 *        -> the end, or a cut when the controller's answer is cut short
 *
 * A client that leaves takes its call along, except for writes with an effect here (whether they
 * happened must be known) and for connects (whether their secret was wrong). */
#include "serve/forward/forward.h"

#include "base/clock.h"
#include "base/panic.h"
#include "serve/beats/verdict.h"
#include "serve/cache/purge.h"
#include "serve/gate/passage.h"
#include "serve/limits/limiting.h"
#include "serve/request/access.h"
#include "serve/request/answer.h"
#include "serve/request/browsers.h"

#include <stdlib.h>

enum {
    FIRST_MAX = 16384,       /* an answer that came whole in one read leaves whole, in one write */
    READ_MAX = 65536,        /* of an answer that is read first; a longer one says nothing */
    FIELDS_USUAL = 512,      /* bytes: grown into at once, not by halves */
    CONNECT_CALL_MS = 10000, /* as serve/connect/flying.c: then nobody waits any more */
};

struct forwarding {
    struct serve *serve;
    struct caller caller; /* caller.x NULL: the client has left */
    struct passage *passage;
    struct written written;
    struct attempt attempt; /* of a connect */
    struct timer answer_by; /* likewise */
    enum gate_class class;
    bool is_connect;
    enum err denied; /* after it had waited */
    int denied_retry_after_s;
    bool started, upgraded;
    bool reads;    /* the answer is read before it is passed on */
    char date[32]; /* of the answer that is read */
    size_t date_len;
    int status; /* 0: no answer yet */
    bool has_date;
    int64_t content_length;
    struct str fields;
    struct str first; /* of the body */
};

static void forwarding_free(struct forwarding *f) {
    if (f->is_connect)
        timer_stop(&f->answer_by);
    limiting_ended(f->serve, &f->attempt, limiting_end_of(f->status));
    caller_release(&f->caller);
    str_release(&f->fields);
    str_release(&f->first);
    free(f);
}

/* ---- the answer ---- */

static struct answer answer_of(const struct forwarding *f) {
    return (struct answer){f->status, str_span(&f->fields), f->has_date};
}

static void start_answer(struct forwarding *f, struct span first) {
    struct answer answer = answer_of(f);
    f->started = true;
    exchange_start(f->caller.x, &answer, f->content_length, first);
}

/* A 5xx may come from something in between, long after the controller has done it. */
static enum ending ending_of(int status) {
    return status / 100 == 2 ? ENDED_WELL : status >= 500 ? ENDED_UNKNOWN : ENDED_BADLY;
}

static void await_answer(struct forwarding *f, struct span date) {
    f->reads = true;
    f->first.max = READ_MAX;
    f->date_len = date.len < sizeof f->date ? date.len : 0;
    if (f->date_len > 0)
        memcpy(f->date, date.ptr, f->date_len);
}

/* The write has happened: `body` is what the controller said of it, as far as that can be read. */
static void end_reading(struct forwarding *f, struct span body) {
    f->reads = false;
    f->written.status = payload_read_agent_status(body, &f->written.agent);
    purge_after(f->serve, &f->written, ENDED_WELL, (struct span){f->date, f->date_len});
}

/* A connect that we could not read was let in, or has found no agent. What was written since it was
 * asked is truer. */
static void note_connect(struct forwarding *f) {
    struct agents *agents = f->serve->shared->agents;
    struct agent *agent = agents_lock(agents, &f->written.agent, false);
    if (!agent)
        return;
    if (agent->purged <= f->written.purges_seen && f->status / 100 == 2)
        verdict_let_in(f->serve, agent, f->written.peers_seen);
    else if (f->status == 404 && agent->beat.sequence != 0)
        purge_doubt(f->serve->shared, agent);
    agents_unlock(agents, agent);
}

static void on_head(void *arg, const struct http_response *head) {
    struct forwarding *f = arg;
    f->status = head->status;
    f->content_length = head->content_length;
    struct span date = head->fields.known[HTTP_DATE];
    enum ending ending = ending_of(f->status);
    if (ending == ENDED_WELL && purge_reads_answer(&f->written))
        await_answer(f, date);
    else
        purge_after(f->serve, &f->written, ending, date);
    if (f->written.effect == EFFECT_LET_IN && (f->status / 100 == 2 || f->status == 404))
        note_connect(f);
    if (!f->caller.x)
        return;
    access_mark(f->caller.x, OUTCOME_FORWARDED);
    access_mark_asked(f->caller.x, f->serve, passage_took_us(f->passage));
    bool upgraded = f->status == 101;
    struct headers_back back = {.correlation_id = caller_correlation(&f->caller),
                                .upgrade = upgraded,
                                .cors_is_ours = browsers_are_ours(f->serve)};
    (void)str_reserve(&f->fields, FIELDS_USUAL);
    headers_to_client(&f->fields, head, &back, &f->has_date);
    if (passage_may_be_silent(f->passage))
        exchange_keep_alive(f->caller.x);
    if (!upgraded)
        return;
    f->upgraded = f->started = true;
    if (exchange_upgrade(f->caller.x, str_span(&f->fields)))
        return;
    exchange_cut(f->caller.x);
    passage_cancel(f->passage);
    forwarding_free(f);
}

static void heed_slow_client(struct forwarding *f) {
    if (exchange_unsent(f->caller.x) > EXCHANGE_HIGH)
        passage_pause(f->passage);
}

static void on_body(void *arg, struct span bytes) {
    struct forwarding *f = arg;
    if (f->reads && f->first.len + bytes.len <= READ_MAX) {
        str_add(&f->first, bytes);
        return;
    }
    if (f->reads)
        end_reading(f, SPAN_NONE);
    if (!f->caller.x)
        return;
    if (!f->started && f->first.len > 0) {
        start_answer(f, str_span(&f->first));
        str_release(&f->first);
    }
    if (f->started)
        exchange_write(f->caller.x, bytes);
    else if (bytes.len <= FIRST_MAX)
        str_add(&f->first, bytes);
    else
        start_answer(f, bytes);
    heed_slow_client(f);
}

static void on_turn(void *arg) {
    struct forwarding *f = arg;
    if (!f->caller.x || f->started || f->reads)
        return;
    start_answer(f, str_span(&f->first));
    str_release(&f->first);
}

static void finish_answer(struct forwarding *f) {
    struct answer answer = answer_of(f);
    /* HEAD and 304 speak of a body that does not come. */
    bool whole = f->first.len > 0 || f->content_length == 0;
    if (!f->started && whole) {
        exchange_answer(f->caller.x, &answer, str_span(&f->first));
        return;
    }
    if (!f->started)
        start_answer(f, SPAN_NONE);
    exchange_finish(f->caller.x);
}

static void fail_answer(struct forwarding *f, enum err error, int retry_after_s) {
    if (f->started)
        exchange_cut(f->caller.x);
    else
        caller_refuse_until(f->serve, &f->caller, error, retry_after_s);
}

/* The controller cannot have seen it. */
static bool never_sent(enum err error) {
    return error == ERR_UPSTREAM_CONNECT || error == ERR_UPSTREAM_TLS || error == ERR_OVERLOADED ||
           error == ERR_TOO_MANY_FAILURES || error == ERR_AGENT_LOCKED ||
           error == ERR_CONTROLLER_BUSY || error == ERR_CONTROLLER_DOWN;
}

static void on_done(void *arg, enum err error, int retry_after_s) {
    struct forwarding *f = arg;
    if (f->denied != ERR_OK) {
        error = f->denied;
        retry_after_s = f->denied_retry_after_s;
    }
    if (f->reads)
        end_reading(f, error == ERR_OK ? str_span(&f->first) : SPAN_NONE);
    bool outcome_unknown = error != ERR_OK && f->status == 0 && !never_sent(error);
    if (outcome_unknown)
        purge_after(f->serve, &f->written, ENDED_UNKNOWN, SPAN_NONE);
    if (f->caller.x && error == ERR_OK)
        finish_answer(f);
    else if (f->caller.x)
        fail_answer(f, error, retry_after_s);
    forwarding_free(f);
}

static void on_upstream_drained(void *arg) {
    struct forwarding *f = arg;
    if (f->caller.x)
        exchange_resume(f->caller.x);
}

static const struct passage_events passage_events = {.on_head = on_head,
                                                     .on_body = on_body,
                                                     .on_turn = on_turn,
                                                     .on_done = on_done,
                                                     .on_drained = on_upstream_drained};

/* The controller's judgement of a connect's secret is still worth waiting for. */
static void on_answer_due(void *arg) {
    struct forwarding *f = arg;
    if (!f->caller.x)
        return;
    if (f->started)
        exchange_cut(f->caller.x);
    else
        caller_refuse(f->serve, &f->caller, ERR_UPSTREAM_TIMEOUT);
    f->caller.x = NULL;
    passage_resume(f->passage);
}

/* ---- the client ---- */

static void on_gone(void *arg) {
    struct forwarding *f = arg;
    f->caller.x = NULL;
    /* Of a connect it must be known, too, whether its secret was wrong. */
    bool judged = f->attempt.pair != 0 && passage_was_sent(f->passage);
    /* While it waits nothing has been asked yet, and nothing is; once it is known whether it was
     * written there is nothing more to learn. */
    bool matters =
        purge_matters(&f->written) && passage_has_begun(f->passage) && (f->status == 0 || f->reads);
    if (judged || matters) {
        passage_resume(f->passage);
        return;
    }
    passage_cancel(f->passage);
    forwarding_free(f);
}

static void on_drained(void *arg) {
    struct forwarding *f = arg;
    passage_resume(f->passage);
}

static void on_client_bytes(void *arg, struct span bytes) {
    struct forwarding *f = arg;
    passage_write(f->passage, bytes);
    if (passage_unsent(f->passage) > EXCHANGE_HIGH)
        exchange_pause(f->caller.x);
}

static const struct exchange_watcher watcher = {on_gone, on_drained, on_client_bytes};

/* Asking twice must be harmless (RFC 9110 section 9.2.2 would allow PUT and DELETE, too; they are
 * an admin's, who can see for himself). */
static bool is_repeatable(const struct request *r) {
    enum http_method m = r->http->method;
    return m == HTTP_GET || m == HTTP_HEAD || m == HTTP_OPTIONS ||
           r->route->counted == ROUTE_CONNECT;
}

static struct span field_named(const struct http_request *http, struct span name) {
    for (size_t i = 0; i < http->fields.count; i++)
        if (span_equal_nocase(http->fields.at[i].name, name))
            return http->fields.at[i].value;
    return SPAN_NONE;
}

/* What will last: a call like that says nothing about how quickly the controller answers. Of others
 * it is seen when they are answered. */
static bool will_last(const struct request *r) {
    return span_starts(r->path, SPAN("/socket.io/")) ||
           http_list_has(field_named(r->http, SPAN("accept")), SPAN("text/event-stream"));
}

static enum gate_class class_of(const struct request *r) {
    if (r->route->counted == ROUTE_CONNECT)
        return GATE_CONNECT;
    /* Also with Accept: text/event-stream, as MCP clients send it, or an Upgrade to h2c. */
    if (r->route->call == CALL_LONG)
        return GATE_LONG;
    return r->http->wants_upgrade || will_last(r) ? GATE_STREAM : GATE_API;
}

/* A connect has waited for its turn, and others have failed meanwhile. */
static bool may_still_ask(void *arg) {
    struct forwarding *f = arg;
    f->denied = limiting_ask_again(f->serve, &f->attempt, &f->denied_retry_after_s);
    return f->denied == ERR_OK;
}

/* A connect (its body is none that we read) has no token: then it is as last known. */
static uint64_t flow_of(struct serve *s, const struct request *r, enum gate_class class,
                        uint64_t agent) {
    if (r->verified && r->claims.org[0] != '\0')
        return flows_of(agents_token_hash(s->shared->agents, span_of(r->claims.org)));
    return class == GATE_CONNECT ? flows_find(s->shared->flows, agent) : FLOW_UNKNOWN;
}

static struct admission_terms terms_of(struct forwarding *f, const struct request *r) {
    struct serve *s = f->serve;
    struct agents *agents = s->shared->agents;
    uint64_t agent = r->has_agent ? agents_hash(agents, &r->agent) : 0;
    return (struct admission_terms){
        .class = f->class,
        .wait_ms = admission_wait_ms(s),
        .who = agent,
        .flow = flow_of(s, r, f->class, agent),
        .answer_by_ms = f->is_connect ? clock_mono_ms() + ADMISSION_CONNECT_WAIT_MS : 0,
        .is_forwarded = true,
        .is_wanted = may_still_ask,
        .wanted_arg = f};
}

static void send_request(struct serve *s, struct request *r) {
    struct forwarding *f = must_zalloc(sizeof *f);
    enum { FIELDS_MAX = 2 * HTTP_HEAD_MAX };
    f->serve = s;
    f->written = purge_plan(s, r);
    f->attempt = r->attempt;
    f->class = class_of(r);
    f->is_connect = f->class == GATE_CONNECT;
    str_init(&f->fields, FIELDS_MAX);
    str_init(&f->first, FIRST_MAX);
    caller_keep(&f->caller, r);
    str_add(&f->fields, (struct span){r->allowance, r->allowance_len});
    if (f->is_connect) {
        STR_ADD(&f->fields, "Cache-Status: aiwm-gateway; fwd=bypass\r\n");
        timer_init(&f->answer_by, s->loop, on_answer_due, f);
        timer_start(&f->answer_by, ADMISSION_CONNECT_MS);
    }
    exchange_watch(r->x, &watcher, f);
    request_spell_upstream(s, r);
    int64_t usual_ms = s->shared->config->upstream.response_timeout_ms;
    int64_t long_ms = s->shared->config->upstream.long_timeout_ms;
    int64_t connect_ms = usual_ms < CONNECT_CALL_MS ? usual_ms : CONNECT_CALL_MS;
    struct call_request call = {.head = str_span(&s->head),
                                .body = r->body,
                                .head_only = r->http->method == HTTP_HEAD,
                                .repeatable = is_repeatable(r),
                                .secret = f->is_connect,
                                .timeout_ms = f->class == GATE_LONG ? long_ms
                                              : f->is_connect       ? connect_ms
                                                                    : usual_ms,
                                .is_whole = f->is_connect,
                                .upgrade = request_upgrades(r)};
    struct admission_terms terms = terms_of(f, r);
    f->passage = passage_start(s, &call, &terms, &passage_events, f);
}

void forward_journey(struct serve *s, struct request *r) {
    bool names_no_agent = r->route->canonical && !r->has_agent;
    enum err error = names_no_agent ? ERR_BAD_AGENT_ID : request_authorize(s, r);
    if (error == ERR_OK) {
        send_request(s, r);
        return;
    }
    limiting_ended(s, &r->attempt, ATTEMPT_REFUSED); /* here: nobody judged a secret */
    request_refuse(s, r, error);
}
