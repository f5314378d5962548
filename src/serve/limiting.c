#include "serve/limiting.h"

#include "base/clock.h"
#include "base/metric.h"
#include "base/panic.h"
#include "rules/lockout.h"

#include <stdlib.h>

enum {
    CONNECTS = 65536, /* (agent, secret) pairs that were asked for within a minute */
    SITES = 65536,    /* addresses with failures */
    CALLERS = 65536,  /* agents that call */
    TRIES = 65536,    /* agents of whom unknown secrets were tried */
    LOCKED = 4096,    /* agents locked */
};

/* What a key is about. */
enum { KEY_AGENT = 'a', KEY_PAIR = 'p', KEY_UNREAD = 'u', KEY_SITE = 's' };

struct limiting {
    struct limits *connects, *failures, *calls;
    struct lockout *lockout;
};

struct limiting *limiting_new(const uint8_t hash_key[16]) {
    struct limiting *l = must_zalloc(sizeof *l);
    l->connects = limits_new(CONNECTS, hash_key);
    l->failures = limits_new(SITES, hash_key);
    l->calls = limits_new(CALLERS, hash_key);
    l->lockout = lockout_new(LOCKED, TRIES, hash_key);
    return l;
}

void limiting_free(struct limiting *l) {
    if (!l)
        return;
    limits_free(l->connects);
    limits_free(l->failures);
    limits_free(l->calls);
    lockout_free(l->lockout);
    free(l);
}

/* ---- keys and rates ---- */

static uint64_t agent_key(const struct limiting *l, const struct agent_id *id) {
    return limits_key(l->calls, KEY_AGENT,
                      (struct span){(const char *)id->bytes, sizeof id->bytes});
}

static uint64_t site_key(const struct limiting *l, const struct request *r) {
    return limits_key(l->failures, KEY_SITE, address_site(&r->client));
}

/* A secret's proof is of its agent. Where the body is not read, its sender stands in. */
static uint64_t pair_key(const struct limiting *l, const struct request *r, const uint8_t *proof) {
    if (proof)
        return limits_key(l->connects, KEY_PAIR, (struct span){(const char *)proof, GRANT_PROOF});
    char both[sizeof r->agent.bytes + ADDRESS_BYTES];
    struct span site = address_site(&r->client);
    memcpy(both, r->agent.bytes, sizeof r->agent.bytes);
    memcpy(both + sizeof r->agent.bytes, site.ptr, site.len);
    return limits_key(l->connects, KEY_UNREAD,
                      (struct span){both, sizeof r->agent.bytes + site.len});
}

/* `count` a minute, all of them at once if need be. */
static struct limit a_minute(int64_t count) {
    return limit_per_minute(count, count);
}

static struct lockout_policy lockout_policy(const struct config *config) {
    return (struct lockout_policy){a_minute(config->limits.connect_failures_per_agent),
                                   config->limits.lockout_gap_ms * 1000};
}

static int retry_after_s(int64_t wait_us) {
    return (int)limit_retry_after_s(wait_us);
}

/* ---- what the client is told of it ---- */

/* draft-ietf-httpapi-ratelimit-headers-10: q of them in w seconds; r are left, all again in t. */
static void announce(struct serve *s, struct request *r, const char *name, struct limits *table,
                     uint64_t key, const struct limit *limit) {
    if (!s->shared->config->limits.rate_limit_fields)
        return;
    int64_t now_us = clock_mono_us(), arrival_us = limits_arrival_us(table, key);
    int64_t used_us = arrival_us > now_us ? arrival_us - now_us : 0;
    struct str out;
    str_init_fixed(&out, r->allowance, sizeof r->allowance);
    str_addf(&out, "RateLimit-Policy: \"%s\";q=%lld;w=%lld\r\n", name, (long long)limit->burst,
             (long long)limit_retry_after_s(limit->burst * limit->gap_us));
    str_addf(&out, "RateLimit: \"%s\";r=%lld;t=%lld\r\n", name,
             (long long)limit_left(arrival_us, limit, now_us),
             (long long)(used_us > 0 ? limit_retry_after_s(used_us) : 0));
    r->allowance_len = out.overflow ? 0 : out.len;
}

/* ---- connects ---- */

static enum err refuse(enum err error, enum metric counted, int64_t wait_us, int *after_s) {
    metric_add(counted, 1);
    *after_s = retry_after_s(wait_us);
    return error;
}

/* Has its address failed too often? */
static enum err judge_site(struct serve *s, const struct attempt *a, int *after_s) {
    int64_t most = s->shared->config->limits.connect_failures_per_ip;
    if (most == 0)
        return ERR_OK;
    struct limit limit = a_minute(most);
    int64_t wait_us =
        limits_wait_us(s->shared->limiting->failures, a->site, &limit, clock_mono_us());
    return wait_us == 0 ? ERR_OK
                        : refuse(ERR_TOO_MANY_FAILURES, METRIC_LIMITED_ADDRESS, wait_us, after_s);
}

/* Is its agent locked? */
static enum err judge_agent(struct serve *s, struct attempt *a, int *after_s) {
    const struct config *config = s->shared->config;
    if (config->limits.connect_failures_per_agent == 0)
        return ERR_OK;
    struct lockout_policy policy = lockout_policy(config);
    int64_t wait_us =
        lockout_try(s->shared->limiting->lockout, &policy, a->agent, a->site, clock_mono_us());
    if (wait_us > 0)
        return refuse(ERR_AGENT_LOCKED, METRIC_LIMITED_LOCKOUT, wait_us, after_s);
    a->tried = true;
    return ERR_OK;
}

static enum err try_unknown(struct serve *s, struct attempt *a, int *after_s) {
    enum err error = judge_site(s, a, after_s);
    return error == ERR_OK ? judge_agent(s, a, after_s) : error;
}

static enum err take_connect(struct serve *s, struct request *r, struct attempt *a, int *after_s) {
    int64_t wait_us = 0, most = s->shared->config->limits.connects_per_agent;
    if (most == 0)
        return ERR_OK;
    struct limit limit = a_minute(most);
    struct limits *connects = s->shared->limiting->connects;
    bool taken = limits_take(connects, a->pair, &limit, clock_mono_us(), &wait_us);
    announce(s, r, "connects", connects, a->pair, &limit);
    if (!taken)
        return refuse(ERR_RATE_LIMITED, METRIC_LIMITED_CONNECT, wait_us, after_s);
    a->taken = true;
    return ERR_OK;
}

enum err limiting_ask(struct serve *s, struct request *r, const uint8_t *proof, bool known,
                      int *after_s) {
    struct limiting *l = s->shared->limiting;
    struct attempt a = {.agent = agent_key(l, &r->agent),
                        .site = site_key(l, r),
                        .pair = pair_key(l, r, proof),
                        .unknown = !known};
    enum err error = take_connect(s, r, &a, after_s);
    if (error == ERR_OK && !known)
        error = try_unknown(s, &a, after_s);
    r->attempt = a;
    if (error != ERR_OK)
        limiting_ended(s, &r->attempt, ATTEMPT_UNDONE);
    return error;
}

enum err limiting_ask_again(struct serve *s, const struct attempt *a, int *after_s) {
    return a->unknown ? judge_site(s, a, after_s) : ERR_OK;
}

static void note_failure(struct serve *s, const struct attempt *a) {
    struct limiting *l = s->shared->limiting;
    int64_t now_us = clock_mono_us(), most = s->shared->config->limits.connect_failures_per_ip;
    lockout_failed(l->lockout, a->agent, now_us);
    if (most == 0)
        return;
    struct limit limit = a_minute(most);
    limits_charge(l->failures, a->site, &limit, now_us);
}

void limiting_ended(struct serve *s, struct attempt *a, enum attempt_end end) {
    const struct config *config = s->shared->config;
    struct limiting *l = s->shared->limiting;
    if (a->taken && end == ATTEMPT_UNDONE && config->limits.connects_per_agent > 0) {
        struct limit limit = a_minute(config->limits.connects_per_agent);
        limits_refund(l->connects, a->pair, &limit);
    }
    if (a->unknown && end == ATTEMPT_REFUSED) {
        note_failure(s, a);
    } else if (a->tried && config->limits.connect_failures_per_agent > 0) {
        struct lockout_policy policy = lockout_policy(config);
        lockout_forgive(l->lockout, &policy, a->agent);
    }
    *a = (struct attempt){0};
}

/* ---- calls ---- */

enum err limiting_call(struct serve *s, struct request *r, int *after_s) {
    const struct config *config = s->shared->config;
    struct limiting *l = s->shared->limiting;
    int64_t wait_us = 0;
    if (config->limits.api_rate == 0)
        return ERR_OK;
    request_authenticate(s, r);
    if (!r->verified || !r->claims.is_agent)
        return ERR_OK;
    struct limit limit = limit_per_second(config->limits.api_rate, config->limits.api_burst);
    uint64_t key = agent_key(l, &r->claims.agent);
    bool taken = limits_take(l->calls, key, &limit, clock_mono_us(), &wait_us);
    announce(s, r, "calls", l->calls, key, &limit);
    return taken ? ERR_OK : refuse(ERR_RATE_LIMITED, METRIC_LIMITED_CALL, wait_us, after_s);
}
