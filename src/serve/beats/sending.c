#include "serve/beats/sending.h"

#include "base/panic.h"
#include "base/random.h"
#include "rules/wire/payload.h"
#include "serve/beats/bulk.h"
#include "serve/gate/fetch.h"

#include <stdlib.h>

enum {
    CALL_MS = 10000,
    ANSWER_MAX = 65536,
};

struct sending {
    struct serve *serve;
    const struct delivery_events *on;
    size_t reserved; /* places kept for beats that are being claimed in Redis */
    struct list senders;
    struct sender *prepared; /* its request is in serve->head and serve->body */
};

/* One beat under way. */
struct sender {
    struct list link;
    struct sending *sending;
    struct sending_waiter *waiter;
    struct delivery delivery;
    struct gate_ticket ticket; /* its place */
};

static void spell_beat(struct serve *s, const struct parcel *p) {
    char id[AGENT_ID_HEX], correlation[RANDOM_UUID];
    struct str *head = &s->head;
    agent_id_text(&p->delivery.id, id);
    random_uuid(correlation);
    str_clear(head);
    STR_ADD(head, "POST /agents/");
    str_add(head, (struct span){id, sizeof id});
    STR_ADD(head, "/heartbeat HTTP/1.1\r\nHost: ");
    str_add(head, span_of(s->shared->upstream_authority));
    STR_ADD(head, "\r\nContent-Type: application/json\r\nAuthorization: Bearer ");
    str_add(head, p->token);
    STR_ADD(head, "\r\nx-correlation-id: ");
    str_add(head, (struct span){correlation, sizeof correlation});
    str_addf(head, "\r\nVia: 1.1 aiwm-gateway\r\nContent-Length: %zu\r\n\r\n", p->body.len);
    str_clear(&s->body);
    str_add(&s->body, p->body);
}

static void on_sent(void *arg, const struct fetched *result);

/* The agent may be locked: nothing is asked before sending_launch. */
static struct sender *prepare(struct sending *g, const struct parcel *p,
                              struct sending_waiter *waiter) {
    struct sender *sender = must_zalloc(sizeof *sender);
    *sender = (struct sender){.sending = g, .waiter = waiter, .delivery = p->delivery};
    list_push_back(&g->senders, &sender->link);
    spell_beat(g->serve, p);
    g->prepared = sender;
    return sender;
}

bool sending_prepare(struct sending *g, struct agent *agent, struct sending_waiter *waiter) {
    struct gate_ticket ticket;
    if (!admission_take(g->serve, GATE_HEARTBEAT, &ticket))
        return false;
    struct parcel p = delivery_parcel(g->serve, agent);
    prepare(g, &p, waiter)->ticket = ticket;
    delivery_begin(agent);
    return true;
}

static bool take_along(struct sending *g, struct agent *agent) {
    struct parcel p = delivery_parcel(g->serve, agent);
    if (!bulk_is_on(g->serve) || !bulk_take(g->serve->bulk, &p))
        return false;
    delivery_begin(agent);
    return true;
}

bool sending_take(struct sending *g, struct agent *agent) {
    /* In bulk each beat carries its own time. What does not fit there goes by itself. */
    return take_along(g, agent) || sending_prepare(g, agent, NULL);
}

size_t sending_room(const struct sending *g) {
    size_t room = admission_room(g->serve, GATE_HEARTBEAT);
    return room > g->reserved ? room - g->reserved : 0;
}

bool sending_reserve(struct sending *g, size_t count) {
    if (sending_room(g) < count)
        return false;
    g->reserved += count;
    return true;
}

void sending_unreserve(struct sending *g, size_t count) {
    g->reserved -= count;
}

void sending_carry(struct sending *g, const struct parcel *p, struct sending_waiter *waiter) {
    prepare(g, p, waiter);
    sending_launch(g);
}

void sending_carry_any(struct sending *g, const struct parcel *p) {
    if (!bulk_is_on(g->serve) || !bulk_take(g->serve->bulk, p))
        sending_carry(g, p, NULL);
}

static bool may_still_go(void *arg) {
    const struct sender *sender = arg;
    return delivery_may_go(&sender->delivery);
}

void sending_launch(struct sending *g) {
    struct serve *s = g->serve;
    struct sender *sender = g->prepared;
    if (!sender)
        return;
    g->prepared = NULL;
    if (!may_still_go(sender)) {
        on_sent(sender, &(struct fetched){.error = ERR_CANCELLED});
        return;
    }
    struct call_request call = {.head = str_span(&s->head),
                                .body = str_span(&s->body),
                                .repeatable = true,
                                .timeout_ms = CALL_MS};
    /* One that was claimed in Redis waits for a place: nobody else can send it now. */
    bool claimed = sender->delivery.claim != 0;
    struct admission_terms terms = {.class = GATE_HEARTBEAT,
                                    .agent = agents_hash(s->shared->agents, &sender->delivery.id),
                                    .wait_ms = claimed ? CALL_MS : 0,
                                    .is_wanted = may_still_go,
                                    .wanted_arg = sender,
                                    .ticket = claimed ? NULL : &sender->ticket};
    fetch_start(s, &call, &terms, ANSWER_MAX, on_sent, sender);
}

void sending_forget(struct sending *g, struct sending_waiter *waiter) {
    list_each (at, &g->senders) {
        struct sender *sender = container_of(at, struct sender, link);
        if (sender->waiter == waiter)
            sender->waiter = NULL;
    }
}

/* A beat's journey ends when the controller itself has answered it, whatever it said. */
static enum beat_answer judge(const struct fetched *r, int *verdict_status, char message[256]) {
    char complaint[256];
    *verdict_status = 0;
    if (fetched_is_verdict(r, message)) {
        *verdict_status = r->status;
        return BEAT_REFUSED;
    }
    bool bad_beat = r->status == 400 && payload_is_verdict(400, r->body, complaint);
    return r->error == ERR_OK && (r->status / 100 == 2 || bad_beat) ? BEAT_TAKEN : BEAT_FAILED;
}

static void on_sent(void *arg, const struct fetched *result) {
    struct sender *sender = arg;
    struct sending *g = sender->sending;
    char message[256];
    int verdict_status;
    enum beat_answer answer = judge(result, &verdict_status, message);
    list_remove(&sender->link);
    g->on->end(g->serve, &sender->delivery, answer, verdict_status, message);
    if (sender->waiter)
        sender->waiter->done(sender->waiter, verdict_status, message);
    free(sender);
    if (!g->serve->closing)
        g->on->room(g->serve);
}

/* ---- life ---- */

struct sending *sending_new(struct serve *s, const struct delivery_events *on) {
    struct sending *g = must_zalloc(sizeof *g);
    g->serve = s;
    g->on = on;
    list_init(&g->senders);
    return g;
}

void sending_free(struct sending *g) {
    free(g);
}
