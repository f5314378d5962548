#include "serve/beats/claims.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/panic.h"
#include "serve/beats/bulk.h"
#include "serve/beats/comeback.h"
#include "serve/beats/flush.h"
#include "serve/beats/storing.h"
#include "serve/beats/verdict.h"
#include "serve/gate/admission.h"

#include <stdatomic.h>
#include <stdlib.h>

enum {
    LOOK_MS = 250,   /* another replica's beat may be due, or its lease have ended */
    AGAIN_MS = 1,    /* more is due */
    CLAIMS_MAX = 64, /* at a time: one reply must not keep Redis busy */
};

struct claims {
    struct serve *serve;
    struct timer timer;
    struct list settling; /* replies that are awaited */
    size_t settling_count;
    bool asking;
    bool noted;             /* something became due since we asked */
    bool more;              /* is due, as far as we know */
    bool none_due;          /* draining: nothing was due when we last looked */
    bool unopened;          /* logged: a beat that does not open */
    int64_t quiet_until_ms; /* monotonic: nothing is claimed before, others may have to tell */
    uint64_t arrivals;      /* of Redis, that we have told everything to */
    uint64_t spilled;       /* of beats held in memory meanwhile, that we have seen to */
    uint64_t claim;         /* of the question under way */
    size_t limit;           /* likewise */
    size_t reserved;        /* places kept for what it brings */
};

bool claims_may_claim(const struct serve *s) {
    return durable_is_here(s) && s->claims->arrivals == atomic_load(&s->shared->beats.arrivals);
}

/* In bulk one worker sends for all, so that what is due travels together; to hurry at the end all
 * help. */
static bool is_ours(const struct serve *s) {
    return !bulk_is_on(s) || s->worker == 0 || atomic_load(&s->shared->draining);
}

static size_t room_in_bulk(const struct serve *s) {
    return admission_pause_ms(s->shared) == 0 ? bulk_room(s->bulk) : 0;
}

/* The first worker that asks makes Redis look used to the others: what it was told holds for all.
 */
static bool is_quiet(const struct claims *c) {
    return !atomic_load(&c->serve->shared->beats.greeted) && clock_mono_ms() < c->quiet_until_ms;
}

static size_t room(const struct serve *s) {
    size_t room = 0;
    if (is_ours(s) && !is_quiet(s->claims))
        room = bulk_is_on(s) ? room_in_bulk(s) : flush_room(s->flush);
    return room < CLAIMS_MAX ? room : CLAIMS_MAX;
}

/* ---- settling ---- */

struct settling {
    struct list link;
    struct serve *serve;
    struct delivery delivery;
    enum beat_answer answer;
};

static void settling_free(struct settling *g) {
    list_remove(&g->link);
    g->serve->claims->settling_count--;
    free(g);
}

/* Nobody else says what became of it. A failed one lives on in Redis. */
static void settle_alone(struct serve *s, const struct delivery *d, enum beat_answer answer) {
    bool delivered = answer != BEAT_FAILED;
    metric_add(METRIC_BEATS_DELIVERED, delivered);
    comeback_give_back_later(s, d, !delivered);
}

static void on_settled(void *arg, const struct redis_reply *reply) {
    struct settling *g = arg;
    struct serve *s = g->serve;
    enum durable_done_result result = (enum durable_done_result)redis_integer(reply);
    if (!reply)
        settle_alone(s, &g->delivery, g->answer);
    else if (result == DURABLE_NEWER_WAITS)
        metric_add(METRIC_BEATS_SUPERSEDED, 1);
    else if (result == DURABLE_NOTED && g->answer != BEAT_FAILED)
        metric_add(METRIC_BEATS_DELIVERED, 1);
    settling_free(g);
}

/* What this process should know when Redis is away. */
static void note_here(struct serve *s, const struct delivery *d, enum beat_answer answer,
                      int verdict_status, const char *message) {
    if (answer == BEAT_FAILED)
        return;
    struct agents *agents = s->shared->agents;
    struct agent *agent = agents_lock(agents, &d->id, true);
    beat_learn(&agent->beat, d->sequence, answer == BEAT_TAKEN, d->status, clock_mono_ms());
    if (verdict_status != 0)
        verdict_keep(s, agent, d->token, verdict_status, message);
    agents_unlock(agents, agent);
}

void claims_settle(struct serve *s, const struct delivery *d, enum beat_answer answer,
                   int verdict_status, const char *message) {
    struct durable_verdict verdict = {verdict_status, d->token, message, VERDICT_MS};
    note_here(s, d, answer, verdict_status, message);
    struct settling *g = must_zalloc(sizeof *g);
    *g = (struct settling){.serve = s, .delivery = *d, .answer = answer};
    list_push_back(&s->claims->settling, &g->link);
    s->claims->settling_count++;
    if (durable_done(s, d, answer, &verdict, on_settled, g))
        return;
    settle_alone(s, d, answer);
    settling_free(g);
}

/* ---- claiming ---- */

static void look(void *arg);

static void report_held(struct serve *s, int64_t held) {
    metric_add(METRIC_BEATS_HELD_SHARED, held - atomic_exchange(&s->shared->beats.held, held));
}

/* Sealed by somebody with another key, or damaged: somebody else may open it, or it expires. */
static void give_back(struct claims *c, const struct parcel *p) {
    if (!c->unopened)
        log_error("a heartbeat in redis does not open: do all replicas have the same "
                  "connect_cache.key_file, or JWT secret?",
                  F_NONE);
    c->unopened = true;
    claims_settle(c->serve, &p->delivery, BEAT_FAILED, 0, "");
}

static void send_all(struct claims *c, const struct redis_reply *reply, size_t count) {
    struct serve *s = c->serve;
    for (size_t i = 0; i < count; i++) {
        struct parcel p;
        if (durable_read_claimed(s, reply, i, c->claim, &p))
            flush_carry_any(s->flush, &p);
        else
            give_back(c, &p);
    }
}

static int64_t pause_ms(const struct durable_claims *found) {
    if (!found->any_next || found->next_ms > LOOK_MS)
        return LOOK_MS;
    if (found->next_ms > AGAIN_MS)
        return found->next_ms;
    /* More is due. Nothing came although something was: nobody may claim yet. */
    return found->count > 0 ? AGAIN_MS : LOOK_MS;
}

static void on_claimed(void *arg, const struct redis_reply *reply) {
    struct claims *c = arg;
    struct serve *s = c->serve;
    struct durable_claims found;
    c->asking = false;
    flush_unreserve(s->flush, c->reserved);
    if (!reply) {
        timer_start(&c->timer, LOOK_MS);
        return;
    }
    durable_read_claims(s, reply, &found);
    metric_add(METRIC_BEATS_EXPIRED, found.expired);
    metric_add(METRIC_BEATS_SUPERSEDED, found.superseded);
    report_held(s, found.held);
    send_all(c, reply, found.count);
    c->none_due = found.count == 0;
    c->more = c->noted || (found.any_next && found.next_ms <= 0);
    timer_start(&c->timer, c->noted ? AGAIN_MS : pause_ms(&found));
}

static void ask(struct claims *c) {
    struct serve *s = c->serve;
    c->noted = false;
    c->limit = room(s);
    c->reserved = !bulk_is_on(s) && flush_reserve(s->flush, c->limit) ? c->limit : 0;
    if (c->limit == 0 && !is_quiet(c))
        (void)admission_room_or_wake(s);
    c->claim = durable_new_claim(s);
    c->asking = durable_claim(s, c->limit, c->claim, on_claimed, c);
    if (!c->asking)
        flush_unreserve(s->flush, c->reserved);
}

static void on_hello(void *arg, const struct redis_reply *reply) {
    struct claims *c = arg;
    int64_t wait_ms = reply ? redis_integer(reply) : LOOK_MS;
    c->quiet_until_ms = clock_mono_ms() + wait_ms;
    if (wait_ms == 0)
        atomic_store(&c->serve->shared->beats.greeted, true);
    if (!c->asking)
        timer_start(&c->timer, AGAIN_MS);
}

/* Redis came: it hears first what happened without it. */
static bool has_told(struct claims *c) {
    uint64_t arrivals = atomic_load(&c->serve->shared->beats.arrivals);
    if (c->arrivals != arrivals) {
        c->quiet_until_ms = INT64_MAX; /* until it is said how long */
        if (comeback_tell(c->serve, on_hello, c))
            c->arrivals = arrivals;
    }
    return c->arrivals == arrivals;
}

/* Redis was slow, and is quick enough again: what memory holds meanwhile goes there. */
static void gather(struct claims *c) {
    uint64_t spilled = atomic_load(&c->serve->shared->beats.spilled);
    if (c->spilled != spilled && storing_is_possible(c->serve) && comeback_gather(c->serve))
        c->spilled = spilled;
}

static void look(void *arg) {
    struct claims *c = arg;
    if (c->asking)
        return;
    if (durable_is_here(c->serve) && has_told(c)) {
        gather(c);
        ask(c);
    }
    if (!c->asking)
        timer_start(&c->timer, LOOK_MS);
}

void claims_wake(struct serve *s) {
    struct claims *c = s->claims;
    if (c && c->more && !c->asking && !s->closing && room(s) > 0)
        timer_start(&c->timer, AGAIN_MS);
}

void claims_note_due(struct serve *s) {
    s->claims->more = s->claims->noted = true;
    claims_wake(s);
}

static void on_arrival(struct letter *letter, void *receiver) {
    struct serve *s = receiver;
    if (!s->closing)
        timer_start(&s->claims->timer, 0);
    free(letter);
}

/* Each worker has something to tell, and may claim only then. */
static void call_all(struct serve *s) {
    for (size_t i = 0; i < s->shared->worker_count; i++) {
        struct letter *letter = must_zalloc(sizeof *letter);
        letter->deliver = on_arrival;
        mailbox_post(s->shared->mailbox[i], letter);
    }
}

void claims_on_redis(struct serve *s, bool here) {
    struct beats_shared *beats = &s->shared->beats;
    int count =
        here ? atomic_fetch_add(&beats->here, 1) + 1 : atomic_fetch_sub(&beats->here, 1) - 1;
    if (here && (size_t)count == s->shared->worker_count) {
        atomic_fetch_add(&beats->arrivals, 1);
        call_all(s);
    }
    if (!here) {
        atomic_store(&beats->spoke, true);
        comeback_go_on(s);
    }
}

void claims_drain(struct serve *s) {
    if (!s->claims)
        return;
    s->claims->none_due = false;
    if (!s->claims->asking)
        timer_start(&s->claims->timer, 0);
}

bool claims_are_idle(const struct serve *s) {
    const struct claims *c = s->claims;
    return !c || (c->settling_count == 0 && (c->none_due || !durable_is_here(s)));
}

/* ---- life ---- */

struct claims *claims_new(struct serve *s) {
    if (!s->redis)
        return NULL;
    struct claims *c = must_zalloc(sizeof *c);
    c->serve = s;
    list_init(&c->settling);
    timer_init(&c->timer, s->loop, look, c);
    timer_start(&c->timer, 0);
    return c;
}

void claims_free(struct claims *c) {
    if (!c)
        return;
    timer_stop(&c->timer);
    list_each_safe (at, &c->settling)
        settling_free(container_of(at, struct settling, link));
    free(c);
}
