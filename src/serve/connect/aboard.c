#include "serve/connect/aboard.h"

#include "base/secret.h"
#include "rules/agents/flight.h"
#include "serve/cache/peers.h"
#include "serve/request/access.h"

#include <stdatomic.h>
#include <stdlib.h>

/* ---- taking off, and landing ---- */

void aboard_take_off(struct passenger *p, struct agent *agent) {
    struct shared *shared = p->serve->shared;
    p->peers_seen = peers_seen(shared);
    p->flight = flight_start(&agent->flights, p->pass.proof, agents_purges(shared->agents));
}

void aboard_disembark(struct passenger *leader, struct list *followers) {
    flight_land(leader->flight, followers);
    list_each (at, followers)
        container_of(at, struct passenger, seat)->aboard = false;
    leader->flight = NULL;
}

void aboard_tell_followers(struct list *followers, struct outcome *outcome) {
    while (!list_empty(followers)) {
        struct passenger *p = container_of(followers->next, struct passenger, seat);
        struct serve *s = p->serve;
        list_remove(&p->seat);
        atomic_fetch_add(&outcome->references, 1);
        p->outcome = outcome;
        mailbox_post(s->shared->mailbox[s->worker], &p->landed);
    }
}

/* ---- how it ended ---- */

bool aboard_answer_older(struct passenger *p, const struct grant *g, const char *detail) {
    return g && replay_answer(p->serve, &p->caller, g, &p->pass, detail);
}

static void add_forward_status(struct str *fields, const struct passenger *p) {
    char memory[64];
    struct str status;
    str_init_fixed(&status, memory, sizeof memory);
    str_add(&status, span_of(replay_reason_texts[p->reason]));
    if (!p->leads)
        STR_ADD(&status, "; collapsed");
    else if (p->outcome->stored)
        STR_ADD(&status, "; stored");
    str_add_char(&status, '\0');
    replay_add_cache_fields(fields, memory);
}

void aboard_answer(struct passenger *p) {
    struct serve *s = p->serve;
    const struct outcome *o = p->outcome;
    if (p->leads && o->took_us > 0)
        access_mark_asked(p->caller.x, s, o->took_us);
    if (!p->caller.x || aboard_answer_older(p, o->grant, o->hit ? NULL : "controller-failed"))
        return;
    if (o->error != ERR_OK) {
        caller_refuse_until(s, &p->caller, o->error, o->retry_after_s);
        return;
    }
    if (o->status / 100 == 2)
        exchange_vouch(p->caller.x);
    if (!p->leads)
        access_mark(p->caller.x, OUTCOME_COLLAPSED);
    char memory[160];
    struct str fields;
    str_init_fixed(&fields, memory, sizeof memory);
    add_forward_status(&fields, p);
    caller_answer(s, &p->caller, o->status, span_of(o->content_type), str_span(&fields),
                  (struct span){o->body, o->body_len});
}

void aboard_outcome_unref(struct outcome *o) {
    if (!o || atomic_fetch_sub(&o->references, 1) > 1)
        return;
    grant_unref(o->grant);
    free(o->content_type);
    if (o->body)
        secret_cleanse(o->body, o->body_len);
    free(o->body);
    free(o);
}

/* ---- life ---- */

void aboard_drop_kept(struct passenger *p) {
    secret_cleanse(p->kept.ptr, p->kept.len);
    str_release(&p->kept);
}

void aboard_free(struct passenger *p) {
    timer_stop(&p->patience);
    aboard_drop_kept(p);
    grant_pass_cleanse(&p->pass);
    aboard_outcome_unref(p->outcome);
    caller_release(&p->caller);
    free(p);
}
