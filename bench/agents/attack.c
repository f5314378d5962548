#include "agents/attack.h"

#include "agents/line.h"
#include "agents/pacer.h"
#include "agents/request.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/panic.h"
#include "base/random.h"

#include <stdio.h>
#include <stdlib.h>

enum { PATIENCE_US = 10 * 1000 * 1000, SLOW_PATIENCE_US = 120 * 1000 * 1000, DRIP_MS = 1000 };

struct stranger {
    struct list link; /* in free or busy */
    struct line line;
    struct attack *attack;
    int64_t until_us;
    size_t number; /* whom it pretends to be */
    size_t sent;   /* slow: bytes of the request */
};

struct attack {
    struct attack_options o;
    struct target target; /* the same, from other addresses: what the target thinks of strangers is
                             not the agents' fault */
    struct line_setup setup;
    struct pacer pacer;
    struct timer drip;
    struct list free, busy; /* busy: who began first stands first */
    struct stranger *stranger;
    int64_t next_us;
    uint64_t made;
};

/* ---- what they send ---- */

/* A token that looks right, with a signature nobody made. */
static void forge(struct str *out) {
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned char bytes[43];
    random_fill(bytes, sizeof bytes);
    STR_ADD(out, "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
                 "eyJzdWIiOiI2YTAwMDAwMDAwMDAwMDAwMDAwMDAwMDAiLCJ0eXBlIjoiYWdlbnQiLCJleHAiOjQxMDI0"
                 "NDQ4MDB9.");
    for (size_t i = 0; i < sizeof bytes; i++)
        str_add_char(out, letters[bytes[i] & 63]);
}

static void build(const struct stranger *s, struct str *out) {
    char id[IDENTITY_ID], made_up[64], memory[512];
    struct str token;
    const struct attack *a = s->attack;
    identity_id(a->o.identities, s->number, id);
    int len = snprintf(made_up, sizeof made_up, "wrong-%llx", (unsigned long long)random_u64());
    str_init_fixed(&token, memory, sizeof memory);
    forge(&token);
    str_clear(out);
    request_build(
        out, &(struct request){.call = a->o.kind == ATTACK_WRONG_SECRET ? LIFE_CONNECT : LIFE_BEAT,
                               .prefix = a->o.target->prefix,
                               .authority = a->o.target->authority,
                               .id = {id, sizeof id},
                               .secret = {made_up, (size_t)len},
                               .token = str_span(&token),
                               .close = true});
}

static void send_all(struct stranger *s) {
    build(s, &s->attack->o.loop->text);
    struct span bytes = str_span(&s->attack->o.loop->text);
    line_write(&s->line, &bytes, 1);
}

/* One byte of a request that never gets to its end. */
static void send_byte(struct stranger *s) {
    static const char text[] = "POST /agents/x/connect HTTP/1.1\r\nHost: slow\r\nX-Slow: ";
    char c = s->sent < sizeof text - 1 ? text[s->sent] : 'z';
    s->sent++;
    line_drip(&s->line, (struct span){&c, 1});
}

/* ---- how they end ---- */

static void set_free(struct stranger *s, int64_t *counter) {
    (*counter)++;
    list_remove(&s->link);
    list_push_back(&s->attack->free, &s->link);
}

static void on_ready(void *arg) {
    struct stranger *s = arg;
    if (s->attack->o.kind == ATTACK_SLOW)
        send_byte(s);
    else
        send_all(s);
}

static void on_answer(void *arg, const struct http_response *r, struct span body) {
    (void)body;
    struct stranger *s = arg;
    struct tally *t = &s->attack->o.record->tally;
    set_free(s, r->status >= 200 && r->status < 300   ? &t->attack_let_in
                : r->status >= 400 && r->status < 500 ? &t->attack_refused
                                                      : &t->attack_failed);
}

static void on_failed(void *arg, enum line_fault fault) {
    struct stranger *s = arg;
    struct tally *t = &s->attack->o.record->tally;
    set_free(s, fault == LINE_CLOSED ? &t->attack_refused : &t->attack_failed);
}

static void give_up(struct stranger *s) {
    line_close(&s->line);
    set_free(s, &s->attack->o.record->tally.attack_failed);
}

/* ---- how they come ---- */

static void come(struct attack *a, int64_t now_us) {
    struct tally *t = &a->o.record->tally;
    t->attack_calls++;
    a->made++;
    if (list_empty(&a->free)) {
        t->attack_failed++;
        return;
    }
    struct stranger *s = container_of(a->free.next, struct stranger, link);
    list_remove(&s->link);
    list_push_back(&a->busy, &s->link);
    s->number = (size_t)(a->made % a->o.agents);
    s->until_us = now_us + (a->o.kind == ATTACK_SLOW ? SLOW_PATIENCE_US : PATIENCE_US);
    s->sent = 0;
    if (line_prepare(&s->line, (size_t)a->made, now_us) == LINE_NONE)
        set_free(s, &t->attack_failed);
}

static void on_due(void *arg) {
    struct attack *a = arg;
    enum { AT_ONCE = 64 };
    int64_t now_us = clock_mono_us(), gap_us = (int64_t)(1e6 / a->o.rate);
    for (int i = 0; i < AT_ONCE && a->next_us <= now_us; i++, a->next_us += gap_us > 0 ? gap_us : 1)
        come(a, now_us);
    pacer_set(&a->pacer, a->next_us);
}

static void on_drip(void *arg) {
    struct attack *a = arg;
    int64_t now_us = clock_mono_us();
    list_each_safe (at, &a->busy) {
        struct stranger *s = container_of(at, struct stranger, link);
        if (now_us >= s->until_us)
            give_up(s);
        else if (a->o.kind == ATTACK_SLOW && s->sent > 0)
            send_byte(s);
    }
    timer_start(&a->drip, DRIP_MS);
}

static const struct line_events line_events = {on_ready, on_answer, on_failed};

struct attack *attack_start(const struct attack_options *options) {
    struct attack *a = must_zalloc(sizeof *a);
    a->o = *options;
    if (!pacer_init(&a->pacer, options->loop, on_due, a)) {
        free(a);
        return NULL;
    }
    a->setup =
        (struct line_setup){.loop = options->loop, .target = options->target, .on = &line_events};
    list_init(&a->free);
    list_init(&a->busy);
    a->stranger = must_zalloc(ATTACK_STRANGERS * sizeof *a->stranger);
    for (size_t i = 0; i < ATTACK_STRANGERS; i++) {
        struct stranger *s = &a->stranger[i];
        s->attack = a;
        line_init(&s->line, &a->setup, s);
        list_push_back(&a->free, &s->link);
    }
    a->next_us = clock_mono_us();
    pacer_set(&a->pacer, a->next_us);
    timer_init(&a->drip, options->loop, on_drip, a);
    timer_start(&a->drip, DRIP_MS);
    return a;
}

void attack_stop(struct attack *a) {
    timer_stop(&a->drip);
    pacer_release(&a->pacer);
    list_each (at, &a->busy)
        a->o.record->tally.attack_failed++;
    for (size_t i = 0; i < ATTACK_STRANGERS; i++)
        line_release(&a->stranger[i].line);
    free(a->stranger);
    free(a);
}
