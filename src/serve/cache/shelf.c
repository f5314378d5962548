#include "serve/cache/shelf.h"

#include "base/clock.h"
#include "base/metric.h"
#include "base/panic.h"
#include "base/secret.h"
#include "serve/cache/peers.h"
#include "serve/redis/keys.h"
#include "serve/redis/scripts.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    FILL_PROOF = 8, /* bytes of the proof that tell one secret's fill from another's */
    ONCE_MORE_MS = 5,
};

struct shelf {
    struct serve *serve;
    struct list looks;
    int64_t settled_ms; /* monotonic: from then on things are looked up */
    uint64_t answers;   /* that came so far, and one */
    bool was_away, closed;
};

/* One look, perhaps with several questions, one after the other. It lives until it has ended and
 * the reply to its last question has come. */
struct look {
    struct list link;
    struct shelf *shelf;
    struct grant_pass pass;
    void (*done)(void *arg, const struct looked *found); /* NULL: it has ended */
    void *arg;
    struct timer timer; /* too late; or time to ask again */
    bool asking;        /* a question is under way */
    bool cancelled;
    int64_t asked_ms; /* monotonic */
    uint64_t answers; /* of the shelf, when its time was last over; 0: it was not */
    int64_t until_ms; /* monotonic: another replica's fill is waited for */
};

/* ---- keys ---- */

struct shelf_keys {
    char grant[KEY_MAX], fill[KEY_MAX], purges[KEY_MAX], purged[KEY_MAX];
};

static struct span spell_fill(const struct shared *s, const struct grant_pass *pass,
                              char memory[KEY_MAX]) {
    struct span key = key_spell(s, "fill", &pass->id, memory);
    struct str rest;
    str_init_fixed(&rest, memory + key.len, KEY_MAX - key.len);
    str_add_char(&rest, ':');
    for (size_t i = 0; i < FILL_PROOF; i++)
        str_addf(&rest, "%02x", pass->proof[i]);
    invariant(!rest.overflow);
    return (struct span){memory, key.len + rest.len};
}

/* The four keys of LOOK and KEEP, in their order. */
static void spell_keys(const struct shared *s, const struct grant_pass *pass,
                       struct shelf_keys *keys, struct span out[4]) {
    out[0] = key_spell(s, "grant", &pass->id, keys->grant);
    out[1] = spell_fill(s, pass, keys->fill);
    out[2] = key_spell(s, "purges", NULL, keys->purges);
    out[3] = key_spell(s, "purged", &pass->id, keys->purged);
}

/* ---- looking: the end ---- */

static void look_free(struct look *look) {
    list_remove(&look->link);
    timer_stop(&look->timer);
    grant_pass_cleanse(&look->pass);
    free(look);
}

static void end_look(struct look *look, const struct looked *found, enum metric how) {
    void (*done)(void *arg, const struct looked *) = look->done;
    void *arg = look->arg;
    metric_add(how, 1);
    timer_stop(&look->timer);
    look->done = NULL;
    if (!look->asking)
        look_free(look);
    done(arg, found);
}

static void end_with_nothing(struct look *look, enum metric how) {
    end_look(look, &(struct looked){0}, how);
}

void shelf_cancel(struct look *look) {
    look->done = NULL;
    look->cancelled = true;
    timer_stop(&look->timer);
    if (!look->asking)
        look_free(look);
}

/* ---- looking: what was found ---- */

/* "1,2,3" */
static bool read_tags(struct span text, struct tag_set *tags) {
    int64_t slot = 0;
    bool any = false;
    for (size_t i = 0; i <= text.len; i++) {
        char c = i < text.len ? text.ptr[i] : ',';
        if (c >= '0' && c <= '9' && slot < TAGS_SLOTS) {
            slot = slot * 10 + (c - '0');
            any = true;
        } else if (c == ',' && any && slot < TAGS_SLOTS && tags->count < TAGS_PER_ANSWER) {
            tag_set_add(tags, (struct tag){(uint16_t)slot});
            slot = 0;
            any = false;
        } else {
            return false;
        }
    }
    return true;
}

/* Facts are vouched for only once the grant was opened. */
static bool opens(const struct grant *g, const struct grant_pass *pass) {
    char *body = must_alloc(g->body_len + 1);
    bool opened = grant_open(g, pass, body);
    secret_cleanse(body, g->body_len);
    free(body);
    return opened;
}

static void take_found(struct look *look, const struct redis_reply *reply) {
    struct looked found = {.stale = redis_integer(redis_at(reply, 1)) != 0};
    struct grant *grant = grant_unpack(redis_text(redis_at(reply, 3)));
    bool fine = grant && opens(grant, &look->pass) &&
                read_tags(redis_text(redis_at(reply, 2)), &found.tags);
    found.grant = grant;
    if (fine)
        end_look(look, &found, found.stale ? METRIC_SHARED_STALE : METRIC_SHARED_HIT);
    else
        end_with_nothing(look, METRIC_SHARED_ERROR);
    grant_unref(grant);
}

static void wait_for_the_other(struct look *look) {
    int64_t now_ms = clock_mono_ms();
    if (look->until_ms == 0)
        look->until_ms = now_ms + SHELF_WAIT_MS;
    if (now_ms >= look->until_ms)
        end_with_nothing(look, METRIC_SHARED_LOCKED);
    else
        timer_start(&look->timer, SHELF_AGAIN_MS);
}

/* Nobody waits for this reply any more. The fill of a flight that goes on is ended when it lands;
 * one that nobody has would only hold up others. */
static void drop_answer(struct look *look, struct span word) {
    if (look->cancelled && span_equal(word, SPAN("ours")))
        shelf_give_up(look->shelf, &look->pass);
    look_free(look);
}

static void on_answered(void *arg, const struct redis_reply *reply) {
    struct look *look = arg;
    struct span word = redis_text(redis_at(reply, 0));
    look->asking = false;
    look->shelf->answers++;
    timer_stop(&look->timer);
    if (!look->done)
        drop_answer(look, word);
    else if (!reply)
        end_with_nothing(look, METRIC_SHARED_ERROR);
    else if (span_equal(word, SPAN("found")))
        take_found(look, reply);
    else if (span_equal(word, SPAN("locked")))
        wait_for_the_other(look);
    else
        end_with_nothing(look, METRIC_SHARED_MISS);
}

/* ---- looking: the question ---- */

static bool ask(struct look *look) {
    struct serve *s = look->shelf->serve;
    const struct grant_pass *pass = &look->pass;
    struct shelf_keys keys;
    char fill_ms[12];
    struct span words[8];
    (void)snprintf(fill_ms, sizeof fill_ms, "%d", SHELF_FILL_MS);
    spell_keys(s->shared, pass, &keys, words);
    words[4] = (struct span){(const char *)pass->proof, GRANT_PROOF};
    words[5] = pass->has_previous ? (struct span){(const char *)pass->previous_proof, GRANT_PROOF}
                                  : SPAN("");
    words[6] = peers_replica(s->shared);
    words[7] = span_of(fill_ms);
    look->asked_ms = clock_mono_ms();
    look->answers = 0;
    look->asking = redis_run(s->redis, SCRIPT_LOOK, 4, words, 8, on_answered, look);
    if (look->asking)
        timer_start(&look->timer, s->shared->config->connect_cache.redis_budget_ms);
    return look->asking;
}

/* Its time is over. A loop that was busy for so long has not read its sockets, either; and in a
 * storm it reads but a part of what came in each turn. Redis is late when nothing comes. */
static bool may_be_our_fault(const struct look *look) {
    return look->answers != look->shelf->answers &&
           clock_mono_ms() - look->asked_ms < SHELF_BUSY_MS;
}

static void on_timer(void *arg) {
    struct look *look = arg;
    if (look->asking && may_be_our_fault(look)) {
        look->answers = look->shelf->answers;
        timer_start(&look->timer, ONCE_MORE_MS);
    } else if (look->asking) {
        end_with_nothing(look, METRIC_SHARED_LATE);
    } else if (!ask(look)) {
        end_with_nothing(look, METRIC_SHARED_ERROR);
    }
}

struct look *shelf_look(struct shelf *shelf, const struct grant_pass *pass,
                        void (*done)(void *arg, const struct looked *found), void *arg) {
    struct look *look = must_zalloc(sizeof *look);
    look->shelf = shelf;
    look->pass = *pass;
    look->done = done;
    look->arg = arg;
    list_push_back(&shelf->looks, &look->link);
    timer_init(&look->timer, shelf->serve->loop, on_timer, look);
    if (ask(look))
        return look;
    metric_add(METRIC_SHARED_ERROR, 1);
    look_free(look);
    return NULL;
}

/* ---- keeping ---- */

static void on_kept(void *arg, const struct redis_reply *reply) {
    (void)arg;
    metric_add(METRIC_SHARED_KEPT, redis_integer(reply));
}

static struct span decimal(int64_t value, char memory[24]) {
    int len = snprintf(memory, 24, "%lld", (long long)value);
    return (struct span){memory, (size_t)len};
}

static void spell_tags(const struct tag_set *tags, struct str *out) {
    for (size_t i = 0; i < tags->count; i++)
        str_addf(out, "%s%d", i > 0 ? "," : "", tags->at[i].slot);
}

/* `life_ms` and `packed` empty: only the fill is ended. */
static void send_keep(struct shelf *shelf, const struct grant_pass *pass,
                      const struct tag_set *tags, int64_t seen, int64_t fetched_ms, int64_t life_ms,
                      struct span packed) {
    enum { TAGS_TEXT = TAGS_PER_ANSWER * 6 };
    struct serve *s = shelf->serve;
    struct shelf_keys keys;
    char seen_text[24], fetched_text[24], life_text[24], memory[TAGS_TEXT];
    struct str tags_text;
    struct span words[11];
    str_init_fixed(&tags_text, memory, sizeof memory);
    spell_tags(tags, &tags_text);
    spell_keys(s->shared, pass, &keys, words);
    words[4] = peers_replica(s->shared);
    words[5] = decimal(seen, seen_text);
    words[6] = (struct span){(const char *)pass->proof, GRANT_PROOF};
    words[7] = str_span(&tags_text);
    words[8] = decimal(fetched_ms, fetched_text);
    words[9] = decimal(life_ms, life_text);
    words[10] = packed;
    (void)redis_run(s->redis, SCRIPT_KEEP, 4, words, 11, on_kept, shelf);
}

static bool is_usable(const struct shelf *shelf) {
    const struct serve *s = shelf->serve;
    return s->redis && !shelf->closed && redis_is_here(s->redis);
}

void shelf_keep(struct shelf *shelf, const struct grant_pass *pass, const struct grant *grant,
                const struct tag_set *tags, int64_t seen) {
    int64_t life_ms = grant->expires_s * 1000 - clock_wall_ms();
    if (!is_usable(shelf))
        return;
    if (life_ms <= 0) {
        shelf_give_up(shelf, pass);
        return;
    }
    size_t len = grant_packed_len(grant);
    uint8_t *packed = must_alloc(len);
    (void)grant_pack(grant, packed);
    send_keep(shelf, pass, tags, seen, grant->fetched_ms, life_ms,
              (struct span){(const char *)packed, len});
    free(packed);
}

void shelf_give_up(struct shelf *shelf, const struct grant_pass *pass) {
    if (is_usable(shelf))
        send_keep(shelf, pass, &(struct tag_set){0}, 0, 0, 0, SPAN(""));
}

/* ---- the shelf ---- */

bool shelf_may_look(const struct shelf *shelf) {
    const struct shared *shared = shelf->serve->shared;
    return shared->config->connect_cache.enabled && is_usable(shelf) &&
           peers_has_told_all(shared) && redis_lag_ms(shelf->serve->redis) < SHELF_LAG_MS &&
           clock_mono_ms() >= shelf->settled_ms;
}

void shelf_note_redis(struct shelf *shelf, bool here) {
    if (!here)
        shelf->was_away = true;
    else if (shelf->was_away)
        shelf->settled_ms = clock_mono_ms() + SHELF_SETTLE_MS;
}

struct shelf *shelf_new(struct serve *s) {
    struct shelf *shelf = must_zalloc(sizeof *shelf);
    shelf->serve = s;
    shelf->answers = 1;
    list_init(&shelf->looks);
    return shelf;
}

void shelf_close(struct shelf *shelf) {
    shelf->closed = true;
    list_each_safe (at, &shelf->looks) {
        struct look *look = container_of(at, struct look, link);
        if (look->done)
            end_with_nothing(look, METRIC_SHARED_ERROR);
    }
}

void shelf_free(struct shelf *shelf) {
    list_each_safe (at, &shelf->looks)
        look_free(container_of(at, struct look, link));
    free(shelf);
}
