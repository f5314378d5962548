#include "serve/beats/flush.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/metric.h"
#include "base/panic.h"
#include "base/random.h"
#include "rules/wire/payload.h"
#include "serve/beats/bulk.h"
#include "serve/beats/claims.h"
#include "serve/beats/delivery.h"
#include "serve/beats/storing.h"
#include "serve/beats/verdict.h"
#include "serve/gate/fetch.h"

#include <stdatomic.h>
#include <stdlib.h>

enum {
    CALL_MS = 10000,
    ANSWER_MAX = 65536,
    TICK_MIN_MS = 1,
};

/* An appointment; stale when the agent's scheduled_ms says otherwise. */
struct appointment {
    int64_t due_ms;
    struct agent_id id;
};

struct flush {
    struct serve *serve;
    struct timer timer;
    struct appointment *heap; /* smallest due_ms first */
    size_t count, cap;
    size_t reserved; /* places kept for beats that are being claimed in Redis */
    struct list senders;
    struct sender *prepared; /* its request is in serve->head and serve->body */
};

/* One beat under way. */
struct sender {
    struct list link;
    struct flush *flush;
    struct flush_waiter *waiter;
    struct delivery delivery;
    struct gate_ticket ticket; /* its place */
};

struct beat_policy flush_policy(const struct config *config) {
    return (struct beat_policy){.interval_ms = config->heartbeat.forward_interval_ms,
                                .max_hold_ms = config->heartbeat.max_hold_ms,
                                .expiry_ms = config->heartbeat.expiry_ms,
                                .min_gap_ms = config->heartbeat.min_forward_gap_ms,
                                .max_rate = config->heartbeat.max_rate};
}

/* ---- the heap ---- */

static void heap_swap(struct flush *f, size_t a, size_t b) {
    struct appointment keep = f->heap[a];
    f->heap[a] = f->heap[b];
    f->heap[b] = keep;
}

static void heap_push(struct flush *f, struct appointment a) {
    if (f->count == f->cap) {
        f->cap = f->cap ? f->cap * 2 : 256;
        f->heap = must_realloc(f->heap, f->cap * sizeof *f->heap);
    }
    size_t i = f->count++;
    f->heap[i] = a;
    for (; i > 0 && f->heap[i].due_ms < f->heap[(i - 1) / 2].due_ms; i = (i - 1) / 2)
        heap_swap(f, i, (i - 1) / 2);
}

static struct appointment heap_pop(struct flush *f) {
    struct appointment top = f->heap[0];
    f->heap[0] = f->heap[--f->count];
    for (size_t i = 0;;) {
        size_t least = i, left = 2 * i + 1, right = left + 1;
        if (left < f->count && f->heap[left].due_ms < f->heap[least].due_ms)
            least = left;
        if (right < f->count && f->heap[right].due_ms < f->heap[least].due_ms)
            least = right;
        if (least == i)
            return top;
        heap_swap(f, i, least);
        i = least;
    }
}

/* Is there a way for one more? If not, flush_wake tells when there is. */
static bool may_send(const struct flush *f) {
    struct serve *s = f->serve;
    if (!bulk_is_on(s))
        return admission_room_or_wake(s);
    /* A batch needs one place for all, and waits for it itself. */
    return bulk_has_room(s->bulk) &&
           (admission_pause_ms(s->shared) == 0 || admission_room_or_wake(s));
}

/* While the controller is left alone one look at the end of that is enough for all that is due. */
static void set_alarm(struct flush *f) {
    timer_stop(&f->timer);
    if (f->count == 0)
        return;
    int64_t in_ms = f->heap[0].due_ms - clock_mono_ms();
    int64_t pause_ms = in_ms <= 0 && !may_send(f) ? admission_pause_ms(f->serve->shared) : 0;
    if (in_ms > 0)
        timer_start(&f->timer, in_ms);
    else if (pause_ms > 0)
        timer_start(&f->timer, pause_ms);
    else if (may_send(f))
        timer_start(&f->timer, TICK_MIN_MS);
}

static void make_appointment(struct flush *f, const struct agent_id *id, int64_t due_ms) {
    heap_push(f, (struct appointment){due_ms, *id});
    set_alarm(f);
}

struct appointment_letter {
    struct letter letter;
    struct appointment appointment;
};

static void on_appointment(struct letter *letter, void *receiver) {
    struct serve *owner = receiver;
    struct appointment_letter *l = container_of(letter, struct appointment_letter, letter);
    make_appointment(owner->flush, &l->appointment.id, l->appointment.due_ms);
    free(l);
}

static int64_t due_ms(struct serve *s, const struct agent *agent) {
    if (atomic_load(&s->shared->draining))
        return agent->beat.retry_ms;
    struct beat_policy policy = flush_policy(s->shared->config);
    return beat_due_ms(&agent->beat, &policy, agent->hash);
}

/* In bulk one worker keeps all appointments: what is due there travels together, and the number of
 * requests does not grow with the number of workers. To hurry at the end all help. */
static size_t owner_of(struct serve *s, const struct agent *agent) {
    if (bulk_is_on(s) && !atomic_load(&s->shared->draining))
        return 0;
    return agents_owner(s->shared->agents, &agent->id, s->shared->worker_count);
}

void flush_schedule(struct serve *s, struct agent *agent) {
    if (s->closing)
        return;
    int64_t due = due_ms(s, agent);
    if (agent->scheduled_ms >= 0 && agent->scheduled_ms <= due)
        return;
    agent->scheduled_ms = due;
    size_t owner = owner_of(s, agent);
    if (owner == s->worker) {
        make_appointment(s->flush, &agent->id, due);
        return;
    }
    struct appointment_letter *l = must_zalloc(sizeof *l);
    l->letter.deliver = on_appointment;
    l->appointment = (struct appointment){due, agent->id};
    mailbox_post(s->shared->mailbox[owner], &l->letter);
}

/* ---- sending ---- */

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

/* The agent may be locked: nothing is asked before flush_launch. */
static struct sender *prepare(struct flush *f, const struct parcel *p,
                              struct flush_waiter *waiter) {
    struct sender *sender = must_zalloc(sizeof *sender);
    *sender = (struct sender){.flush = f, .waiter = waiter, .delivery = p->delivery};
    list_push_back(&f->senders, &sender->link);
    spell_beat(f->serve, p);
    f->prepared = sender;
    return sender;
}

bool flush_prepare(struct flush *f, struct agent *agent, struct flush_waiter *waiter) {
    struct gate_ticket ticket;
    if (!admission_take(f->serve, GATE_HEARTBEAT, &ticket))
        return false;
    struct parcel p = delivery_parcel(f->serve, agent);
    prepare(f, &p, waiter)->ticket = ticket;
    delivery_begin(agent);
    return true;
}

static bool take_along(struct flush *f, struct agent *agent) {
    struct parcel p = delivery_parcel(f->serve, agent);
    if (!bulk_is_on(f->serve) || !bulk_take(f->serve->bulk, &p))
        return false;
    delivery_begin(agent);
    return true;
}

bool flush_send(struct flush *f, struct agent *agent) {
    /* In bulk each beat carries its own time. What does not fit there goes by itself. */
    return take_along(f, agent) || flush_prepare(f, agent, NULL);
}

size_t flush_room(const struct flush *f) {
    size_t room = admission_room(f->serve, GATE_HEARTBEAT);
    return room > f->reserved ? room - f->reserved : 0;
}

bool flush_reserve(struct flush *f, size_t count) {
    if (flush_room(f) < count)
        return false;
    f->reserved += count;
    return true;
}

void flush_unreserve(struct flush *f, size_t count) {
    f->reserved -= count;
}

void flush_carry(struct flush *f, const struct parcel *p, struct flush_waiter *waiter) {
    prepare(f, p, waiter);
    flush_launch(f);
}

void flush_carry_any(struct flush *f, const struct parcel *p) {
    if (!bulk_is_on(f->serve) || !bulk_take(f->serve->bulk, p))
        flush_carry(f, p, NULL);
}

void flush_wake(struct flush *f) {
    set_alarm(f);
    claims_wake(f->serve);
}

void flush_launch(struct flush *f) {
    struct serve *s = f->serve;
    struct sender *sender = f->prepared;
    if (!sender)
        return;
    f->prepared = NULL;
    struct call_request call = {.head = str_span(&s->head),
                                .body = str_span(&s->body),
                                .repeatable = true,
                                .timeout_ms = CALL_MS};
    /* One that was claimed in Redis waits for a place: nobody else can send it now. */
    bool claimed = sender->delivery.claim != 0;
    struct admission_terms terms = {.class = GATE_HEARTBEAT,
                                    .wait_ms = claimed ? CALL_MS : 0,
                                    .ticket = claimed ? NULL : &sender->ticket};
    fetch_start(s, &call, &terms, ANSWER_MAX, on_sent, sender);
}

void flush_forget(struct flush *f, struct flush_waiter *waiter) {
    list_each (at, &f->senders) {
        struct sender *sender = container_of(at, struct sender, link);
        if (sender->waiter == waiter)
            sender->waiter = NULL;
    }
}

/* A beat's journey ends when the controller itself has answered it, whatever it said. */
static enum beat_answer judge(const struct fetched *r, int *verdict_status, char message[256]) {
    char complaint[256];
    *verdict_status = 0;
    if (verdict_said(r, message)) {
        *verdict_status = r->status;
        return BEAT_REFUSED;
    }
    bool bad_beat = r->status == 400 && payload_is_verdict(400, r->body, complaint);
    return r->error == ERR_OK && (r->status / 100 == 2 || bad_beat) ? BEAT_TAKEN : BEAT_FAILED;
}

static void on_sent(void *arg, const struct fetched *result) {
    struct sender *sender = arg;
    struct flush *f = sender->flush;
    char message[256];
    int verdict_status;
    enum beat_answer answer = judge(result, &verdict_status, message);
    list_remove(&sender->link);
    delivery_end(f->serve, &sender->delivery, answer, verdict_status, message);
    if (sender->waiter)
        sender->waiter->done(sender->waiter, verdict_status, message);
    free(sender);
    if (!f->serve->closing)
        flush_wake(f);
}

/* ---- appointments kept ---- */

static void drop_expired(struct agent *agent) {
    beat_drop(&agent->beat);
    metric_add(METRIC_BEATS_EXPIRED, 1);
    metric_add(METRIC_BEATS_HELD, -1);
}

/* It fits neither way now. Not at once again: an appointment that is due would be kept for ever. */
static void look_again(struct serve *s, struct agent *agent, int64_t now) {
    enum { LOOK_AGAIN_MS = 50 };
    beat_put_off(&agent->beat, now + LOOK_AGAIN_MS);
    flush_schedule(s, agent);
}

/* Where beats live in Redis, one that is held here only waited to get there. */
static bool pass(struct flush *f, struct agent *agent) {
    if (durable_is_here(f->serve))
        return storing_is_possible(f->serve) && storing_move(f->serve, agent);
    return flush_send(f, agent);
}

/* Under the agent's lock. */
static void keep_appointment(struct flush *f, struct agent *agent) {
    struct serve *s = f->serve;
    struct beat_policy policy = flush_policy(s->shared->config);
    int64_t now = clock_mono_ms();
    if (!agent->beat.held || agent->beat.sending || agent->beat.blocked)
        return; /* whoever is at it makes the next appointment */
    bool in_bulk = bulk_is_on(s);
    if (!in_bulk && beat_is_expired(&agent->beat, &policy, now))
        drop_expired(agent);
    else if (due_ms(s, agent) > now)
        flush_schedule(s, agent);
    else if (!pass(f, agent))
        look_again(s, agent, now);
}

static void on_alarm(void *arg) {
    struct flush *f = arg;
    struct agents *agents = f->serve->shared->agents;
    int64_t now = clock_mono_ms();
    while (f->count > 0 && f->heap[0].due_ms <= now && may_send(f)) {
        struct appointment a = heap_pop(f);
        struct agent *agent = agents_lock(agents, &a.id, false);
        if (!agent)
            continue;
        if (agent->scheduled_ms == a.due_ms) {
            agent->scheduled_ms = -1;
            keep_appointment(f, agent);
        }
        agents_unlock(agents, agent);
        flush_launch(f);
    }
    set_alarm(f);
}

/* ---- draining ---- */

static void make_due(void *arg, struct agent *agent) {
    struct flush *f = arg;
    beat_hurry(&agent->beat);
    if (!agent->beat.held || agent->beat.sending || agent->beat.blocked)
        return;
    agent->scheduled_ms = -1;
    flush_schedule(f->serve, agent);
}

void flush_drain(struct flush *f) {
    struct serve *s = f->serve;
    agents_each_owned(s->shared->agents, s->worker, s->shared->worker_count, make_due, f);
    bulk_drain(s->bulk);
    claims_drain(s);
}

/* ---- life ---- */

struct flush *flush_new(struct serve *s) {
    struct flush *f = must_zalloc(sizeof *f);
    f->serve = s;
    list_init(&f->senders);
    timer_init(&f->timer, s->loop, on_alarm, f);
    return f;
}

void flush_free(struct flush *f) {
    timer_stop(&f->timer);
    free(f->heap);
    free(f);
}
