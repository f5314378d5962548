#include "serve/beats/claims.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/panic.h"
#include "serve/beats/bulk.h"
#include "serve/beats/comeback.h"
#include "serve/beats/sending.h"
#include "serve/beats/settling.h"
#include "serve/beats/telling.h"
#include "serve/gate/admission.h"

#include <stdatomic.h>
#include <stdlib.h>

enum {
    REFUSED_MS = 2000, /* so long after a refusal Redis is asked again */
    LOOK_MS = 250,     /* another replica's beat may be due, or its lease have ended */
    AGAIN_MS = 1,      /* more is due */
    CLAIMS_MAX = 64,   /* at a time: one reply must not keep Redis busy */
};

struct claims {
    struct serve *serve;
    struct timer timer;
    bool asking;
    bool noted;             /* something became due since we asked */
    bool more;              /* is due, as far as we know */
    bool none_due;          /* draining: nothing was due when we last looked */
    bool unopened;          /* logged: a beat that does not open */
    int64_t quiet_until_ms; /* monotonic: nothing is claimed before, others may have to tell */
    uint64_t spilled;       /* of beats held in memory meanwhile, that we have seen to */
    uint64_t claim;         /* of the question under way */
    int64_t go_by_ms;       /* likewise */
    size_t limit;           /* likewise */
    size_t reserved;        /* places kept for what it brings */
};

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
        room = bulk_is_on(s) ? room_in_bulk(s) : sending_room(s->sending);
    return room < CLAIMS_MAX ? room : CLAIMS_MAX;
}

/* ---- claiming ---- */

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
    settling_end(c->serve, &p->delivery, BEAT_FAILED, 0, "");
}

static void send_all(struct claims *c, const struct redis_reply *reply, size_t count) {
    struct serve *s = c->serve;
    for (size_t i = 0; i < count; i++) {
        struct parcel p;
        bool opened = durable_read_claimed(s, reply, i, c->claim, &p);
        p.delivery.go_by_ms = c->go_by_ms;
        if (opened)
            sending_carry_any(s->sending, &p);
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
    sending_unreserve(s->sending, c->reserved);
    if (!reply) {
        durable_note_no_reply(s);
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
    c->reserved = !bulk_is_on(s) && sending_reserve(s->sending, c->limit) ? c->limit : 0;
    if (c->limit == 0 && !is_quiet(c))
        (void)admission_room_or_wake(s);
    c->claim = durable_new_claim(s);
    c->go_by_ms = durable_go_by_ms();
    c->asking = durable_claim(s, c->limit, c->claim, on_claimed, c);
    if (!c->asking)
        sending_unreserve(s->sending, c->reserved);
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
    if (telling_is_complete(c->serve))
        return true;
    c->quiet_until_ms = INT64_MAX; /* until it is said how long */
    return comeback_tell(c->serve, on_hello, c);
}

/* Redis was slow, and is quick enough again: what memory holds meanwhile goes there. */
static void gather(struct claims *c) {
    uint64_t spilled = atomic_load(&c->serve->shared->beats.spilled);
    if (c->spilled != spilled && durable_is_prompt(c->serve) && comeback_gather(c->serve))
        c->spilled = spilled;
}

static void call_all(struct serve *s);

/* As when Redis comes: each worker tells what happened meanwhile, then it claims. */
static void on_asked_again(void *arg, const struct redis_reply *reply) {
    struct claims *c = arg;
    struct beats_shared *beats = &c->serve->shared->beats;
    c->asking = false;
    timer_start(&c->timer, LOOK_MS);
    if (!reply) {
        durable_note_no_reply(c->serve);
        return;
    }
    atomic_fetch_add(&beats->arrivals, 1);
    atomic_store(&beats->refused, false);
    call_all(c->serve);
}

/* One worker asks for all. */
static void ask_again_after_refusal(struct claims *c) {
    struct serve *s = c->serve;
    struct beats_shared *beats = &s->shared->beats;
    bool due = atomic_load(&beats->refused) &&
               clock_mono_ms() - atomic_load(&beats->refused_ms) >= REFUSED_MS;
    if (s->worker == 0 && due && redis_is_here(s->redis))
        c->asking = durable_hello(s, true, on_asked_again, c);
}

static void look(void *arg) {
    struct claims *c = arg;
    if (c->asking)
        return;
    ask_again_after_refusal(c);
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
    return !c || c->none_due || !durable_is_here(s);
}

/* ---- life ---- */

struct claims *claims_new(struct serve *s) {
    if (!s->redis)
        return NULL;
    struct claims *c = must_zalloc(sizeof *c);
    c->serve = s;
    timer_init(&c->timer, s->loop, look, c);
    timer_start(&c->timer, 0);
    return c;
}

void claims_free(struct claims *c) {
    if (!c)
        return;
    timer_stop(&c->timer);
    free(c);
}
