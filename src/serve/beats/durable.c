#include "serve/beats/durable.h"

#include "base/clock.h"
#include "base/panic.h"
#include "base/random.h"
#include "base/secret.h"
#include "rules/trust/seal.h"
#include "serve/beats/bulk.h"
#include "serve/redis/keys.h"
#include "serve/redis/scripts.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    LEASE_MS = 30000,   /* longer than a beat lingers, waits for a batch and is sent */
    SET_OUT_MS = 20000, /* its call takes 10 s at most */
    BODY_MAX = 8192,    /* as serve/beats/heartbeat.c holds */
    TEXT_MAX = 2 + TOKEN_MAX + BODY_MAX,
    US_A_DAY = 86400,
};

/* What beat_store returns. */
enum {
    BIT_STORED = 1,
    BIT_REPLACED = 2,
    BIT_CLAIMED = 4,
    BIT_DUE = 8,
    BIT_OLDER = 16,
    BIT_SAME = 32,
    BIT_REFUSED = 64,
    BIT_FIRST = 128,
};

enum key { KEY_DUE, KEY_SENDING, KEY_TURNS, KEY_SETTLE, KEY_SETTLING, KEY_SEEN, KEY_COUNT };

static const char *const key_names[KEY_COUNT] = {"beats:due",    "beats:sending",  "beats:turns",
                                                 "beats:settle", "beats:settling", "beats:seen"};

/* Of one day, under the present key and the one before. */
struct day_key {
    int64_t day; /* since 1970; -1: none */
    uint8_t present[SEAL_KEY], previous[SEAL_KEY];
    bool has_previous;
};

struct durable {
    char memory[KEY_COUNT + 1][KEY_MAX];
    struct span key[KEY_COUNT], record; /* `record`: what records' keys begin with */
    struct day_key today, other_day;
    char sealed[TEXT_MAX + SEAL_EXTRA], text[TEXT_MAX];
};

/* ---- a command under construction ---- */

enum { RECORD_KEY = KEY_MAX + AGENT_ID_HEX };

struct words {
    struct durable *durable;
    struct span word[REDIS_ARGS_MAX];
    size_t count, keys;
    char digits[REDIS_ARGS_MAX][STR_DECIMAL];
    char record[RECORD_KEY];
    char claimant[40];
};

/* The buffers are not cleared: they are large, and filled before they are read. */
static void begin(struct words *w, const struct serve *s, size_t keys) {
    w->durable = s->durable;
    w->keys = keys;
    w->count = 0;
}

static void add(struct words *w, struct span word) {
    w->word[w->count++] = word;
}

static void add_int(struct words *w, int64_t value) {
    add(w, str_decimal(value, w->digits[w->count]));
}

static void add_record(struct words *w, const struct agent_id *id) {
    const struct span begin = w->durable->record;
    memcpy(w->record, begin.ptr, begin.len);
    agent_id_text(id, w->record + begin.len);
    add(w, (struct span){w->record, begin.len + AGENT_ID_HEX});
}

static void add_key(struct words *w, enum key key) {
    add(w, w->durable->key[key]);
}

/* The record's key ends with the id. */
static void add_id(struct words *w) {
    add(w, (struct span){w->record + w->durable->record.len, AGENT_ID_HEX});
}

/* Sixteen hexadecimal digits; 0: none. */
static void add_token(struct words *w, uint64_t token) {
    char *digits = w->digits[w->count];
    for (int i = 0; i < 16; i++)
        digits[i] = "0123456789abcdef"[token >> (60 - 4 * i) & 15];
    add(w, (struct span){digits, token ? 16 : 0});
}

/* No other process and no other lease of ours spells it so. */
static void add_claimant(struct words *w, const struct shared *shared, uint64_t claim) {
    int len = claim ? snprintf(w->claimant, sizeof w->claimant, "%016llx.%llx",
                               (unsigned long long)shared->beats.replica, (unsigned long long)claim)
                    : 0;
    add(w, (struct span){w->claimant, (size_t)len});
}

static const char *const statuses[] = {
    [BEAT_ONLINE] = "online", [BEAT_BUSY] = "busy", [BEAT_IDLE] = "idle"};

static void add_status(struct words *w, bool known, enum beat_status status) {
    add(w, known ? span_of(statuses[status]) : SPAN(""));
}

static bool read_status(struct span text, enum beat_status *out) {
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        if (span_equal(text, span_of(statuses[i]))) {
            *out = (enum beat_status)i;
            return true;
        }
    }
    return false;
}

static void add_policy(struct words *w, struct serve *s, const struct agent_id *id) {
    struct beat_policy policy = beat_policy_of(s->shared->config);
    uint64_t phase = agents_hash(s->shared->agents, id);
    add_int(w, (int64_t)(phase % (uint64_t)policy.interval_ms));
    add_int(w, policy.interval_ms);
    add_int(w, policy.max_hold_ms);
    add_int(w, policy.min_gap_ms);
    add_int(w, policy.expiry_ms);
}

/* Redis' clock; without Redis the wall clock. */
static int64_t now_us(const struct serve *s) {
    return s->redis ? redis_now_us(s->redis) : clock_wall_ms() * 1000;
}

static int64_t now_ms(const struct serve *s) {
    return now_us(s) / 1000;
}

static void add_verdict(struct words *w, const struct serve *s, const struct durable_verdict *v) {
    bool any = v && v->status != 0;
    add_int(w, any ? v->status : 0);
    add_token(w, any && v->status == 401 ? v->token : 0);
    add_int(w, any ? now_ms(s) + v->left_ms : 0);
    add(w, any ? span_of(v->message) : SPAN(""));
}

static bool run(struct serve *s, enum script script, const struct words *w, redis_done *done,
                void *arg) {
    return redis_run(s->redis, script, w->keys, w->word, w->count, done, arg);
}

/* ---- sealing ---- */

static void derive(const struct grant_key *key, int64_t day, uint8_t out[SEAL_KEY]) {
    char text[STR_DECIMAL];
    struct span parts[] = {SPAN("aiwm-gateway heartbeats of day 1:"), str_decimal(day, text)};
    seal_hmac((struct span){(const char *)key->bytes, sizeof key->bytes}, parts, 2, out);
}

static const struct day_key *key_of(struct serve *s, uint64_t stamp) {
    struct durable *d = s->durable;
    int64_t day = (int64_t)(stamp / 1000000 / US_A_DAY);
    int64_t today = now_us(s) / 1000000 / US_A_DAY;
    struct day_key *k = day == today ? &d->today : &d->other_day;
    if (k->day == day)
        return k;
    k->day = day;
    const struct grant_keys *keys = atomic_load(&s->shared->grant_keys);
    derive(&keys->current, day, k->present);
    k->has_previous = keys->has_previous;
    if (k->has_previous)
        derive(&keys->previous, day, k->previous);
    return k;
}

struct vouched {
    char stamp[STR_DECIMAL];
    struct span parts[2];
};

static void vouch(const struct delivery *d, struct vouched *v) {
    v->parts[0] = (struct span){(const char *)d->id.bytes, sizeof d->id.bytes};
    v->parts[1] = str_decimal((int64_t)d->sequence, v->stamp);
}

/* The token's length, the token, the body. */
static struct span seal(struct serve *s, const struct durable_beat *b) {
    struct durable *d = s->durable;
    struct vouched v;
    d->text[0] = (char)(b->token.len >> 8);
    d->text[1] = (char)(b->token.len & 0xff);
    memcpy(d->text + 2, b->token.ptr, b->token.len);
    memcpy(d->text + 2 + b->token.len, b->body.ptr, b->body.len);
    size_t len = 2 + b->token.len + b->body.len;
    vouch(b->delivery, &v);
    seal_close_again(key_of(s, b->delivery->sequence)->present, v.parts, 2,
                     (struct span){d->text, len}, (uint8_t *)d->sealed);
    return (struct span){d->sealed, len + SEAL_EXTRA};
}

static bool unseal(struct serve *s, struct span sealed, struct parcel *p) {
    struct durable *d = s->durable;
    struct vouched v;
    if (sealed.len < SEAL_EXTRA + 2 || sealed.len > sizeof d->sealed)
        return false;
    size_t len = sealed.len - SEAL_EXTRA;
    const struct day_key *k = key_of(s, p->delivery.sequence);
    vouch(&p->delivery, &v);
    bool opened = seal_open(k->present, v.parts, 2, sealed, d->text) ||
                  (k->has_previous && seal_open(k->previous, v.parts, 2, sealed, d->text));
    if (!opened)
        return false;
    size_t token_len = (size_t)(uint8_t)d->text[0] << 8 | (uint8_t)d->text[1];
    if (token_len > len - 2)
        return false;
    p->token = (struct span){d->text + 2, token_len};
    p->body = (struct span){d->text + 2 + token_len, len - 2 - token_len};
    return true;
}

/* ---- storing ---- */

bool durable_store(struct serve *s, const struct durable_beat *beat, redis_done *done, void *arg) {
    const struct delivery *d = beat->delivery;
    if (beat->token.len > TOKEN_MAX || beat->body.len > BODY_MAX)
        return false;
    struct words w;
    begin(&w, s, 4);
    add_record(&w, &d->id);
    add_key(&w, KEY_DUE);
    add_key(&w, KEY_SENDING);
    add_key(&w, KEY_SETTLE);
    add_id(&w);
    add_int(&w, (int64_t)d->sequence);
    add_int(&w, now_ms(s));
    add_status(&w, true, d->status);
    add(&w, seal(s, beat));
    add_token(&w, d->token);
    add_int(&w, beat->heed);
    add_int(&w, beat->may_claim);
    add_claimant(&w, s->shared, d->claim);
    add_int(&w, now_ms(s) + LEASE_MS);
    add_int(&w, (int64_t)beat->known);
    add_policy(&w, s, &d->id);
    return run(s, SCRIPT_BEAT_STORE, &w, done, arg);
}

static void copy_message(char out[256], struct span text) {
    size_t len = text.len < 255 ? text.len : 255;
    if (len > 0)
        memcpy(out, text.ptr, len);
    out[len] = '\0';
}

static void read_news(struct serve *s, const struct redis_reply *reply,
                      struct durable_stored *out) {
    int64_t sent_ms = redis_integer(redis_at(reply, 3));
    out->news = true;
    out->settled = (uint64_t)redis_integer(redis_at(reply, 1));
    out->status_known = read_status(redis_text(redis_at(reply, 2)), &out->status);
    out->sent_ms = sent_ms < 0 ? -1 : clock_mono_ms() - (now_ms(s) - sent_ms);
}

void durable_read_stored(struct serve *s, const struct redis_reply *reply,
                         struct durable_stored *out) {
    bool is_array = redis_count(reply) > 0;
    int64_t bits = redis_integer(is_array ? redis_at(reply, 0) : reply);
    *out = (struct durable_stored){.stored = bits & BIT_STORED,
                                   .replaced = bits & BIT_REPLACED,
                                   .older = bits & (BIT_OLDER | BIT_SAME),
                                   .same = bits & BIT_SAME,
                                   .first = bits & BIT_FIRST,
                                   .claimed = bits & BIT_CLAIMED,
                                   .due = bits & BIT_DUE};
    if (bits & BIT_REFUSED) {
        out->verdict_status = (int)redis_integer(redis_at(reply, 1));
        copy_message(out->message, redis_text(redis_at(reply, 2)));
    } else if (is_array) {
        read_news(s, reply, out);
    }
}

/* ---- claiming ---- */

bool durable_claim(struct serve *s, size_t limit, uint64_t claim, redis_done *done, void *arg) {
    struct words w;
    begin(&w, s, 5);
    bool expires = atomic_load(&s->shared->bulk_state) != BULK_ON;
    for (enum key k = KEY_DUE; k <= KEY_SETTLE; k++)
        add_key(&w, k);
    add_key(&w, KEY_SEEN);
    add(&w, s->durable->record);
    add_int(&w, now_ms(s));
    add_int(&w, (int64_t)limit);
    add_claimant(&w, s->shared, claim);
    add_int(&w, now_ms(s) + LEASE_MS);
    add_int(&w, expires ? s->shared->config->heartbeat.expiry_ms : 0);
    return run(s, SCRIPT_BEAT_CLAIM, &w, done, arg);
}

enum { CLAIMS_HEAD = 4, CLAIM_WORDS = 3 };

void durable_read_claims(struct serve *s, const struct redis_reply *reply,
                         struct durable_claims *out) {
    int64_t next_ms = redis_integer(redis_at(reply, 0));
    size_t words = redis_count(reply);
    *out = (struct durable_claims){
        .any_next = next_ms >= 0,
        .next_ms = next_ms >= 0 ? next_ms - now_ms(s) : -1,
        .expired = redis_integer(redis_at(reply, 1)),
        .superseded = redis_integer(redis_at(reply, 2)),
        .held = redis_integer(redis_at(reply, 3)),
        .count = words > CLAIMS_HEAD ? (words - CLAIMS_HEAD) / CLAIM_WORDS : 0};
}

/* A body was stored because payload_read_beat took it, as plain JSON. */
static bool read_sealed_status(struct span body, enum beat_status *out) {
    struct payload_verdict verdict;
    payload_read_beat(SPAN("application/json"), SPAN_NONE, body, &verdict, out);
    return verdict.kind == PAYLOAD_FINE;
}

bool durable_read_claimed(struct serve *s, const struct redis_reply *reply, size_t i,
                          uint64_t claim, struct parcel *out) {
    size_t at = CLAIMS_HEAD + i * CLAIM_WORDS;
    *out = (struct parcel){.delivery.claim = claim};
    if (!agent_id_parse(redis_text(redis_at(reply, at)), &out->delivery.id))
        return false;
    out->delivery.sequence = (uint64_t)redis_integer(redis_at(reply, at + 1));
    bool opened = unseal(s, redis_text(redis_at(reply, at + 2)), out) &&
                  read_sealed_status(out->body, &out->delivery.status);
    int64_t age_ms = (now_us(s) - (int64_t)out->delivery.sequence) / 1000;
    out->delivery.received_ms = clock_mono_ms() - age_ms;
    out->delivery.token = opened ? agents_token_hash(s->shared->agents, out->token) : 0;
    return opened;
}

/* ---- settling ---- */

bool durable_done(struct serve *s, const struct delivery *d, enum beat_answer answer,
                  const struct durable_verdict *verdict, redis_done *done, void *arg) {
    static const char *const outcomes[] = {
        [BEAT_TAKEN] = "taken", [BEAT_REFUSED] = "refused", [BEAT_FAILED] = "failed"};
    struct words w;
    begin(&w, s, 3);
    add_record(&w, &d->id);
    add_key(&w, KEY_DUE);
    add_key(&w, KEY_SENDING);
    add_id(&w);
    add_int(&w, (int64_t)d->sequence);
    add_claimant(&w, s->shared, d->claim);
    add(&w, span_of(outcomes[answer]));
    add_int(&w, now_ms(s));
    add_int(&w, (int64_t)(random_u64() % 1001));
    add_verdict(&w, s, verdict);
    add_status(&w, true, d->status);
    add_policy(&w, s, &d->id);
    return run(s, SCRIPT_BEAT_DONE, &w, done, arg);
}

bool durable_tell(struct serve *s, const struct durable_heard *heard,
                  const struct durable_verdict *verdict, redis_done *done, void *arg) {
    const struct delivery *delivery = heard->delivery;
    struct words w;
    begin(&w, s, 4);
    add_record(&w, &delivery->id);
    add_key(&w, KEY_DUE);
    add_key(&w, KEY_TURNS);
    add_key(&w, KEY_SENDING);
    add_id(&w);
    add_claimant(&w, s->shared, delivery->claim);
    add(&w, heard->sent_ms >= 0 ? SPAN("sent") : SPAN("disconnected"));
    add_int(&w, (int64_t)delivery->sequence);
    add_status(&w, heard->status_known, delivery->status);
    add_int(&w, now_ms(s) - (clock_mono_ms() - heard->sent_ms));
    add_verdict(&w, s, verdict);
    add_policy(&w, s, &delivery->id);
    add_int(&w, heard->claim_open);
    return run(s, SCRIPT_BEAT_TELL, &w, done, arg);
}

bool durable_take(struct serve *s, const struct agent_id *id, uint64_t claim, bool has_begun,
                  redis_done *done, void *arg) {
    struct words w;
    begin(&w, s, 4);
    add_record(&w, id);
    add_key(&w, KEY_DUE);
    add_key(&w, KEY_TURNS);
    add_key(&w, KEY_SENDING);
    add_id(&w);
    add_claimant(&w, s->shared, claim);
    add_int(&w, now_ms(s) + LEASE_MS);
    add_int(&w, has_begun ? -1 : now_ms(s));
    add_policy(&w, s, id);
    return run(s, SCRIPT_BEAT_TAKE, &w, done, arg);
}

bool durable_hello(struct serve *s, bool was_away, redis_done *done, void *arg) {
    struct words w;
    begin(&w, s, 3);
    add_key(&w, KEY_SETTLE);
    add_key(&w, KEY_SETTLING);
    add_key(&w, KEY_SEEN);
    add_int(&w, was_away);
    add_int(&w, now_ms(s));
    return run(s, SCRIPT_BEAT_HELLO, &w, done, arg);
}

bool durable_lift(struct serve *s, const struct agent_id *id, redis_done *done, void *arg) {
    struct words w;
    begin(&w, s, 1);
    add_record(&w, id);
    return run(s, SCRIPT_BEAT_LIFT, &w, done, arg);
}

/* ---- the whole ---- */

bool durable_is_here(const struct serve *s) {
    return s->redis && redis_is_here(s->redis) &&
           (size_t)atomic_load(&s->shared->beats.here) == s->shared->worker_count &&
           !atomic_load(&s->shared->beats.refused);
}

void durable_note_no_reply(struct serve *s) {
    struct beats_shared *beats = &s->shared->beats;
    enum redis_trouble t = redis_refusal(s->redis);
    if (t == REDIS_NONE || t == REDIS_FULL)
        return;
    atomic_store(&beats->refused_ms, clock_mono_ms());
    atomic_store(&beats->spoke, true);
    atomic_store(&beats->refused, true);
}

bool durable_is_prompt(const struct serve *s) {
    return durable_is_here(s) &&
           redis_lag_ms(s->redis) <= s->shared->config->heartbeat.ack_budget_ms;
}

void durable_stamp(const struct serve *s, struct agent *agent) {
    if (s->redis)
        beat_stamp(&agent->beat, redis_now_us(s->redis));
}

void durable_adopt(struct durable *d) {
    if (d)
        d->today.day = d->other_day.day = -1;
}

int64_t durable_go_by_ms(void) {
    return clock_mono_ms() + SET_OUT_MS;
}

uint64_t durable_new_claim(struct serve *s) {
    return atomic_fetch_add(&s->shared->beats.claims, 1) + 1;
}

struct durable *durable_new(struct serve *s) {
    if (!s->redis)
        return NULL;
    struct durable *d = must_zalloc(sizeof *d);
    for (enum key k = 0; k < KEY_COUNT; k++)
        d->key[k] = key_spell(s->shared, key_names[k], NULL, d->memory[k]);
    d->record = key_spell(s->shared, "beat:", NULL, d->memory[KEY_COUNT]);
    d->today.day = d->other_day.day = -1;
    return d;
}

void durable_free(struct durable *d) {
    if (!d)
        return;
    secret_cleanse(d, sizeof *d);
    free(d);
}
