/* The choice of rules/gate/concurrency, beside what it was chosen over. */
#include "rules/gate/concurrency.h"
#include "sim/sim.h"

enum { COST_US = 20000, AIMD_TARGET_US = 100000 };

struct limiter {
    enum sim_limiter kind;
    struct concurrency gradient;
    double aimd;
};

static int64_t limit_of(const struct limiter *l) {
    switch (l->kind) {
    case SIM_GRADIENT:
        return concurrency_limit(&l->gradient, SIM_LIMIT_CAP);
    case SIM_AIMD:
        return (int64_t)l->aimd;
    default:
        return SIM_LIMIT_CAP;
    }
}

/* One more for each window of answers within the target, a tenth less for one beyond it. */
static void move_aimd(struct limiter *l, int64_t took_us) {
    l->aimd = took_us > AIMD_TARGET_US ? l->aimd * (1 - 0.1 / l->aimd) : l->aimd + 1 / l->aimd;
    if (l->aimd < 2)
        l->aimd = 2;
    if (l->aimd > SIM_LIMIT_CAP)
        l->aimd = SIM_LIMIT_CAP;
}

static void answered(struct limiter *l, int64_t took_us, int64_t in_flight, int64_t now_us) {
    if (l->kind == SIM_GRADIENT)
        concurrency_answered(&l->gradient, SIM_LIMIT_CAP, took_us, in_flight, now_us);
    else if (l->kind == SIM_AIMD)
        move_aimd(l, took_us);
}

static int processors_at(int64_t second) {
    return second < 60 || second >= 120 ? 16 : 4;
}

/* With so many at once an answer takes as long as it takes them to pass the processors. */
static int64_t latency_us(int64_t in_flight, int processors) {
    return in_flight > processors ? COST_US * in_flight / processors : COST_US;
}

void sim_limit(enum sim_limiter kind, struct sim_limit_point out[SIM_LIMIT_SECONDS]) {
    struct limiter l = {.kind = kind, .aimd = SIM_LIMIT_CAP};
    int64_t now_us = 0;
    concurrency_init(&l.gradient, SIM_LIMIT_CAP, COST_US);
    for (int i = 0; i < 64; i++) /* a calm morning */
        answered(&l, COST_US, 1, now_us += COST_US);
    int64_t begin_us = now_us;
    for (int second = 0; second < SIM_LIMIT_SECONDS; second++) {
        int calls = 0;
        int64_t took_us = 0, end_us = begin_us + (second + 1) * (int64_t)SIM_SECOND;
        for (; now_us < end_us; calls++) {
            int64_t in_flight = limit_of(&l);
            took_us = latency_us(in_flight, processors_at(second));
            now_us += took_us / in_flight;
            answered(&l, took_us, in_flight, now_us);
        }
        out[second] =
            (struct sim_limit_point){(double)limit_of(&l), (double)took_us / 1000, (double)calls};
    }
}
