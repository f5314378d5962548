#include "io/redis_health.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/str.h"

enum { CALM_MS = 10000 }; /* no more of a command's trouble for so long: it is over */

static void log_change(const struct redis_options *o, const char *message, enum redis_trouble t) {
    log_warn(message, F_TEXT("name", o->name), F_TEXT("reason", redis_trouble_row(t)->name),
             F_TEXT("detail", redis_trouble_row(t)->text));
}

_Static_assert((int)METRIC_REDIS_ERROR_OTHER - (int)METRIC_REDIS_ERROR_UNREACHABLE ==
                   (int)REDIS_OTHER - (int)REDIS_UNREACHABLE,
               "each trouble has its row of redis_errors_total, in the same order");

/* Of those who only wait for news one trouble is logged, once a process: nobody else meets it, and
 * it is no outage that ends by itself. */
static void note_aside(const struct redis_options *o, enum redis_trouble t) {
    if (t == REDIS_OVERSIZED && !atomic_exchange(&o->health->oversized_told, true))
        log_change(o, "redis answered a stream read with too large a reply: connection closed", t);
}

void redis_note_trouble(const struct redis_options *o, enum redis_trouble t) {
    struct redis_health *health = o->health;
    int none = REDIS_NONE;
    metric_add((enum metric)(METRIC_REDIS_ERROR_UNREACHABLE + (int)t - REDIS_UNREACHABLE), 1);
    if (o->aside) {
        note_aside(o, t);
        return;
    }
    atomic_store(&health->trouble_ms, clock_mono_ms());
    if (atomic_compare_exchange_strong(&health->trouble, &none, (int)t))
        log_change(o, "redis is in trouble", t);
}

/* Which of 64 drawers a text belongs to. */
static uint64_t drawer(struct span text) {
    uint64_t hash = 0;
    for (size_t i = 0; text.ptr && i < text.len; i++)
        hash = hash * 31 + (uint8_t)text.ptr[i];
    return UINT64_C(1) << hash % 64;
}

void redis_note_missing_right(const struct redis_options *o, struct span error,
                              const struct redis_script *script) {
    char memory[256];
    struct str rights;
    struct span right = redis_missing_right(error);
    str_init_fixed(&rights, memory, sizeof memory);
    if (right.len > 0) {
        str_add_char(&rights, '+');
        str_add(&rights, right);
    } else if (script) {
        redis_script_rights(span_of(script->text), &rights);
    }
    uint64_t bit = drawer((struct span){memory, rights.len});
    if (rights.len == 0 || atomic_fetch_or(&o->health->rights_told, bit) & bit)
        return;
    log_warn("redis refuses our user a command: see that its ACL has these rights",
             F_TEXT("name", o->name), F_SPAN("rights", str_span(&rights)));
}

static void note_well(const struct redis_options *o, enum redis_trouble t) {
    int was = (int)t;
    if (!atomic_compare_exchange_strong(&o->health->trouble, &was, REDIS_NONE))
        return;
    atomic_store(&o->health->rights_told, 0);
    log_info("redis is well again", F_TEXT("name", o->name));
}

void redis_note_reply(const struct redis_options *o) {
    struct redis_health *health = o->health;
    if (o->aside)
        return;
    enum redis_trouble t =
        (enum redis_trouble)atomic_load_explicit(&health->trouble, memory_order_relaxed);
    if (t == REDIS_NONE || redis_trouble_row(t)->ends_connection)
        return;
    if (clock_mono_ms() - atomic_load(&health->trouble_ms) > CALM_MS)
        note_well(o, t);
}

/* The gauges are about the Redis that shares and keeps, not about streams that are read. */
static void count_here(const struct redis_options *o, int n, bool changes_all) {
    if (o->reads_only)
        return;
    metric_add(METRIC_REDIS_CONNECTIONS, n);
    metric_add(METRIC_REDIS_UP, changes_all ? n : 0);
}

void redis_note_here(const struct redis_options *o, const struct redis_info *info) {
    struct redis_health *health = o->health;
    if (o->aside)
        return;
    int here = atomic_fetch_add(&health->here, 1) + 1;
    enum redis_trouble t = (enum redis_trouble)atomic_load(&health->trouble);
    count_here(o, 1, here == 1);
    if (!atomic_exchange(&health->introduced, true))
        log_info("redis is here", F_TEXT("name", o->name), F_TEXT("version", info->version));
    if (here == atomic_load(&health->clients) && redis_trouble_row(t)->ends_connection)
        note_well(o, t);
}

void redis_note_away(const struct redis_options *o) {
    if (!o->aside)
        count_here(o, -1, atomic_fetch_sub(&o->health->here, 1) == 1);
}

void redis_note_durability(const struct redis_options *o, const struct redis_info *info) {
    struct redis_health *health = o->health;
    bool durable = info->persistent && !info->evicts;
    if (atomic_exchange(&health->durable, durable) != durable)
        metric_add(METRIC_REDIS_DURABLE, durable ? 1 : -1);
    if (durable || atomic_exchange(&health->warned, true))
        return;
    log_warn(info->persistent
                 ? "redis may evict what it holds: set maxmemory-policy noeviction"
                 : "redis would forget acknowledged heartbeats in a restart: set appendonly yes",
             F_TEXT("name", o->name), F_TEXT("version", info->version));
}
