/* One cycle: XREAD that blocks, and behind it in the same write XRANGE for the entry before. Both
 * replies come in order, so the look at the entry before is later than what was read:
 *
 *   start    XREVRANGE: where is the end? on_gap; then cycles
 *   cycle    XREAD BLOCK after last; XRANGE last last: not there? on_gap; again
 *   trouble  a pause, and again */
#include "serve/redis/tail.h"

#include "base/clock.h"
#include "base/panic.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    ID_SIZE = 48,      /* two numbers of 20 digits */
    ENTRIES_MAX = 256, /* of one read */
    PAUSE_MS = 1000,   /* after a refusal */
};

#define BEFORE_ALL "0-0" /* no entry's id: every entry comes after it */

struct tail {
    struct loop *loop;
    struct redis_options options;
    struct redis *redis;
    struct span key;
    const struct tail_events *events;
    void *arg;
    char last[ID_SIZE]; /* the last entry's id, terminated */
    bool refused;       /* the read of this cycle was */
    int count;          /* entries to be read: fewer after a read without a reply */
    int64_t asked_ms, heard_ms;
    struct timer again;
};

static bool has_last(const struct tail *t) {
    return strcmp(t->last, BEFORE_ALL) != 0;
}

static bool keep_id(struct tail *t, struct span id) {
    if (id.len == 0 || id.len >= sizeof t->last)
        return false;
    memcpy(t->last, id.ptr, id.len);
    t->last[id.len] = '\0';
    return true;
}

static void pause_then_again(struct tail *t) {
    timer_start(&t->again, PAUSE_MS);
}

/* ---- a cycle ---- */

static void run_cycle(struct tail *t);

/* One that brought nothing may have brought too much: so many entries, or so large ones, that the
 * connection was given up. */
static void adapt_count(struct tail *t, bool fine) {
    if (fine)
        t->count = t->count * 2 < ENTRIES_MAX ? t->count * 2 : ENTRIES_MAX;
    else if (t->count > 1)
        t->count /= 2;
}

/* [[key, [[id, fields], ...]]], or nil: nothing new. */
static void on_read(void *arg, const struct redis_reply *reply) {
    struct tail *t = arg;
    const struct redis_reply *entries = redis_at(redis_at(reply, 0), 1);
    t->refused = !reply;
    adapt_count(t, reply != NULL);
    for (size_t i = 0; i < redis_count(entries); i++) {
        const struct redis_reply *entry = redis_at(entries, i);
        if (keep_id(t, redis_text(redis_at(entry, 0))))
            t->events->on_entry(t->arg, redis_at(entry, 1));
    }
}

/* What is still there is read again from its beginning: it may be another stream's, with ids that
 * go back. */
static void begin_anew(struct tail *t) {
    (void)snprintf(t->last, sizeof t->last, "%s", BEFORE_ALL);
    t->events->on_gap(t->arg);
}

static void end_cycle(struct tail *t, const struct redis_reply *reply, bool missed) {
    if (!reply || t->refused) {
        pause_then_again(t);
        return;
    }
    t->heard_ms = t->asked_ms;
    if (missed)
        begin_anew(t);
    run_cycle(t);
}

static void on_looked_back(void *arg, const struct redis_reply *reply) {
    end_cycle(arg, reply, redis_count(reply) == 0);
}

/* There was no entry before. */
static void on_looked_nowhere(void *arg, const struct redis_reply *reply) {
    end_cycle(arg, reply, false);
}

static void run_cycle(struct tail *t) {
    char count[12], block[12];
    (void)snprintf(count, sizeof count, "%d", t->count);
    (void)snprintf(block, sizeof block, "%d", TAIL_BLOCK_MS);
    struct span last = span_of(t->last);
    struct span read[] = {SPAN("XREAD"),  SPAN("COUNT"),   span_of(count), SPAN("BLOCK"),
                          span_of(block), SPAN("STREAMS"), t->key,         last};
    struct span back[] = {SPAN("XRANGE"), t->key, last, last};
    t->asked_ms = clock_mono_ms();
    if (!redis_command(t->redis, read, sizeof read / sizeof read[0], on_read, t) ||
        !redis_command(t->redis, back, sizeof back / sizeof back[0],
                       has_last(t) ? on_looked_back : on_looked_nowhere, t))
        pause_then_again(t);
}

/* ---- the start ---- */

static void on_end_found(void *arg, const struct redis_reply *reply) {
    struct tail *t = arg;
    if (!reply) {
        pause_then_again(t);
        return;
    }
    (void)keep_id(t, redis_text(redis_at(redis_at(reply, 0), 0)));
    t->heard_ms = t->asked_ms;
    t->events->on_gap(t->arg);
    run_cycle(t);
}

static void find_end(struct tail *t) {
    struct span words[] = {SPAN("XREVRANGE"), t->key,        SPAN("+"),
                           SPAN("-"),         SPAN("COUNT"), SPAN("1")};
    t->asked_ms = clock_mono_ms();
    if (!redis_command(t->redis, words, sizeof words / sizeof words[0], on_end_found, t))
        pause_then_again(t);
}

/* ---- life ---- */

static void go_on(void *arg) {
    struct tail *t = arg;
    if (!redis_is_here(t->redis))
        return; /* on_state begins again */
    if (has_last(t))
        run_cycle(t);
    else
        find_end(t);
}

static void on_state(void *arg, bool here) {
    struct tail *t = arg;
    timer_stop(&t->again);
    if (here)
        go_on(t);
}

struct tail *tail_new(struct loop *loop, const struct redis_options *options, const char *key,
                      const struct tail_events *events, void *arg) {
    struct tail *t = must_zalloc(sizeof *t);
    t->loop = loop;
    t->options = *options;
    t->options.command_timeout_ms = TAIL_BLOCK_MS + TAIL_PATIENCE_MS;
    t->options.script_count = 0;
    t->options.aside = true;
    t->key = span_of(key);
    t->events = events;
    t->arg = arg;
    t->count = ENTRIES_MAX;
    (void)snprintf(t->last, sizeof t->last, "%s", BEFORE_ALL);
    timer_init(&t->again, loop, go_on, t);
    t->redis = redis_new(loop, &t->options, on_state, t);
    return t;
}

void tail_free(struct tail *t) {
    if (!t)
        return;
    redis_free(t->redis);
    timer_stop(&t->again);
    free(t);
}

void tail_reconnect(struct tail *t) {
    redis_free(t->redis);
    timer_stop(&t->again);
    t->redis = redis_new(t->loop, &t->options, on_state, t);
}

int64_t tail_heard_ms(const struct tail *t) {
    return t->heard_ms;
}

const struct redis_reply *tail_field(const struct redis_reply *fields, struct span name) {
    for (size_t i = 0; i + 1 < redis_count(fields); i += 2)
        if (span_equal(redis_text(redis_at(fields, i)), name))
            return redis_at(fields, i + 1);
    return NULL;
}
