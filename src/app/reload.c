#include "app/reload.h"

#include "base/log.h"
#include "base/metric.h"
#include "base/panic.h"
#include "serve/gate/admission.h"

#include <stdatomic.h>
#include <stdlib.h>

enum {
    POLL_MS = 10000,     /* a renewed certificate is in use that soon */
    ADOPTED_MS = 20,     /* how often it is seen whether all workers have adopted */
    ROTATE_POLLS = 4320, /* 12 h: how long a key of session tickets makes new ones */
    TEXT_MAX = 65536,
};

struct reload {
    struct reload_parts parts;
    struct generation *first, *running, *leaving;
    struct timer poll, adopted;
    bool wanted; /* HUP came while one was under way */
    int polls;
    char *complained; /* what the last poll complained of, so that it is said once */
};

/* ---- the log ---- */

static void log_lines(enum log_level level, const char *message, struct span lines) {
    while (lines.len > 0) {
        const char *end = memchr(lines.ptr, '\n', lines.len);
        size_t len = end ? (size_t)(end - lines.ptr) : lines.len;
        log_at(level, message, F_SPAN("detail", ((struct span){lines.ptr, len})));
        lines = span_from(lines, len + 1);
    }
}

static void log_refused(struct span complaints) {
    metric_add(METRIC_RELOADS_REFUSED, 1);
    log_lines(LOG_ERROR, "reload refused, the running configuration stays", complaints);
}

/* ---- adopting ---- */

static void begin(struct reload *r, bool asked);

static void on_adopted(void *arg) {
    struct reload *r = arg;
    if (atomic_load(&r->running->adopting) > 0) {
        timer_start(&r->adopted, ADOPTED_MS);
        return;
    }
    if (strcmp(r->leaving->setup.config->upstream.url, r->running->setup.config->upstream.url) != 0)
        admission_renew(r->parts.shared);
    if (r->leaving != r->first)
        generation_free(r->leaving);
    r->leaving = NULL;
    log_info("reloaded", F_NONE);
    if (r->wanted)
        begin(r, true);
}

static void adopt(struct reload *r, struct generation *next) {
    struct shared *shared = r->parts.shared;
    metric_add(METRIC_RELOADS_FINE, 1);
    r->leaving = r->running;
    r->running = next;
    log_lines(LOG_WARN, "configuration", str_span(&next->setup.warnings));
    log_set_level((enum log_level)next->setup.config->log.level);
    atomic_store(&next->adopting, (int)shared->worker_count);
    generation_publish(next, shared, r->parts.tickets);
    for (size_t i = 0; i < shared->worker_count; i++)
        worker_adopt(r->parts.workers[i], next);
    timer_start(&r->adopted, ADOPTED_MS);
}

/* ---- reading ---- */

/* A poll that finds the same fault again (a certificate whose key is still on its way) is silent.
 */
static bool is_news(struct reload *r, struct span complaints) {
    bool same = r->complained && span_equal(span_of(r->complained), complaints);
    if (same)
        return false;
    free(r->complained);
    r->complained = must_alloc(complaints.len + 1);
    memcpy(r->complained, complaints.ptr, complaints.len);
    r->complained[complaints.len] = '\0';
    return true;
}

static void forget_complaints(struct reload *r) {
    free(r->complained);
    r->complained = NULL;
}

/* Cheaper than to make a generation of it: certificates are parsed, authorities looked for. */
static bool is_same(const struct reload *r) {
    return !setup_is_news(r->parts.config_file, r->parts.environment, r->running->setup.config);
}

/* `asked`: by HUP; else what stands in files is the reason. */
static void begin(struct reload *r, bool asked) {
    struct str complaints;
    str_init(&complaints, TEXT_MAX);
    r->wanted = false;
    struct generation *next =
        generation_read(r->parts.config_file, r->parts.environment, r->running, &complaints);
    if (!next) {
        if (asked || is_news(r, str_span(&complaints)))
            log_refused(str_span(&complaints));
    } else {
        forget_complaints(r);
        adopt(r, next);
    }
    str_release(&complaints);
}

void reload_now(struct reload *r) {
    if (r->leaving)
        r->wanted = true;
    else
        begin(r, true);
}

/* ---- polling ---- */

static void rotate_tickets(struct reload *r) {
    if (++r->polls < ROTATE_POLLS)
        return;
    r->polls = 0;
    if (!r->running->setup.config->tls.ticket_keys.bytes)
        tickets_rotate(r->parts.tickets);
}

static void on_poll(void *arg) {
    struct reload *r = arg;
    timer_start(&r->poll, POLL_MS);
    rotate_tickets(r);
    if (r->leaving)
        return;
    if (is_same(r))
        forget_complaints(r);
    else
        begin(r, false);
}

/* ---- life ---- */

struct reload *reload_new(struct loop *loop, const struct reload_parts *parts,
                          struct generation *first) {
    struct reload *r = must_zalloc(sizeof *r);
    r->parts = *parts;
    r->first = r->running = first;
    timer_init(&r->poll, loop, on_poll, r);
    timer_init(&r->adopted, loop, on_adopted, r);
    timer_start(&r->poll, POLL_MS);
    return r;
}

void reload_free(struct reload *r) {
    if (!r)
        return;
    timer_stop(&r->poll);
    timer_stop(&r->adopted);
    if (r->leaving && r->leaving != r->first)
        generation_free(r->leaving);
    if (r->running != r->first)
        generation_free(r->running);
    forget_complaints(r);
    free(r);
}
