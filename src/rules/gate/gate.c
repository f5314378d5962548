#include "rules/gate/gate.h"

enum {
    SECOND_US = 1000000,
    CUSHION_US = 3 * SECOND_US, /* of work kept waiting: a pace guessed too low leaves no hole */
    RETRY_MAX_S = 60,           /* of calls that get no slot */
    GAPS = 24,                  /* that the mean of them goes back */
    RAMP_PART = 2,              /* half the places */
    HUNG_PART = 2,  /* of the permits, for all that is at the controller after an outage */
    GRACE_PART = 8, /* of the wait: what an estimate may be wrong by */
    BEST_US = 240 * SECOND_US, /* how long a quicker pace than now's is counted on */
    PACE_PERCENT = 97,         /* of the learnt time between two: a little too fast, see above */
};

/* Less than that is chance. */
static const double SLOWER = 1.25;

/* What a call takes before anything is known, pessimistic: a guess too low lets in more than can be
 * served. */
static const int64_t first_guess_us[GATE_CLASSES] = {
    [GATE_CONNECT] = 250000, [GATE_HEARTBEAT] = 10000,  [GATE_CONTROL] = 10000, [GATE_API] = 100000,
    [GATE_LONG] = SECOND_US, [GATE_STREAM] = SECOND_US, [GATE_PROBE] = 10000};

/* ---- life ---- */

void gate_init(struct gate *g, const struct gate_policy *policy) {
    *g = (struct gate){.policy = *policy, .replicas = 1};
    g->slots = slots_new(policy->retry_reach_s, GATE_SLOTS);
    for (int i = 0; i < GATE_CLASSES; i++) {
        queue_init(&g->lane[i].queue);
        concurrency_init(&g->lane[i].concurrency, policy->places[i], first_guess_us[i]);
        g->lane[i].gap_us = (double)first_guess_us[i] / (double)policy->places[i];
        g->lane[i].best_gap_us = g->lane[i].gap_us;
    }
}

void gate_release(struct gate *g) {
    slots_free(g->slots);
    g->slots = NULL;
}

/* ---- places ---- */

static int64_t share(const struct gate *g, enum gate_class class) {
    int64_t places = g->policy.places[class];
    return (places + g->replicas - 1) / g->replicas;
}

/* From how long its calls take. */
static bool learns(enum gate_class class) {
    return class == GATE_CONNECT || class == GATE_HEARTBEAT || class == GATE_CONTROL ||
           class == GATE_API;
}

/* Does its limit follow what was learnt? Not that of api unless it is asked for: a few slow calls
 * of one client would take the permits of all. */
static bool is_adaptive(const struct gate *g, enum gate_class class) {
    if (class == GATE_API)
        return g->policy.adaptive_api;
    return g->policy.adaptive && (class == GATE_CONNECT || class == GATE_HEARTBEAT);
}

int64_t gate_limit(const struct gate *g, enum gate_class class, int64_t now_us) {
    int64_t limit = share(g, class);
    if (is_adaptive(g, class))
        limit = concurrency_limit(&g->lane[class].concurrency, limit);
    if (class == GATE_CONNECT && breaker_is_ramping(&g->breaker, g->policy.ramp_us, now_us))
        limit = (limit + RAMP_PART - 1) / RAMP_PART;
    return limit;
}

static bool has_place(const struct gate *g, enum gate_class class, int64_t now_us) {
    const struct gate_lane *lane = &g->lane[class];
    return class == GATE_PROBE || (lane->inside < gate_limit(g, class, now_us) &&
                                   lane->inside + lane->hung < HUNG_PART * share(g, class));
}

/* Only our own probe says whether the controller is back: its result comes soon, and no client has
 * a part in it. */
static bool may_probe(enum gate_class class) {
    return class == GATE_PROBE;
}

bool gate_has_room(const struct gate *g, enum gate_class class, int64_t now_us) {
    const struct breaker *b = &g->breaker;
    bool passes = b->state == BREAKER_CLOSED ||
                  (may_probe(class) && b->state == BREAKER_OPEN && now_us >= b->until_us);
    return passes && g->lane[class].queue.count == 0 && has_place(g, class, now_us);
}

static void let_in(struct gate *g, struct gate_ticket *t, int64_t now_us) {
    t->where = GATE_INSIDE;
    t->era = g->era;
    t->outages = g->outages;
    t->in_us = now_us;
    g->lane[t->class].inside++;
}

/* ---- asking ---- */

static int64_t gap_us(const struct gate *g, enum gate_class class) {
    int64_t gap = (int64_t)g->lane[class].gap_us;
    return gap > 0 ? gap : 1;
}

/* Those who come when they were told find room even where those who were not fill the queue: as
 * they come no faster than they can be served, the little that they may wait longer is enough. */
static int64_t patience_us(const struct gate_wish *wish) {
    return wish->wait_us + wish->wait_us / GRACE_PART;
}

static bool can_finish(const struct gate *g, const struct gate_wish *wish, int64_t now_us) {
    const struct gate_lane *lane = &g->lane[wish->class];
    if (wish->wait_us == 0 || lane->queue.count >= g->policy.waiting_max)
        return false;
    int64_t ahead = queue_ahead(&lane->queue, wish->flow) + 1;
    int64_t takes_us = ahead * gap_us(g, wish->class) + (int64_t)lane->concurrency.service_us;
    bool was_told = slots_is_due(g->slots, wish->who, now_us);
    return takes_us <= (was_told ? patience_us(wish) : wish->wait_us);
}

static enum gate_answer ask_for_place(struct gate *g, struct gate_ticket *t,
                                      const struct gate_wish *wish, int64_t now_us) {
    struct gate_lane *lane = &g->lane[wish->class];
    bool is_free = lane->queue.count == 0 && has_place(g, wish->class, now_us);
    if (!is_free && !can_finish(g, wish, now_us))
        return GATE_BUSY;
    slots_give_up(g->slots, wish->who);
    if (is_free) {
        let_in(g, t, now_us);
        return GATE_IN;
    }
    t->where = GATE_WAITING;
    t->patience_us = patience_us(wish);
    queue_add(&lane->queue, &t->entry, wish->flow);
    return GATE_WAITS;
}

enum gate_answer gate_ask(struct gate *g, struct gate_ticket *t, const struct gate_wish *wish,
                          int64_t now_us) {
    *t = (struct gate_ticket){.class = wish->class};
    struct breaker_pass pass =
        breaker_ask(&g->breaker, &g->policy.breaker, may_probe(wish->class), now_us);
    if (!pass.go)
        return GATE_DOWN;
    t->probe = pass.probe;
    if (pass.probe == 0)
        return ask_for_place(g, t, wish, now_us);
    let_in(g, t, now_us); /* alone: nobody has got in since the breaker opened */
    return GATE_IN;
}

/* ---- refusing ---- */

static int64_t later(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* A pace guessed too low leaves the controller without work when it is quicker again, and those who
 * were told a late time cannot be called back; one guessed too high costs some of them a second
 * refusal. So a controller that became slower is taken for as quick as it was, for a while. */
static int64_t dealing_gap_us(const struct gate_lane *lane) {
    bool became_slower = lane->gap_us > lane->best_gap_us * SLOWER;
    return (int64_t)(became_slower ? lane->best_gap_us : lane->gap_us);
}

static int64_t deal_slot(struct gate *g, const struct gate_wish *wish, uint32_t random,
                         int64_t now_us) {
    int64_t gap = gap_us(g, GATE_CONNECT);
    int64_t work_us = g->lane[GATE_CONNECT].queue.count * gap;
    int64_t back_us = now_us + breaker_wait_us(&g->breaker, now_us);
    int64_t dealing_us = dealing_gap_us(&g->lane[GATE_CONNECT]);
    struct slots_pace pace = {.gap_us = later(dealing_us * PACE_PERCENT / 100, 1),
                              .earliest_us = later(now_us + work_us - CUSHION_US, back_us)};
    return slots_deal(g->slots, wish->who, &pace, random, now_us);
}

int64_t gate_retry_after_s(struct gate *g, const struct gate_wish *wish, uint32_t random,
                           int64_t now_us) {
    if (wish->class == GATE_CONNECT)
        return deal_slot(g, wish, random, now_us);
    const struct queue *queue = &g->lane[wish->class].queue;
    int64_t wait_us = breaker_wait_us(&g->breaker, now_us);
    if (wait_us == 0)
        wait_us = queue->count * gap_us(g, wish->class);
    int64_t s = (wait_us + SECOND_US - 1) / SECOND_US;
    return s < 1 ? 1 : s > RETRY_MAX_S ? RETRY_MAX_S : s;
}

/* ---- results ---- */

/* Streams and long calls go on over an outage, and their permits say how many there are. */
static bool survives_outage(enum gate_class class) {
    return class == GATE_STREAM || class == GATE_LONG;
}

static bool holds_permit(const struct gate *g, const struct gate_ticket *t) {
    return survives_outage(t->class) || t->outages == g->outages;
}

static void end_outage(struct gate *g) {
    g->outages++;
    for (enum gate_class class = 0; class < GATE_CLASSES; class ++) {
        struct gate_lane *lane = &g->lane[class];
        if (survives_outage(class))
            continue;
        lane->hung += lane->inside;
        lane->inside = 0;
        lane->full_out_us = 0; /* the outage is no gap between two calls */
    }
}

void gate_renew(struct gate *g) {
    g->breaker = (struct breaker){0};
    g->heard = false;
    g->witnesses = 0;
    g->unconfirmed = 0;
    g->era++;
    end_outage(g);
}

static bool is_new_witness(struct gate *g, uint64_t agent) {
    if (agent == 0)
        return true;
    for (size_t i = 0; i < g->witnesses && i < GATE_WITNESSES; i++)
        if (g->witness[i] == agent)
            return false;
    g->witness[g->witnesses++ % GATE_WITNESSES] = agent;
    return true;
}

static void note_evidence(struct gate *g, const struct gate_ticket *t, enum gate_result result,
                          int64_t now_us) {
    struct breaker *b = &g->breaker;
    bool is_answer = result == GATE_FINE || result == GATE_ODD;
    bool is_failure = result == GATE_FAILED && is_new_witness(g, t->agent);
    if (is_answer) {
        g->heard = true;
        g->witnesses = 0;
        g->unconfirmed = 0;
    } else if (result != GATE_UNAVAILABLE && !is_failure && b->state == BREAKER_CLOSED) {
        g->unconfirmed++;
    }
    if (is_answer || is_failure)
        breaker_note(b, &g->policy.breaker, t->probe, is_answer, now_us);
    bool confirms = t->class == GATE_PROBE && is_failure;
    for (; confirms && g->unconfirmed > 0 && b->state == BREAKER_CLOSED; g->unconfirmed--)
        breaker_note(b, &g->policy.breaker, 0, false, now_us);
}

bool gate_wants_probe(const struct gate *g) {
    return g->breaker.state == BREAKER_CLOSED && g->unconfirmed > 0 &&
           g->breaker.in_a_row + g->unconfirmed >= g->policy.breaker.failures;
}

void gate_answered(struct gate *g, struct gate_ticket *t, enum gate_result result, int64_t now_us) {
    struct gate_lane *lane = &g->lane[t->class];
    if (t->where != GATE_INSIDE || t->judged)
        return;
    t->judged = true;
    if (t->era != g->era)
        return;
    bool was_open = g->breaker.state != BREAKER_CLOSED;
    note_evidence(g, t, result, now_us);
    if (was_open && g->breaker.state == BREAKER_CLOSED)
        end_outage(g);
    if (!learns(t->class) || !holds_permit(g, t))
        return;
    if (result == GATE_FAILED || result == GATE_UNAVAILABLE)
        concurrency_failed(&lane->concurrency, share(g, t->class));
    else if (result == GATE_FINE)
        concurrency_answered(&lane->concurrency, share(g, t->class), now_us - t->in_us,
                             lane->inside, now_us);
}

/* Believed again what is slower only bit by bit, so long as it lasts. */
static void note_best(struct gate_lane *lane, double passed_us) {
    double slower = lane->gap_us - lane->best_gap_us;
    double part = passed_us < BEST_US ? passed_us / BEST_US : 1;
    lane->best_gap_us += slower > 0 && lane->gaps == GAPS ? slower * part : slower;
}

/* How quickly the controller works off what it is given: seen directly, since what a call takes
 * says it only together with how many there were all the while. */
static void measure_gap(struct gate *g, enum gate_class class, int64_t now_us) {
    struct gate_lane *lane = &g->lane[class];
    bool is_full = lane->inside >= gate_limit(g, class, now_us);
    if (is_full && lane->full_out_us > 0) {
        double gap = (double)(now_us - lane->full_out_us);
        lane->gaps += lane->gaps < GAPS;
        lane->gap_us += (gap - lane->gap_us) / (double)(lane->gaps + 1);
        note_best(lane, gap);
    }
    lane->full_out_us = is_full ? now_us : 0;
}

void gate_out(struct gate *g, struct gate_ticket *t, int64_t now_us) {
    if (t->where == GATE_WAITING)
        queue_remove(&g->lane[t->class].queue, &t->entry);
    if (t->where == GATE_INSIDE && holds_permit(g, t)) {
        measure_gap(g, t->class, now_us);
        g->lane[t->class].inside--;
    } else if (t->where == GATE_INSIDE) {
        g->lane[t->class].hung--;
    }
    if (t->where == GATE_INSIDE && t->probe != 0 && !t->judged && t->era == g->era)
        breaker_forgo(&g->breaker, t->probe, now_us);
    t->where = GATE_OUTSIDE;
}

bool gate_move(struct gate *g, struct gate_ticket *t, enum gate_class class) {
    if (t->where != GATE_INSIDE || g->lane[class].inside >= share(g, class))
        return false;
    if (holds_permit(g, t))
        g->lane[t->class].inside--;
    else
        g->lane[t->class].hung--;
    g->lane[class].inside++;
    t->class = class;
    t->outages = g->outages;
    return true;
}

struct gate_ticket *gate_next(struct gate *g, enum gate_class class, int64_t now_us,
                              enum gate_answer *answer) {
    struct gate_lane *lane = &g->lane[class];
    bool is_closed = g->breaker.state == BREAKER_CLOSED;
    if (lane->queue.count == 0 || (is_closed && !has_place(g, class, now_us)))
        return NULL;
    struct gate_ticket *t = container_of(queue_take(&lane->queue), struct gate_ticket, entry);
    t->where = GATE_OUTSIDE;
    *answer = is_closed ? GATE_IN : GATE_DOWN;
    if (is_closed)
        let_in(g, t, now_us);
    return t;
}
