#include "serve/beats/bulk.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/panic.h"
#include "base/random.h"
#include "rules/wire/payload.h"
#include "serve/beats/delivery.h"
#include "serve/gate/fetch.h"

#include <stdatomic.h>
#include <stdlib.h>

enum {
    ITEMS_MAX = 500,    /* the contract's */
    BYTES_MAX = 262144, /* likewise, 256 KiB */
    ITEM_MAX = 9216,    /* a held body has at most 8 KiB */
    ANSWER_MAX = 262144,
    CALL_MS = 10000,
    DRAIN_CALL_MS = 5000,
    LINGER_CLAIMED_MS = 10000, /* beats that are claimed in Redis have to set out (durable.h) */
    ALL_OF_THEM = 1,      /* whose call it is to the gate: one beat in it may be why it fails */
    PROBE_CALL_MS = 5000, /* for 500 beats; a beat alone has 10 s */
    PROBE_MS = 600000,
    PROBE_AGAIN_MS = 10000, /* after an answer that says neither yes nor no */
};

#define OPENING "{\"heartbeats\":["
#define CLOSING "]}"

struct batch {
    struct str text; /* the request's body; not closed while it fills */
    size_t count;
    struct delivery item[ITEMS_MAX];
};

struct bulk {
    struct serve *serve;
    const struct delivery_events *on;
    struct batch *filling;
    struct batch *under_way; /* NULL: none */
    size_t items_max;        /* smaller once the controller said 413 */
    struct timer linger, probe;
};

bool bulk_is_on(const struct serve *s) {
    return atomic_load_explicit(&s->shared->bulk_state, memory_order_relaxed) == BULK_ON;
}

size_t bulk_room(const struct bulk *b) {
    size_t taken = b->filling->text.len + sizeof CLOSING;
    size_t by_bytes = taken < BYTES_MAX ? (BYTES_MAX - taken) / ITEM_MAX : 0;
    size_t by_count = b->filling->count < b->items_max ? b->items_max - b->filling->count : 0;
    return by_bytes < by_count ? by_bytes : by_count;
}

bool bulk_has_room(const struct bulk *b) {
    return bulk_room(b) > 0;
}

/* ---- the request ---- */

static void spell_head(struct serve *s, size_t body_len) {
    const struct config_secret *token = &s->shared->config->upstream.service_token;
    char correlation[RANDOM_UUID];
    struct str *head = &s->head;
    random_uuid(correlation);
    str_clear(head);
    STR_ADD(head, "POST /agents/heartbeats HTTP/1.1\r\nHost: ");
    str_add(head, span_of(s->shared->upstream_authority));
    STR_ADD(head, "\r\nContent-Type: application/json\r\nAuthorization: Bearer ");
    str_add(head, (struct span){token->bytes, token->len});
    STR_ADD(head, "\r\nx-correlation-id: ");
    str_add(head, (struct span){correlation, sizeof correlation});
    str_addf(head, "\r\nVia: 1.1 aiwm-gateway\r\nContent-Length: %zu\r\n\r\n", body_len);
}

static void post(struct bulk *b, struct span body, int64_t timeout_ms, bool (*is_wanted)(void *arg),
                 void (*done)(void *arg, const struct fetched *result)) {
    spell_head(b->serve, body.len);
    struct call_request call = {.head = str_span(&b->serve->head),
                                .body = body,
                                .repeatable = true, /* the contract makes it idempotent */
                                .secret = true,
                                .timeout_ms = timeout_ms};
    struct admission_terms terms = {.class = GATE_HEARTBEAT,
                                    .agent = ALL_OF_THEM,
                                    .wait_ms = timeout_ms,
                                    .is_wanted = is_wanted,
                                    .wanted_arg = b};
    fetch_start(b->serve, &call, &terms, ANSWER_MAX, done, b);
}

/* ---- is the route there? ---- */

static void no_item(void *arg, size_t at, struct span agent, int status, const char *message) {
    (void)arg;
    (void)at;
    (void)agent;
    (void)status;
    (void)message;
}

/* Any 200 will not do: a page for people answers everything. */
static enum bulk_state state_of(const struct fetched *r, bool is_contract) {
    if (r->error != ERR_OK || r->status == 413 || r->status == 429 || r->status >= 500)
        return BULK_UNKNOWN;
    return r->status == 200 && is_contract ? BULK_ON : BULK_OFF;
}

static void log_change(const struct fetched *r, enum bulk_state state) {
    bool misconfigured = r->status == 400 || r->status == 401 || r->status == 403;
    if (state == BULK_ON)
        log_info("heartbeats go in bulk", F_NONE);
    else if (misconfigured)
        log_error("heartbeats go one by one: the controller refuses them in bulk; look at "
                  "upstream.service_token_file",
                  F_INT("status", r->status));
    else
        log_info("heartbeats go one by one: the controller has no route for bulk",
                 F_INT("status", r->status));
}

static void set_state(struct bulk *b, const struct fetched *r, enum bulk_state state) {
    if (state == BULK_UNKNOWN)
        return;
    int before = atomic_exchange(&b->serve->shared->bulk_state, (int)state);
    if (before != (int)state)
        log_change(r, state);
}

static bool is_draining(const struct serve *s) {
    return atomic_load(&s->shared->draining);
}

static bool is_wanted(const struct serve *s) {
    const struct config *config = s->shared->config;
    return config->heartbeat.bulk != 0 && config->upstream.service_token.bytes && !is_draining(s);
}

static void on_probed(void *arg, const struct fetched *result) {
    struct bulk *b = arg;
    if (!is_wanted(b->serve))
        return;
    bool is_contract = payload_read_bulk_results(result->body, 0, no_item, NULL);
    enum bulk_state state = state_of(result, is_contract);
    set_state(b, result, state);
    timer_start(&b->probe, state == BULK_UNKNOWN ? PROBE_AGAIN_MS : PROBE_MS);
}

static void on_probe_time(void *arg) {
    post(arg, SPAN(OPENING CLOSING), PROBE_CALL_MS, NULL, on_probed);
}

/* ---- the answer ---- */

static void settle_item(void *arg, size_t at, struct span agent, int status, const char *message) {
    struct bulk *b = arg;
    const struct delivery *d = &b->under_way->item[at];
    struct agent_id id;
    bool is_verdict = status == 401 || status == 403 || status == 404;
    enum beat_answer answer = BEAT_FAILED;
    if (agent_id_parse(agent, &id) && agent_id_equal(&id, &d->id))
        answer = is_verdict                           ? BEAT_REFUSED
                 : status / 100 == 2 || status == 400 ? BEAT_TAKEN
                                                      : BEAT_FAILED;
    char copy[256] = {0};
    for (size_t i = 0; i + 1 < sizeof copy && message[i]; i++)
        copy[i] = message[i];
    b->on->end(b->serve, d, answer, answer == BEAT_REFUSED ? status : 0, copy);
}

static bool may_go(const struct batch *batch) {
    for (size_t i = 0; i < batch->count; i++)
        if (!delivery_may_go(&batch->item[i]))
            return false;
    return true;
}

static bool may_still_go(void *arg) {
    const struct bulk *b = arg;
    return may_go(b->under_way);
}

static void fail_all(struct bulk *b, const struct batch *batch) {
    for (size_t i = 0; i < batch->count; i++)
        b->on->end(b->serve, &batch->item[i], BEAT_FAILED, 0, "");
}

static struct batch *batch_new(void) {
    struct batch *batch = must_zalloc(sizeof *batch);
    str_init(&batch->text, BYTES_MAX);
    STR_ADD(&batch->text, OPENING);
    return batch;
}

static void batch_free(struct batch *batch) {
    if (batch)
        str_release(&batch->text);
    free(batch);
}

static void send_filled(struct bulk *b);

/* Smaller batches, until one beat alone is too large: then this is not the way. */
static void shrink(struct bulk *b, const struct fetched *r) {
    if (b->items_max > 1)
        b->items_max /= 2;
    else
        set_state(b, r, BULK_OFF);
}

static void note_failure(struct bulk *b, const struct fetched *r) {
    if (r->error == ERR_OK && r->status == 413)
        shrink(b, r);
    else
        set_state(b, r, state_of(r, false));
}

static void on_answered(void *arg, const struct fetched *r) {
    struct bulk *b = arg;
    bool settled = r->error == ERR_OK && r->status == 200 &&
                   payload_read_bulk_results(r->body, b->under_way->count, settle_item, b);
    if (settled && b->items_max < ITEMS_MAX)
        b->items_max = 2 * b->items_max < ITEMS_MAX ? 2 * b->items_max : ITEMS_MAX;
    if (!settled) {
        note_failure(b, r);
        fail_all(b, b->under_way);
    }
    batch_free(b->under_way);
    b->under_way = NULL;
    if (b->serve->closing)
        return;
    if (!timer_pending(&b->linger))
        send_filled(b);
    b->on->room(b->serve);
}

/* ---- filling ---- */

static void give_up_filling(struct bulk *b) {
    struct batch *batch = b->filling;
    b->filling = batch_new();
    fail_all(b, batch);
    batch_free(batch);
    b->on->room(b->serve);
}

static void send_filled(struct bulk *b) {
    if (b->under_way || b->filling->count == 0)
        return;
    if (!may_go(b->filling)) {
        give_up_filling(b);
        return;
    }
    int64_t pause_ms = admission_pause_ms(b->serve->shared);
    if (pause_ms > 0) { /* the controller is left alone: the batch is kept */
        timer_start(&b->linger, pause_ms);
        return;
    }
    b->under_way = b->filling;
    b->filling = batch_new();
    STR_ADD(&b->under_way->text, CLOSING);
    metric_add(METRIC_BULK_REQUESTS, 1);
    int64_t timeout_ms = is_draining(b->serve) ? DRAIN_CALL_MS : CALL_MS;
    post(b, str_span(&b->under_way->text), timeout_ms, may_still_go, on_answered);
    b->on->room(b->serve); /* the next batch has room */
}

static void on_linger_over(void *arg) {
    send_filled(arg);
}

static int64_t linger_ms(const struct serve *s) {
    int64_t wanted_ms = s->shared->config->heartbeat.bulk_linger_ms;
    int64_t most_ms = s->redis ? LINGER_CLAIMED_MS : wanted_ms;
    if (is_draining(s))
        return 0;
    return wanted_ms < most_ms ? wanted_ms : most_ms;
}

bool bulk_take(struct bulk *b, const struct parcel *p) {
    struct batch *batch = b->filling;
    char at[CLOCK_ISO_SIZE];
    size_t before = batch->text.len;
    if (!bulk_has_room(b))
        return false;
    clock_iso(at, clock_wall_ms() - (clock_mono_ms() - p->delivery.received_ms));
    if (batch->count > 0)
        str_add_char(&batch->text, ',');
    if (!payload_add_bulk_beat(&batch->text, &p->delivery.id, p->delivery.status, p->body, at)) {
        batch->text.len = before;
        batch->text.overflow = false;
        return false;
    }
    batch->item[batch->count++] = p->delivery;
    if (!timer_pending(&b->linger))
        timer_start(&b->linger, bulk_has_room(b) ? linger_ms(b->serve) : 0);
    else if (!bulk_has_room(b))
        timer_start(&b->linger, 0);
    return true;
}

void bulk_close(struct bulk *b) {
    fail_all(b, b->filling);
    b->filling->count = 0;
}

void bulk_drain(struct bulk *b) {
    timer_stop(&b->probe);
    if (b->filling->count > 0)
        timer_start(&b->linger, 0);
}

/* ---- life ---- */

struct bulk *bulk_new(struct serve *s, const struct delivery_events *on) {
    struct bulk *b = must_zalloc(sizeof *b);
    b->serve = s;
    b->on = on;
    b->filling = batch_new();
    b->items_max = ITEMS_MAX;
    timer_init(&b->linger, s->loop, on_linger_over, b);
    timer_init(&b->probe, s->loop, on_probe_time, b);
    if (s->worker == 0 && is_wanted(s))
        timer_start(&b->probe, 0);
    return b;
}

/* What the controller said of the token before need not hold for this one: it is asked anew. A
 * batch that is filled already goes as it would have gone. */
void bulk_adopt(struct bulk *b) {
    if (b->serve->worker != 0)
        return;
    timer_stop(&b->probe);
    if (is_wanted(b->serve))
        timer_start(&b->probe, 0);
    else if (atomic_exchange(&b->serve->shared->bulk_state, BULK_UNKNOWN) == BULK_ON)
        log_info("heartbeats go one by one: bulk was switched off", F_NONE);
}

void bulk_free(struct bulk *b) {
    timer_stop(&b->linger);
    timer_stop(&b->probe);
    batch_free(b->filling);
    batch_free(b->under_way);
    free(b);
}
