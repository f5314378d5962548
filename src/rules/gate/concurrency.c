#include "rules/gate/concurrency.h"

#define TOLERANCE      2.0 /* twice as slow as when idle is still fine: all processors are at work */
#define CHEAP_US       10e3 /* so quick is fine however many there are: nobody notices such a wait */
#define GRADIENT_LEAST 0.25
#define STEP           0.2
#define FAILURE_KEEPS  0.9
#define SERVICE_WEIGHT 0.0625
#define BASE_RISE_US   60e6 /* the base's way to a new truth: a minute */

enum {
    WINDOW_CALLS_MIN = 8,        /* a smaller window is led by chance */
    FEW = 2 * CONCURRENCY_FLOOR, /* so many at once are no load worth speaking of */
};

void concurrency_init(struct concurrency *c, int64_t cap, int64_t service_us) {
    *c = (struct concurrency){.limit = (double)cap, .service_us = (double)service_us};
}

static double at_most(double value, double most) {
    return value < most ? value : most;
}

static double at_least(double value, double least) {
    return value > least ? value : least;
}

static double clamp_limit(double limit, int64_t cap) {
    return at_most(at_least(limit, CONCURRENCY_FLOOR), (double)cap);
}

int64_t concurrency_limit(const struct concurrency *c, int64_t cap) {
    return (int64_t)clamp_limit(c->limit, cap);
}

/* Newton's: three digits are enough, and libm is not needed for them. */
static double square_root(double x) {
    double root = x > 1 ? x / 2 : 1;
    for (int i = 0; i < 12; i++)
        root = (root + x / root) / 2;
    return root;
}

/* What one call alone would take, judged by the fastest of a window: at least this, since at worst
 * the others made it wait for all but a few of them. */
static double alone_us(const struct concurrency *c) {
    return c->fastest_us * at_most(FEW / at_least((double)c->window_busiest, 1), 1);
}

static void learn_base(struct concurrency *c, int64_t now_us) {
    double elapsed = (double)(now_us - c->learnt_at_us), alone = alone_us(c);
    bool first = c->base_us <= 0;
    c->learnt_at_us = now_us;
    if (first || c->fastest_us < c->base_us)
        c->base_us = c->fastest_us;
    else if (alone > c->base_us)
        c->base_us += (alone - c->base_us) * at_most(elapsed / BASE_RISE_US, 1);
}

static void move_limit(struct concurrency *c, int64_t cap) {
    double fine_us = at_least(TOLERANCE * c->base_us, CHEAP_US);
    double gradient = at_most(at_least(fine_us / c->fastest_us, GRADIENT_LEAST), 1);
    double wanted = c->limit * gradient + square_root(c->limit);
    bool is_used = (double)c->window_busiest * 2 >= c->limit;
    if (wanted > c->limit && (!is_used || c->window_failures > 0))
        return;
    c->limit = clamp_limit(c->limit + (wanted - c->limit) * STEP, cap);
}

static void begin_window(struct concurrency *c) {
    c->window_calls = c->window_failures = c->window_busiest = 0;
    c->fastest_us = 0;
}

void concurrency_answered(struct concurrency *c, int64_t cap, int64_t took_us, int64_t in_flight,
                          int64_t now_us) {
    double took = took_us > 0 ? (double)took_us : 1;
    /* From what was assumed on, not from the first answer: that one had the controller to itself.
     */
    c->service_us += (took - c->service_us) * SERVICE_WEIGHT;
    if (c->fastest_us <= 0 || took < c->fastest_us)
        c->fastest_us = took;
    if (in_flight > c->window_busiest)
        c->window_busiest = in_flight;
    double enough = at_least(c->limit, WINDOW_CALLS_MIN);
    if ((double)++c->window_calls < enough)
        return;
    learn_base(c, now_us);
    move_limit(c, cap);
    begin_window(c);
}

void concurrency_failed(struct concurrency *c, int64_t cap) {
    if (c->window_failures++ == 0)
        c->limit = clamp_limit(c->limit * FAILURE_KEEPS, cap);
    /* With nothing but failures there is no answer to end the window. */
    if ((double)c->window_failures >= at_least(c->limit, 1))
        begin_window(c);
}
