#include "rules/gate/breaker.h"

#include <string.h>

static int64_t lesser(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* ---- the window ---- */

static int64_t cell_number(const struct breaker_policy *policy, int64_t now_us) {
    return now_us / (policy->window_us / BREAKER_CELLS + 1);
}

static void count(struct breaker *b, const struct breaker_policy *policy, bool fine,
                  int64_t now_us) {
    int64_t number = cell_number(policy, now_us);
    size_t at = (size_t)(number % BREAKER_CELLS);
    if (b->cell[at].number != number) {
        b->cell[at].number = number;
        b->cell[at].fine = b->cell[at].failed = 0;
    }
    b->cell[at].fine += fine;
    b->cell[at].failed += !fine;
    b->in_a_row = fine ? 0 : b->in_a_row + 1;
}

static bool is_too_much(const struct breaker *b, const struct breaker_policy *policy,
                        int64_t now_us) {
    int64_t oldest = cell_number(policy, now_us) - BREAKER_CELLS + 1;
    int64_t fine = 0, failed = 0;
    if (b->in_a_row >= policy->failures)
        return true;
    for (int i = 0; i < BREAKER_CELLS; i++) {
        if (b->cell[i].number < oldest)
            continue;
        fine += b->cell[i].fine;
        failed += b->cell[i].failed;
    }
    return fine + failed >= policy->calls_min && failed * 100 > (fine + failed) * policy->percent;
}

/* ---- its states ---- */

static void open_it(struct breaker *b, const struct breaker_policy *policy, int64_t now_us) {
    int64_t twice = lesser(2 * b->open_for_us, policy->open_max_us);
    b->open_for_us = b->open_for_us == 0 ? policy->open_us : twice;
    b->state = BREAKER_OPEN;
    b->until_us = now_us + b->open_for_us;
}

static void close_it(struct breaker *b, int64_t now_us) {
    uint32_t probe = b->probe;
    *b = (struct breaker){.closed_at_us = now_us, .ever_closed = true, .probe = probe};
}

static struct breaker_pass start_probe(struct breaker *b, int64_t now_us) {
    b->state = BREAKER_PROBING;
    b->until_us = now_us + BREAKER_PROBE_US;
    b->probe += b->probe == UINT32_MAX ? 2 : 1;
    return (struct breaker_pass){true, b->probe};
}

struct breaker_pass breaker_ask(struct breaker *b, const struct breaker_policy *policy,
                                bool may_probe, int64_t now_us) {
    if (b->state == BREAKER_CLOSED)
        return (struct breaker_pass){.go = true};
    if (b->state == BREAKER_PROBING && now_us >= b->until_us)
        open_it(b, policy, now_us);
    if (b->state == BREAKER_OPEN && now_us >= b->until_us && may_probe)
        return start_probe(b, now_us);
    return (struct breaker_pass){0};
}

void breaker_note(struct breaker *b, const struct breaker_policy *policy, uint32_t probe, bool fine,
                  int64_t now_us) {
    if (b->state == BREAKER_CLOSED) {
        count(b, policy, fine, now_us);
        if (!fine && is_too_much(b, policy, now_us))
            open_it(b, policy, now_us);
    } else if (b->state == BREAKER_PROBING && probe == b->probe) {
        if (fine)
            close_it(b, now_us);
        else
            open_it(b, policy, now_us);
    }
}

void breaker_forgo(struct breaker *b, uint32_t probe, int64_t now_us) {
    if (b->state != BREAKER_PROBING || probe != b->probe)
        return;
    b->state = BREAKER_OPEN;
    b->until_us = now_us;
}

int64_t breaker_wait_us(const struct breaker *b, int64_t now_us) {
    return b->state == BREAKER_CLOSED || b->until_us <= now_us ? 0 : b->until_us - now_us;
}

bool breaker_is_ramping(const struct breaker *b, int64_t ramp_us, int64_t now_us) {
    return b->state == BREAKER_CLOSED && b->ever_closed && now_us - b->closed_at_us < ramp_us;
}

void breaker_hurry(struct breaker *b, int64_t now_us) {
    if (b->state == BREAKER_OPEN)
        b->until_us = lesser(b->until_us, now_us);
}
