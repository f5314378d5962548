#include "agents/fleet.h"

#include "agents/line.h"
#include "agents/pacer.h"
#include "agents/request.h"
#include "agents/schedule.h"
#include "base/clock.h"
#include "base/panic.h"

#include <stdlib.h>

enum {
    AT_ONCE = 64,         /* calls begun before answers are looked at again */
    AGAIN_US = 10 * 1000, /* when every connection is busy */
    TOKEN_MAX = 16384,
};

struct agent {
    struct life life;
    struct line line;
    struct fleet *fleet;
    char *token;
    int64_t intended_us, deadline_us; /* of the pending call */
    uint32_t token_len;
    uint8_t call; /* enum life_call: the pending one */
};

struct fleet {
    struct fleet_options o;
    struct line_setup setup;
    struct schedule *schedule;
    struct pacer pacer;
    struct agent *agent;
    int32_t state[LIFE_STATE_COUNT];
    size_t pending;
    int64_t last_connected_us;
    size_t next_restart, next_victim;
};

static size_t number_of(const struct agent *a) {
    return (size_t)(a - a->fleet->agent);
}

/* ---- the schedule ---- */

static void plan(struct agent *a) {
    int64_t due = a->call ? a->deadline_us : life_due_us(&a->life);
    schedule_set(a->fleet->schedule, number_of(a), due);
}

static void arm(struct fleet *f) {
    pacer_set(&f->pacer, schedule_next_us(f->schedule));
}

/* Around everything that may change an agent's state. */
static void count_out(struct agent *a) {
    a->fleet->state[a->life.state]--;
}

static void count_in(struct agent *a) {
    a->fleet->state[a->life.state]++;
    plan(a);
    arm(a->fleet);
}

static void end_call(struct agent *a) {
    a->call = LIFE_NOTHING;
    a->fleet->pending--;
}

/* ---- how a call ends ---- */

static void note_took(struct agent *a, int64_t now_us) {
    if (a->call != LIFE_DISCONNECT)
        record_call(a->fleet->o.record, (enum life_call)a->call, now_us - a->intended_us);
}

static void call_failed(struct agent *a, int64_t *counter) {
    enum life_call call = (enum life_call)a->call;
    int64_t now_us = clock_mono_us();
    (*counter)++;
    count_out(a);
    end_call(a);
    life_failed(&a->life, &a->fleet->o.rules, call, now_us);
    count_in(a);
}

static void timed_out(struct agent *a, int64_t now_us) {
    note_took(a, now_us);
    line_close(&a->line);
    call_failed(a, &a->fleet->o.record->tally.timeouts);
}

static void on_failed(void *arg, enum line_fault fault) {
    struct agent *a = arg;
    struct tally *t = &a->fleet->o.record->tally;
    if (a->call)
        call_failed(a, fault == LINE_REFUSED  ? &t->refused
                       : fault == LINE_CLOSED ? &t->closed
                       : fault == LINE_TLS    ? &t->tls_failed
                       : fault == LINE_BAD    ? &t->bad_answers
                                              : &t->no_descriptor);
}

static int64_t *counter_of(struct tally *t, enum life_call call, int status, bool fine) {
    if (fine)
        return call == LIFE_CONNECT ? &t->connects_ok
               : call == LIFE_BEAT  ? &t->heartbeats_ok
                                    : &t->disconnects_ok;
    if (status == 401)
        return &t->answers_401;
    if (status == 404)
        return &t->answers_404;
    if (status == 429)
        return &t->answers_429;
    return status >= 500 ? &t->answers_5xx : status >= 400 ? &t->answers_4xx : &t->answers_odd;
}

static void take_token(struct agent *a, struct span token) {
    free(a->token);
    a->token = must_copy(token.ptr, token.len);
    a->token_len = (uint32_t)token.len;
}

static int64_t retry_after_s(const struct http_response *r) {
    struct span value = r->fields.known[HTTP_RETRY_AFTER];
    int64_t seconds = 0;
    if (value.len == 0 || value.len > 6)
        return -1;
    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] < '0' || value.ptr[i] > '9')
            return -1;
        seconds = 10 * seconds + value.ptr[i] - '0';
    }
    return seconds;
}

static void on_answer(void *arg, const struct http_response *r, struct span body) {
    struct agent *a = arg;
    struct fleet *f = a->fleet;
    enum life_call call = (enum life_call)a->call;
    int64_t now_us = clock_mono_us();
    struct span token = SPAN_NONE;
    bool fine = r->status >= 200 && r->status < 300;
    if (call == LIFE_NOTHING)
        return;
    if (call == LIFE_CONNECT && fine) {
        fine = request_find_token(body, &token) && token.len > 0 && token.len <= TOKEN_MAX;
        if (fine)
            take_token(a, token);
    }
    note_took(a, now_us);
    (*counter_of(&f->o.record->tally, call, r->status, fine))++;
    count_out(a);
    end_call(a);
    int64_t wanted_us = a->life.wanted_us;
    if (life_answered(&a->life, &f->o.rules, call, r->status, fine, retry_after_s(r), now_us)) {
        record_connected(f->o.record, now_us - wanted_us);
        f->last_connected_us = now_us;
    }
    count_in(a);
}

/* ---- how a call begins ---- */

static void send_request(struct agent *a) {
    struct fleet *f = a->fleet;
    char id[IDENTITY_ID], secret[IDENTITY_SECRET_MAX];
    size_t n = number_of(a);
    identity_id(f->o.identities, n, id);
    struct request r = {.call = (enum life_call)a->call,
                        .prefix = f->o.target->prefix,
                        .authority = f->o.target->authority,
                        .id = {id, sizeof id},
                        .token = {a->token, a->token_len},
                        .close = !f->o.keep};
    if (r.call == LIFE_CONNECT)
        r.secret = (struct span){secret, identity_secret(f->o.identities, n, secret)};
    struct str *text = &f->o.loop->text;
    str_clear(text);
    request_build(text, &r);
    struct span bytes = str_span(text);
    line_write(&a->line, &bytes, 1);
    explicit_bzero(text->ptr, text->len);
    explicit_bzero(secret, sizeof secret);
}

static void on_ready(void *arg) {
    struct agent *a = arg;
    struct tally *t = &a->fleet->o.record->tally;
    t->opened++;
    if (a->line.stream.ssl)
        (*(stream_resumed(&a->line.stream) ? &t->resumptions : &t->handshakes))++;
    if (a->call)
        send_request(a);
}

static void count_call(struct tally *t, enum life_call call) {
    if (call == LIFE_CONNECT)
        t->connects++;
    else if (call == LIFE_BEAT)
        t->heartbeats++;
    else
        t->disconnects++;
}

/* Closes a connection on which nothing happens, looking at each agent once at most. */
static bool make_room(struct fleet *f) {
    for (size_t looked = 0; looked < f->o.agents; looked++) {
        struct agent *a = &f->agent[f->next_victim];
        f->next_victim = (f->next_victim + 1) % f->o.agents;
        if (a->line.open && !a->call) {
            line_close(&a->line);
            return true;
        }
    }
    return false;
}

static void begin_call(struct agent *a, enum life_call call, int64_t intended_us, int64_t now_us) {
    struct fleet *f = a->fleet;
    a->call = (uint8_t)call;
    a->intended_us = intended_us;
    a->deadline_us = now_us + f->o.rules.timeout_us;
    f->pending++;
    count_call(&f->o.record->tally, call);
    plan(a);
    enum line_state state = line_prepare(&a->line, number_of(a), now_us);
    if (state == LINE_READY)
        send_request(a);
    else if (state == LINE_NONE)
        on_failed(a, LINE_RESOURCES);
}

/* Due: its call has run out of time, or it has something to do. */
static void act(struct agent *a, int64_t now_us) {
    struct fleet *f = a->fleet;
    if (a->call) {
        timed_out(a, now_us);
        return;
    }
    if (!a->line.open && f->setup.open >= f->o.max_open && !make_room(f)) {
        schedule_set(f->schedule, number_of(a), now_us + AGAIN_US);
        return;
    }
    int64_t intended_us;
    enum life_call call = life_take(&a->life, &f->o.rules, now_us, &intended_us);
    if (call == LIFE_NOTHING)
        plan(a);
    else
        begin_call(a, call, intended_us, now_us);
}

static void on_due(void *arg) {
    struct fleet *f = arg;
    int64_t now_us = clock_mono_us();
    size_t number;
    for (int i = 0; i < AT_ONCE && schedule_take(f->schedule, now_us, &number); i++)
        act(&f->agent[number], now_us);
    arm(f);
}

/* ---- what all of them are told ---- */

/* As after a kill -9: what it was doing is over. */
static void cut(struct agent *a) {
    if (a->call)
        end_call(a);
    line_close(&a->line);
}

void fleet_connect(struct fleet *f, int64_t from_us, int64_t within_us) {
    for (size_t i = 0; i < f->o.agents; i++) {
        struct agent *a = &f->agent[i];
        count_out(a);
        cut(a);
        life_begin(&a->life, from_us + within_us * (int64_t)i / (int64_t)f->o.agents);
        count_in(a);
    }
}

static void leave(struct agent *a, int64_t when_us, bool comes_back) {
    count_out(a);
    if (a->life.state != LIFE_CONNECTED)
        cut(a);
    life_leave(&a->life, when_us, comes_back);
    count_in(a);
}

void fleet_leave(struct fleet *f, int64_t from_us, int64_t within_us) {
    for (size_t i = 0; i < f->o.agents; i++)
        leave(&f->agent[i], from_us + within_us * (int64_t)i / (int64_t)f->o.agents, false);
}

void fleet_restart_next(struct fleet *f, int64_t now_us) {
    leave(&f->agent[f->next_restart], now_us, true);
    f->next_restart = (f->next_restart + 1) % f->o.agents;
}

/* ---- life of the fleet ---- */

static const struct line_events line_events = {on_ready, on_answer, on_failed};

struct fleet *fleet_new(const struct fleet_options *options) {
    struct fleet *f = must_zalloc(sizeof *f);
    f->o = *options;
    if (!pacer_init(&f->pacer, options->loop, on_due, f)) {
        free(f);
        return NULL;
    }
    f->setup = (struct line_setup){.loop = options->loop,
                                   .target = options->target,
                                   .on = &line_events,
                                   .keep = options->keep,
                                   .resume = options->resume};
    f->schedule = schedule_new(options->agents);
    f->agent = must_zalloc(options->agents * sizeof *f->agent);
    for (size_t i = 0; i < options->agents; i++) {
        struct agent *a = &f->agent[i];
        a->fleet = f;
        life_init(&a->life, (uint32_t)i + 1);
        line_init(&a->line, &f->setup, a);
    }
    f->state[LIFE_NEW] = (int32_t)options->agents;
    return f;
}

void fleet_free(struct fleet *f) {
    for (size_t i = 0; i < f->o.agents; i++) {
        line_release(&f->agent[i].line);
        free(f->agent[i].token);
    }
    pacer_release(&f->pacer);
    schedule_free(f->schedule);
    free(f->agent);
    free(f);
}

void fleet_states(const struct fleet *f, int32_t state[LIFE_STATE_COUNT]) {
    memcpy(state, f->state, sizeof f->state);
}

size_t fleet_open(const struct fleet *f) {
    return f->setup.open;
}

int64_t fleet_last_connected_us(const struct fleet *f) {
    return f->last_connected_us;
}

size_t fleet_pending(const struct fleet *f) {
    return f->pending;
}

size_t fleet_agent_size(void) {
    return sizeof(struct agent);
}
