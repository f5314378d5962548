#include "agents/record.h"

#include "agents/hlog.h"
#include "base/panic.h"

#include <stdio.h>
#include <stdlib.h>

struct tally tally_since(const struct tally *now, const struct tally *before) {
    struct tally t;
#define X(name) t.name = now->name - before->name;
    TALLY_ROWS(X)
#undef X
    return t;
}

int64_t tally_calls(const struct tally *t) {
    return t->connects + t->heartbeats + t->disconnects;
}

int64_t tally_errors(const struct tally *t) {
    return t->answers_401 + t->answers_404 + t->answers_429 + t->answers_4xx + t->answers_5xx +
           t->answers_odd + t->timeouts + t->refused + t->closed + t->tls_failed + t->bad_answers +
           t->no_descriptor;
}

void record_init(struct record *r, int64_t start_wall_ms) {
    *r = (struct record){.start_wall_ms = start_wall_ms,
                         .connect = hist_new(),
                         .heartbeat = hist_new(),
                         .calls = hist_new(),
                         .connected = hist_new(),
                         .lag = hist_new(),
                         .second_connect = hist_new(),
                         .second_heartbeat = hist_new()};
    str_init(&r->hlog, RECORD_HLOG_MAX);
    hlog_begin(&r->hlog, start_wall_ms);
}

void record_release(struct record *r) {
    struct hist *all[] = {r->connect, r->heartbeat,      r->calls,           r->connected,
                          r->lag,     r->second_connect, r->second_heartbeat};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        hist_free(all[i]);
    for (size_t i = 0; i < r->section_count; i++) {
        hist_free(r->section[i].connect);
        hist_free(r->section[i].heartbeat);
    }
    free(r->row);
    free(r->sample);
    str_release(&r->hlog);
}

/* ---- sections ---- */

static struct record_section *current(struct record *r) {
    return r->section_count ? &r->section[r->section_count - 1] : NULL;
}

bool record_is_measuring(const struct record *r) {
    const struct record_section *s = current((struct record *)(uintptr_t)r);
    return s && !s->unmeasured && s->to_us < 0;
}

void record_section_begin(struct record *r, const struct stage *stage, int64_t now_us,
                          const struct scene *scene) {
    invariant(r->section_count < SCENARIO_STAGES_MAX);
    struct record_section *s = &r->section[r->section_count++];
    *s = (struct record_section){.unmeasured = stage->unmeasured,
                                 .is_connect = stage->kind == STAGE_CONNECT,
                                 .from_us = now_us,
                                 .to_us = -1,
                                 .tally = r->tally,
                                 .scene = *scene,
                                 .connect = hist_new(),
                                 .heartbeat = hist_new(),
                                 .all_connected_us = -1};
    (void)snprintf(s->name, sizeof s->name, "%s", stage->name);
}

static int64_t difference(int64_t now, int64_t before) {
    return now < 0 || before < 0 ? -1 : now - before;
}

static struct usage usage_since(const struct usage *now, const struct usage *before) {
    return (struct usage){difference(now->cpu_us, before->cpu_us), now->memory};
}

struct scene scene_since(const struct scene *now, const struct scene *before) {
    struct scene d = {.gateway = usage_since(&now->gateway, &before->gateway),
                      .controller = usage_since(&now->controller, &before->controller),
                      .self = usage_since(&now->self, &before->self)};
#define X(name) d.seen.name = difference(now->seen.name, before->seen.name);
    SEEN_ROWS(X)
#undef X
    return d;
}

void record_section_end(struct record *r, int64_t now_us, const struct scene *scene) {
    struct record_section *s = current(r);
    if (!s || s->to_us >= 0)
        return;
    s->to_us = now_us;
    s->tally = tally_since(&r->tally, &s->tally);
    s->scene = scene_since(scene, &s->scene);
}

/* ---- what happens ---- */

void record_call(struct record *r, enum life_call call, int64_t took_us) {
    bool is_connect = call == LIFE_CONNECT;
    hist_record(is_connect ? r->second_connect : r->second_heartbeat, took_us);
    if (!record_is_measuring(r))
        return;
    struct record_section *s = current(r);
    hist_record(is_connect ? s->connect : s->heartbeat, took_us);
    hist_record(is_connect ? r->connect : r->heartbeat, took_us);
    hist_record(r->calls, took_us);
}

void record_connected(struct record *r, int64_t took_us) {
    if (record_is_measuring(r))
        hist_record(r->connected, (took_us + RECORD_CONNECTED_US - 1) / RECORD_CONNECTED_US);
}

void record_lag(struct record *r, int64_t lag_us) {
    if (lag_us > r->lag_max_us)
        r->lag_max_us = lag_us;
    if (record_is_measuring(r))
        hist_record(r->lag, lag_us);
}

/* ---- seconds ---- */

static void log_second(struct record *r, const char *tag, struct hist *h, int64_t now_us) {
    if (hist_count(h) == 0)
        return;
    hlog_add(&r->hlog, tag, r->second_from_us, now_us - r->second_from_us, h);
    hist_clear(h);
}

static struct record_row *new_row(struct record *r) {
    if (r->row_count == r->row_room) {
        r->row_room = r->row_room ? 2 * r->row_room : 64;
        r->row = must_realloc(r->row, r->row_room * sizeof *r->row);
    }
    return &r->row[r->row_count++];
}

void record_row_add(struct record *r, const struct record_row *row) {
    struct hist *both = hist_new();
    hist_add(both, r->second_connect);
    hist_add(both, r->second_heartbeat);
    if (r->row_count < RECORD_ROWS_MAX) {
        struct record_row *copy = new_row(r);
        *copy = *row;
        copy->tally = r->tally;
        copy->p50_us = hist_quantile(both, 0.5);
        copy->p99_us = hist_quantile(both, 0.99);
        copy->max_us = hist_max(both);
        copy->lag_max_us = r->lag_max_us;
    }
    hist_free(both);
    log_second(r, "connect", r->second_connect, row->at_us);
    log_second(r, "heartbeat", r->second_heartbeat, row->at_us);
    r->second_from_us = row->at_us;
    r->lag_max_us = 0;
}

void record_sample_add(struct record *r, int64_t now_us, int32_t connected) {
    if (r->sample_count == RECORD_SAMPLES_MAX)
        return;
    if (r->sample_count == r->sample_room) {
        r->sample_room = r->sample_room ? 2 * r->sample_room : 256;
        r->sample = must_realloc(r->sample, r->sample_room * sizeof *r->sample);
    }
    r->sample[r->sample_count++] = (struct record_sample){now_us, connected};
}
