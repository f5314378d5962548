#include "serve/limits/limiting.h"

#include "base/clock.h"
#include "base/metric.h"
#include "base/panic.h"
#include "rules/gate/known_agents.h"
#include "rules/gate/lockout.h"

#include <stdatomic.h>
#include <stdlib.h>

enum {
    CONNECTS = 65536,    /* (agent, secret) pairs that were asked for within a minute */
    SITES = 65536,       /* addresses with failures */
    CALLERS = 65536,     /* agents that call */
    CONTROLLERS = 16384, /* identities with disconnects or forwarded heartbeats */
    TRIES = 65536,       /* agents of whom unknown secrets were tried */
    LOCKED = 4096,       /* agents locked */
    KNOWN = 262144,      /* agents known at an address */
    HOMES = 65536,       /* addresses where agents are known */
    /* More failures a minute for each agent known at an address: a refused secret is asked for
     * again after half a minute, when the gateway has forgotten the refusal
     * (rules/agents/refusals). */
    FAILURES_PER_AGENT = 2,
    FAILURES_MAX = 60 * LIMIT_PER_SECOND_MAX, /* a minute */
};

/* What a key is about. */
enum { KEY_USER = 'U', KEY_AGENT = 'a', KEY_PAIR = 'p', KEY_UNREAD = 'u', KEY_SITE = 's' };

struct limiting {
    struct limits *connects, *failures, *calls, *control;
    struct lockout *lockout;
    struct known_agents *known;
};

struct limiting *limiting_new(const uint8_t hash_key[16]) {
    struct limiting *l = must_zalloc(sizeof *l);
    l->connects = limits_new(CONNECTS, hash_key);
    l->failures = limits_new(SITES, hash_key);
    l->calls = limits_new(CALLERS, hash_key);
    l->control = limits_new(CONTROLLERS, hash_key);
    l->lockout = lockout_new(LOCKED, TRIES, hash_key);
    l->known = known_agents_new(KNOWN, HOMES);
    return l;
}

void limiting_free(struct limiting *l) {
    if (!l)
        return;
    limits_free(l->connects);
    limits_free(l->failures);
    limits_free(l->calls);
    limits_free(l->control);
    lockout_free(l->lockout);
    known_agents_free(l->known);
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

const char *const limiting_count_names[LIMITING_COUNTS] = {[LIMITING_CONNECTS] = "connects",
                                                           [LIMITING_FAILURES] = "failures",
                                                           [LIMITING_TRIES] = "tries",
                                                           [LIMITING_CALLS] = "calls",
                                                           [LIMITING_CONTROL] = "control"};

struct limits *limiting_table(struct limiting *l, enum limiting_count which) {
    struct limits *const table[LIMITING_COUNTS] = {[LIMITING_CONNECTS] = l->connects,
                                                   [LIMITING_FAILURES] = l->failures,
                                                   [LIMITING_TRIES] = lockout_tries(l->lockout),
                                                   [LIMITING_CALLS] = l->calls,
                                                   [LIMITING_CONTROL] = l->control};
    return table[which];
}

bool limiting_limit(const struct config *config, enum limiting_count which, struct limit *limit) {
    const int64_t most[LIMITING_COUNTS] = {
        [LIMITING_CONNECTS] = config->limits.connects_per_agent,
        [LIMITING_FAILURES] = config->limits.connect_failures_per_ip,
        [LIMITING_TRIES] = config->limits.connect_failures_per_agent,
        [LIMITING_CALLS] = config->limits.api_rate,
        [LIMITING_CONTROL] = config->limits.control_rate};
    if (most[which] == 0)
        return false;
    if (which == LIMITING_CALLS)
        *limit = limit_per_second(most[which], config->limits.api_burst);
    else if (which == LIMITING_CONTROL)
        *limit = limit_per_second(most[which], config->limits.control_burst);
    else
        *limit = a_minute(most[which]);
    return true;
}

static void take_our_part(const struct serve *s, struct limit *limit) {
    int64_t share = atomic_load_explicit(&s->shared->limits_share, memory_order_relaxed);
    limit->gap_us *= share;
    limit->burst = limit->burst > share ? limit->burst / share : 1;
}

/* Ours of it. False: there is none. */
static bool find_limit(const struct serve *s, enum limiting_count which, struct limit *limit) {
    if (!limiting_limit(s->shared->config, which, limit))
        return false;
    take_our_part(s, limit);
    return true;
}

/* Replicas that count together see an address' agents each for itself, and its failures all
 * together: then each takes its own agents for a part of them. */
static int64_t known_at(const struct serve *s, uint64_t site, int64_t now_us) {
    int64_t replicas = s->shared->config->limits.shared ? atomic_load(&s->shared->replicas) : 1;
    return known_agents_count(s->shared->limiting->known, site, now_us) *
           (replicas > 1 ? replicas : 1);
}

/* The failures of this address: more where agents are known. */
static bool find_site_limit(const struct serve *s, uint64_t site, int64_t now_us,
                            struct limit *limit) {
    int64_t a_minute_here = s->shared->config->limits.connect_failures_per_ip;
    if (a_minute_here == 0)
        return false;
    a_minute_here += FAILURES_PER_AGENT * known_at(s, site, now_us);
    *limit = a_minute(a_minute_here < FAILURES_MAX ? a_minute_here : FAILURES_MAX);
    take_our_part(s, limit);
    return true;
}

/* Places are each replica's own: where there are more of them, they are dealt more slowly. */
static bool find_lockout_policy(const struct serve *s, struct lockout_policy *policy) {
    const struct config *config = s->shared->config;
    int64_t replicas = config->limits.shared ? atomic_load(&s->shared->replicas) : 1;
    policy->place_gap_us = config->limits.lockout_gap_ms * 1000 * (replicas > 1 ? replicas : 1);
    return find_limit(s, LIMITING_TRIES, &policy->limit);
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
static enum err judge_site(struct serve *s, uint64_t site, int *after_s) {
    struct limit limit;
    int64_t now_us = clock_mono_us();
    if (!find_site_limit(s, site, now_us, &limit))
        return ERR_OK;
    int64_t wait_us = limits_wait_us(s->shared->limiting->failures, site, &limit, now_us);
    return wait_us == 0 ? ERR_OK
                        : refuse(ERR_TOO_MANY_FAILURES, METRIC_LIMITED_ADDRESS, wait_us, after_s);
}

/* Is its agent locked, for all or for its address? */
static enum err judge_agent(struct serve *s, struct attempt *a, int *after_s) {
    struct lockout *lockout = s->shared->limiting->lockout;
    struct lockout_policy policy;
    int64_t wait_us = 0, now_us = clock_mono_us();
    if (!find_lockout_policy(s, &policy))
        return ERR_OK;
    if (a->hold == LOCKOUT_NOTHING)
        wait_us = lockout_try(lockout, &policy, a->agent, a->site, now_us, &a->hold);
    else if (a->hold == LOCKOUT_SHARE)
        wait_us = lockout_try_again(lockout, &policy, a->agent, a->site, now_us);
    return wait_us == 0 ? ERR_OK
                        : refuse(ERR_AGENT_LOCKED, METRIC_LIMITED_LOCKOUT, wait_us, after_s);
}

static enum err try_unknown(struct serve *s, struct attempt *a, int *after_s) {
    enum err error = judge_site(s, a->site, after_s);
    return error == ERR_OK ? judge_agent(s, a, after_s) : error;
}

static enum err take_connect(struct serve *s, struct request *r, struct attempt *a, int *after_s) {
    int64_t wait_us = 0;
    struct limit limit;
    if (!find_limit(s, LIMITING_CONNECTS, &limit))
        return ERR_OK;
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

void limiting_exempt(struct serve *s, struct request *r) {
    r->attempt = (struct attempt){.agent = agent_key(s->shared->limiting, &r->agent),
                                  .site = site_key(s->shared->limiting, r)};
}

enum err limiting_ask_again(struct serve *s, struct attempt *a, int *after_s) {
    return a->unknown ? try_unknown(s, a, after_s) : ERR_OK;
}

static void count_failure(struct serve *s, uint64_t site) {
    struct limit limit;
    int64_t now_us = clock_mono_us();
    if (find_site_limit(s, site, now_us, &limit))
        limits_charge(s->shared->limiting->failures, site, &limit, now_us);
}

enum err limiting_malformed(struct serve *s, const struct request *r, int *after_s) {
    uint64_t site = site_key(s->shared->limiting, r);
    enum err error = judge_site(s, site, after_s);
    if (error == ERR_OK)
        count_failure(s, site);
    return error;
}

enum attempt_end limiting_end_of(int status) {
    if (status / 100 == 2)
        return ATTEMPT_LET_IN;
    if (status == 401 || status == 403 || status == 404)
        return ATTEMPT_WRONG;
    return status / 100 == 4 && status != 429 ? ATTEMPT_REFUSED : ATTEMPT_UNDONE;
}

static void end_try(struct serve *s, const struct attempt *a, enum attempt_end end) {
    struct lockout *lockout = s->shared->limiting->lockout;
    struct lockout_policy policy;
    if (!find_lockout_policy(s, &policy))
        return;
    if (end == ATTEMPT_WRONG)
        lockout_failed(lockout, &policy, a->agent, clock_mono_us());
    else if (end != ATTEMPT_REFUSED && a->hold == LOCKOUT_SHARE)
        lockout_return(lockout, &policy, a->agent, a->site);
}

void limiting_ended(struct serve *s, struct attempt *a, enum attempt_end end) {
    struct limiting *l = s->shared->limiting;
    struct limit limit;
    bool is_let_in = end == ATTEMPT_LET_IN || end == ATTEMPT_CACHED;
    bool not_asked = end == ATTEMPT_UNDONE || end == ATTEMPT_CACHED;
    if (a->taken && not_asked && find_limit(s, LIMITING_CONNECTS, &limit))
        limits_refund(l->connects, a->pair, &limit);
    if (a->unknown)
        end_try(s, a, end);
    if (a->site && (end == ATTEMPT_REFUSED || end == ATTEMPT_WRONG))
        count_failure(s, a->site);
    if (a->site && is_let_in)
        known_agents_add(l->known, a->site, a->agent, clock_mono_us());
    *a = (struct attempt){0};
}

/* ---- which agents are where ---- */

/* Of an address and a period. Two that are alike cost their agent a place among the known, nobody
 * else anything: so it need not be a keyed hash. */
static uint64_t mark_of(const struct address *client, int64_t now_us) {
    uint64_t half[2];
    _Static_assert(sizeof half == sizeof client->bytes, "an address is two halves");
    memcpy(half, client->bytes, sizeof half);
    uint64_t mark = half[0] * UINT64_C(0x9e3779b97f4a7c15) ^ half[1] * UINT64_C(0xc2b2ae3d27d4eb4f);
    return (mark + known_agents_period(now_us) * UINT64_C(0x165667b19e3779f9)) | 1;
}

void limiting_known(struct serve *s, const struct request *r, struct agent *agent) {
    struct limiting *l = s->shared->limiting;
    int64_t now_us = clock_mono_us();
    uint64_t mark = mark_of(&r->client, now_us);
    if (agent->counted == mark)
        return;
    agent->counted = mark;
    known_agents_add(l->known, site_key(l, r), agent_key(l, &agent->id), now_us);
}

/* ---- calls ---- */

enum err limiting_call(struct serve *s, struct request *r, int *after_s) {
    struct limiting *l = s->shared->limiting;
    struct limit limit;
    int64_t wait_us = 0;
    if (!find_limit(s, LIMITING_CALLS, &limit))
        return ERR_OK;
    request_authenticate(s, r);
    if (!r->verified || !r->claims.is_agent)
        return ERR_OK;
    uint64_t key = agent_key(l, &r->claims.agent);
    bool taken = limits_take(l->calls, key, &limit, clock_mono_us(), &wait_us);
    announce(s, r, "calls", l->calls, key, &limit);
    return taken ? ERR_OK : refuse(ERR_RATE_LIMITED, METRIC_LIMITED_CALL, wait_us, after_s);
}

enum err limiting_control(struct serve *s, const struct request *r, int *after_s) {
    struct limits *control = s->shared->limiting->control;
    struct limit limit;
    int64_t wait_us = 0;
    if (!r->verified || !find_limit(s, LIMITING_CONTROL, &limit))
        return ERR_OK;
    struct span user = {(const char *)&r->claims.subject, sizeof r->claims.subject};
    uint64_t key = r->claims.is_agent ? agent_key(s->shared->limiting, &r->claims.agent)
                                      : limits_key(control, KEY_USER, user);
    return limits_take(control, key, &limit, clock_mono_us(), &wait_us)
               ? ERR_OK
               : refuse(ERR_RATE_LIMITED, METRIC_LIMITED_CONTROL, wait_us, after_s);
}
