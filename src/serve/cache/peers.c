#include "serve/cache/peers.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/panic.h"
#include "base/random.h"
#include "rules/agents/verdict.h"
#include "rules/redis/journal.h"
#include "serve/limits/sharing.h"
#include "serve/redis/keys.h"
#include "serve/redis/scripts.h"
#include "serve/redis/tail.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    TICK_MS = 500,
    ATTEND_MS = 5000,  /* how often we say that we are there */
    SILENT_MS = 15000, /* who has not said so for that long does not count */
    CHANNEL_MS = 3000, /* the stream was read to its end within this: the channel is up */
    AHEAD_S = 300,     /* a cut-off may lie in the future by clocks that differ, no more */
    PAGE = 500,        /* revocations read at a time */
};

/* Longer than any fill takes: the controller's response timeout may be an hour, but a fill that
 * began before a purge of ten minutes ago meets a client that has long gone. */
#define PURGE_MARK_MS     "600000"
#define REVOCATION_KEPT_S "90000" /* 25 h: tokens live for 24 */

struct said {
    struct letter letter;
    struct notice notice;
};

struct peers {
    struct shared *shared;
    struct loop *loop;
    struct mailbox mailbox;
    struct redis *redis;
    struct tail *tail;
    struct sharing *sharing;
    struct timer tick;
    struct journal *journal;
    char replica[PEERS_REPLICA_ID];
    char events_key[KEY_MAX];
    bool leaving;
    int64_t started_ms, attended_ms; /* monotonic */
    char epoch[24];                  /* of this Redis' memory, terminated; "": not known */
    bool loading, load_again;        /* revocations */
    bool was_here;                   /* Redis */
    bool follows;                    /* the stream, from some end of it */
    bool channel_up;
    int replicas;
    /* What workers ask for. */
    _Atomic int untold; /* letters that are under way */
    _Atomic bool journal_waits;
    _Atomic bool deaf;
    _Atomic int64_t seen;
};

static void raise_seen(struct peers *p, int64_t sequence) {
    if (sequence > atomic_load(&p->seen))
        atomic_store(&p->seen, sequence); /* nobody else writes it */
}

/* ---- what others tell ---- */

static int64_t plausible(int64_t cutoff_s) {
    int64_t latest_s = clock_wall_ms() / 1000 + AHEAD_S;
    return cutoff_s < latest_s ? cutoff_s : latest_s;
}

static void apply_access(struct agents *agents, struct agent *agent, const struct notice *n) {
    int64_t now_ms = clock_mono_ms();
    if (n->access == NOTICE_DELETED || n->access == NOTICE_SUSPENDED)
        agents_revoke(agents, agent,
                      n->access == NOTICE_DELETED ? REVOKED_DELETED : REVOKED_SUSPENDED,
                      plausible(n->cutoff_s), now_ms);
    if (n->regenerated_s > 0)
        agents_revoke(agents, agent, REVOKED_REGENERATED, plausible(n->regenerated_s), now_ms);
    if (n->access != NOTICE_READMITTED)
        return;
    verdict_forget(agent);
    agents_readmit(agents, agent);
}

static void apply_to_agent(struct shared *shared, const struct notice *n) {
    bool revokes =
        n->access == NOTICE_DELETED || n->access == NOTICE_SUSPENDED || n->regenerated_s > 0;
    struct agent *agent = agents_lock(shared->agents, &n->agent, revokes || n->asks);
    if (agent) {
        if (n->forget)
            agents_purge(shared->agents, agent);
        agent->must_ask = n->asks || (agent->must_ask && n->access == NOTICE_UNCHANGED);
        apply_access(shared->agents, agent, n);
        agents_unlock(shared->agents, agent);
    }
    refusals_forget(shared->refusals, &n->agent);
}

static void apply(struct shared *shared, const struct notice *n) {
    if (n->kind == NOTICE_AGENT) {
        apply_to_agent(shared, n);
    } else if (n->kind == NOTICE_EVERYTHING) {
        agents_purge_all(shared->agents);
    } else {
        uint64_t sequence = agents_count_purge(shared->agents);
        for (size_t i = 0; i < n->slot_count; i++)
            tags_write(shared->tags, (struct tag){n->slots[i]}, sequence);
    }
}

/* Our own have been done before they were told. Read again after a gap they take their place among
 * the others': who readmitted an agent had the last word. */
static void on_entry(void *arg, const struct redis_reply *fields) {
    struct peers *p = arg;
    struct notice n;
    int64_t sequence = redis_integer(tail_field(fields, SPAN("seq")));
    bool is_ours =
        span_equal(redis_text(tail_field(fields, SPAN("from"))), peers_replica(p->shared));
    bool is_new = sequence > atomic_load(&p->seen);
    if (notice_read(redis_text(tail_field(fields, SPAN("what"))), &n) && !(is_ours && is_new)) {
        apply(p->shared, &n);
        p->load_again |= n.kind == NOTICE_AGENT;
    }
    raise_seen(p, sequence);
}

static void count_everything_stale(struct peers *p) {
    struct shared *shared = p->shared;
    tags_write(shared->tags, tag_of(TAG_EVERYTHING, SPAN("")), agents_count_purge(shared->agents));
}

static void attend(struct peers *p);
static void load_revocations(struct peers *p);

static void on_gap(void *arg) {
    struct peers *p = arg;
    if (p->follows)
        log_warn("purges by other gateways may have been missed: all that is cached is stale",
                 F_INT("replicas", p->replicas));
    metric_add(METRIC_CHANNEL_GAPS, p->follows);
    p->follows = true;
    count_everything_stale(p);
    attend(p);
    load_revocations(p);
}

static const struct tail_events tail_events = {on_entry, on_gap};

/* ---- revocations that are known already ---- */

/* <id> -> "suspended <cut-off>", <id>:r -> the cut-off of a regenerate. */
static void take_revocation(struct peers *p, struct span field, struct span value) {
    char text[NOTICE_TEXT_MAX];
    struct notice n;
    bool is_regenerated =
        field.len == AGENT_ID_HEX + 2 && span_equal(span_from(field, AGENT_ID_HEX), SPAN(":r"));
    int len = snprintf(text, sizeof text,
                       is_regenerated ? "agent %.*s 0 unchanged 0 %.*s" : "agent %.*s 0 %.*s 0",
                       AGENT_ID_HEX, field.ptr, SPAN_ARG(value));
    bool fits = field.len >= AGENT_ID_HEX && len > 0 && (size_t)len < sizeof text;
    if (fits && notice_read((struct span){text, (size_t)len}, &n))
        apply_to_agent(p->shared, &n);
}

static void ask_page(struct peers *p, struct span cursor);

static void end_loading(struct peers *p) {
    p->loading = false;
    if (p->load_again) /* what was read may be older than what was told meanwhile */
        load_revocations(p);
}

static void on_page(void *arg, const struct redis_reply *reply) {
    struct peers *p = arg;
    struct span cursor = redis_text(redis_at(reply, 0));
    const struct redis_reply *pairs = redis_at(reply, 1);
    for (size_t i = 0; i + 1 < redis_count(pairs); i += 2)
        take_revocation(p, redis_text(redis_at(pairs, i)), redis_text(redis_at(pairs, i + 1)));
    if (!reply)
        p->loading = false; /* the next connection begins again */
    else if (span_equal(cursor, SPAN("0")))
        end_loading(p);
    else
        ask_page(p, cursor);
}

static void ask_page(struct peers *p, struct span cursor) {
    char memory[KEY_MAX], count[12];
    (void)snprintf(count, sizeof count, "%d", PAGE);
    struct span words[] = {SPAN("HSCAN"), key_spell(p->shared, "revoked", NULL, memory), cursor,
                           SPAN("COUNT"), span_of(count)};
    p->loading = redis_command(p->redis, words, sizeof words / sizeof words[0], on_page, p);
}

static void load_revocations(struct peers *p) {
    p->load_again = p->loading;
    if (!p->loading)
        ask_page(p, SPAN("0"));
}

/* ---- we are there ---- */

static void note_replicas(struct peers *p, int64_t count) {
    int replicas = count < 1 ? 1 : (int)count;
    metric_add(METRIC_REPLICAS, replicas - p->replicas);
    p->replicas = replicas;
    atomic_store(&p->shared->replicas, replicas);
}

/* This Redis remembers nothing from before: what we know of revoked agents it shall know, too. */
static void tell_again(void *arg, struct agent *agent) {
    struct peers *p = arg;
    static const enum notice_access told[] = {
        [REVOKED_DELETED] = NOTICE_DELETED, [REVOKED_SUSPENDED] = NOTICE_SUSPENDED};
    const struct revocation *r = &agent->revoked;
    struct notice n = {.kind = NOTICE_AGENT, .agent = agent->id, .seen = INT64_MAX};
    if (r->why == REVOKED_DELETED || r->why == REVOKED_SUSPENDED) {
        n.access = told[r->why];
        n.cutoff_s = r->cutoff_s;
    }
    n.regenerated_s = r->regenerated_s > 0 ? r->regenerated_s + 1 : 0;
    bool has_room = journal_agents(p->journal) < PEERS_JOURNAL_AGENTS / 2;
    if (has_room && (n.access != NOTICE_UNCHANGED || n.regenerated_s > 0))
        journal_add(p->journal, &n);
}

static void tell_next(struct peers *p);

static void note_epoch(struct peers *p, struct span epoch) {
    bool changed = p->epoch[0] != '\0' && !span_equal(span_of(p->epoch), epoch);
    (void)snprintf(p->epoch, sizeof p->epoch, "%.*s", SPAN_ARG(epoch));
    if (!changed)
        return;
    log_warn("redis has lost what it held: all that is cached is stale",
             F_INT("replicas", p->replicas));
    count_everything_stale(p);
    agents_each_owned(p->shared->agents, 0, 1, tell_again, p);
    atomic_store(&p->journal_waits, !journal_is_empty(p->journal));
    tell_next(p);
}

static void on_attended(void *arg, const struct redis_reply *reply) {
    struct peers *p = arg;
    if (!reply)
        return;
    note_replicas(p, redis_integer(redis_at(reply, 0)));
    note_epoch(p, redis_text(redis_at(reply, 2)));
    /* It was read in Redis, so every purge up to it came before whatever we ask from now on. */
    raise_seen(p, redis_integer(redis_at(reply, 1)));
}

static void attend(struct peers *p) {
    char replicas[KEY_MAX], purges[KEY_MAX], silent[12];
    (void)snprintf(silent, sizeof silent, "%d", SILENT_MS);
    struct span words[] = {key_spell(p->shared, "replicas", NULL, replicas),
                           key_spell(p->shared, "purges", NULL, purges), span_of(p->events_key),
                           peers_replica(p->shared), span_of(silent)};
    if (p->leaving)
        return;
    p->attended_ms = clock_mono_ms();
    (void)redis_run(p->redis, SCRIPT_ATTEND, 3, words, sizeof words / sizeof words[0], on_attended,
                    p);
}

static void on_left(void *arg, const struct redis_reply *reply) {
    (void)arg;
    (void)reply;
}

void peers_leave(struct peers *p) {
    char replicas[KEY_MAX];
    if (!p)
        return;
    p->leaving = true;
    struct span words[] = {SPAN("ZREM"), key_spell(p->shared, "replicas", NULL, replicas),
                           peers_replica(p->shared)};
    (void)redis_command(p->redis, words, 3, on_left, p);
}

/* ---- what we tell ---- */

static void on_told(void *arg, const struct redis_reply *reply) {
    struct peers *p = arg;
    journal_told(p->journal, reply != NULL);
    metric_add(METRIC_PURGES_SHARED, redis_integer(reply));
    atomic_store(&p->journal_waits, !journal_is_empty(p->journal));
    if (reply)
        tell_next(p);
}

/* The words of a notice, kept together while they are sent. */
struct wording {
    char key[6][KEY_MAX];
    char text[NOTICE_TEXT_MAX], plain[NOTICE_TEXT_MAX];
    char id[AGENT_ID_HEX];
    char cutoff[STR_DECIMAL], regenerated[STR_DECIMAL], seen[STR_DECIMAL];
};

static struct span spell(const struct notice *n, char memory[NOTICE_TEXT_MAX]) {
    struct str text;
    str_init_fixed(&text, memory, NOTICE_TEXT_MAX);
    notice_spell(n, &text);
    return str_span(&text);
}

static bool tell_agent(struct peers *p, const struct notice *n, struct wording *w) {
    const struct shared *s = p->shared;
    struct notice plain = *n;
    plain.access = NOTICE_UNCHANGED;
    plain.cutoff_s = 0;
    agent_id_text(&n->agent, w->id);
    struct span words[] = {
        key_spell(s, "purges", NULL, w->key[0]),
        span_of(p->events_key),
        key_spell(s, "grant", &n->agent, w->key[2]),
        key_spell(s, "purged", &n->agent, w->key[3]),
        key_spell(s, "revoked", NULL, w->key[4]),
        key_spell(s, "revoked:until", NULL, w->key[5]),
        peers_replica(s),
        spell(n, w->text),
        spell(&plain, w->plain),
        {w->id, AGENT_ID_HEX},
        n->forget ? SPAN("1") : SPAN("0"),
        n->only_if_shared ? SPAN("1") : SPAN("0"),
        span_of(notice_access_name(n->access)),
        str_decimal(n->cutoff_s, w->cutoff),
        str_decimal(n->regenerated_s, w->regenerated),
        n->seen == INT64_MAX ? SPAN("") : str_decimal(n->seen, w->seen),
        SPAN(PURGE_MARK_MS),
        SPAN(REVOCATION_KEPT_S),
    };
    return redis_run(p->redis, SCRIPT_TELL_AGENT, 6, words, sizeof words / sizeof words[0], on_told,
                     p);
}

static bool tell_all(struct peers *p, const struct notice *n, struct wording *w) {
    struct span text = spell(n, w->text);
    bool is_tags = n->kind == NOTICE_TAGS;
    struct span words[] = {key_spell(p->shared, "purges", NULL, w->key[0]), span_of(p->events_key),
                           peers_replica(p->shared), text,
                           is_tags ? span_from(text, sizeof "tags " - 1) : SPAN("")};
    return redis_run(p->redis, SCRIPT_TELL_ALL, 2, words, sizeof words / sizeof words[0], on_told,
                     p);
}

static void tell_next(struct peers *p) {
    struct wording w;
    struct notice n;
    if (!p->redis || !redis_is_here(p->redis) || !journal_next(p->journal, &n))
        return;
    bool sent = n.kind == NOTICE_AGENT ? tell_agent(p, &n, &w) : tell_all(p, &n, &w);
    if (!sent)
        journal_told(p->journal, false);
}

static void on_said(struct letter *letter, void *receiver) {
    struct peers *p = receiver;
    struct said *said = container_of(letter, struct said, letter);
    journal_add(p->journal, &said->notice);
    free(said);
    /* In this order: a worker looks at them the other way round. */
    atomic_store(&p->journal_waits, true);
    atomic_fetch_sub(&p->untold, 1);
    tell_next(p);
}

void peers_tell(struct shared *shared, const struct notice *n) {
    struct peers *p = shared->peers;
    if (!p)
        return;
    struct said *said = must_zalloc(sizeof *said);
    said->letter.deliver = on_said;
    said->notice = *n;
    atomic_fetch_add(&p->untold, 1);
    mailbox_post(&p->mailbox, &said->letter);
}

bool peers_has_told_all(const struct shared *shared) {
    const struct peers *p = shared->peers;
    return p && atomic_load(&p->untold) == 0 && !atomic_load(&p->journal_waits);
}

/* ---- the channel ---- */

static void watch_channel(struct peers *p) {
    int64_t heard_ms = tail_heard_ms(p->tail);
    int64_t silent_ms = clock_mono_ms() - (heard_ms > 0 ? heard_ms : p->started_ms);
    bool up = heard_ms > 0 && silent_ms<CHANNEL_MS, deaf = silent_ms> PEERS_DEAF_MS;
    metric_add(METRIC_CHANNEL_UP, up - p->channel_up);
    p->channel_up = up;
    if (atomic_exchange(&p->deaf, deaf) == deaf)
        return;
    if (deaf)
        log_warn("nothing was heard from other gateways for a minute: all that is cached is stale",
                 F_INT("replicas", p->replicas));
    else
        log_info("other gateways are heard again", F_INT("replicas", p->replicas));
}

static void on_tick(void *arg) {
    struct peers *p = arg;
    watch_channel(p);
    if (clock_mono_ms() - p->attended_ms >= ATTEND_MS)
        attend(p);
    tell_next(p);
    timer_start(&p->tick, TICK_MS);
}

/* What we have to tell goes first; then we ask for what we have missed. */
static void on_redis(void *arg, bool here) {
    struct peers *p = arg;
    if (!here)
        return;
    tell_next(p);
    attend(p);
    load_revocations(p);
    if (p->was_here)
        tail_reconnect(p->tail); /* Redis may be another one now */
    p->was_here = true;
}

bool peers_is_deaf(const struct shared *shared) {
    return shared->peers && atomic_load_explicit(&shared->peers->deaf, memory_order_relaxed);
}

int64_t peers_seen(const struct shared *shared) {
    return shared->peers ? atomic_load(&shared->peers->seen) : 0;
}

struct span peers_replica(const struct shared *shared) {
    return (struct span){shared->peers->replica, PEERS_REPLICA_ID};
}

bool peers_is_quiet(const struct peers *p) {
    return !p || !redis_is_here(p->redis) ||
           (atomic_load(&p->untold) == 0 && journal_is_empty(p->journal));
}

/* ---- life ---- */

static void name_replica(struct peers *p) {
    uint64_t number = random_u64();
    for (size_t i = 0; i < PEERS_REPLICA_ID; i++, number >>= 4)
        p->replica[i] = "0123456789abcdef"[number & 15];
}

void peers_start(struct shared *shared, struct loop *loop) {
    if (!shared->redis)
        return;
    struct peers *p = must_zalloc(sizeof *p);
    shared->peers = p;
    p->shared = shared;
    p->loop = loop;
    p->replicas = 1;
    metric_add(METRIC_REPLICAS, 1);
    p->journal = journal_new(PEERS_JOURNAL_AGENTS);
    p->started_ms = clock_mono_ms();
    name_replica(p);
    struct span key = key_spell(shared, "events", NULL, p->events_key);
    p->events_key[key.len] = '\0';
    mailbox_init(&p->mailbox, loop, p);
    timer_init(&p->tick, loop, on_tick, p);
    p->redis = redis_new(loop, shared->redis, on_redis, p);
    p->tail = tail_new(loop, shared->redis, p->events_key, &tail_events, p);
    p->sharing = sharing_new(shared, loop, p->redis);
    timer_start(&p->tick, TICK_MS);
}

void peers_free(struct shared *shared) {
    struct peers *p = shared->peers;
    if (!p)
        return;
    tail_free(p->tail);
    sharing_free(p->sharing);
    redis_free(p->redis);
    p->redis = NULL;
    mailbox_release(&p->mailbox);
    timer_stop(&p->tick);
    journal_free(p->journal);
    shared->peers = NULL;
    free(p);
}
