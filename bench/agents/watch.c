#include "agents/watch.h"

#include "agents/probe.h"
#include "base/panic.h"
#include "rules/wire/json_scan.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct watch {
    struct probe *counts, *set, *metrics;
    int asking;   /* questions without an answer */
    bool polling; /* counts and metrics among them */
    void (*done)(void *arg);
    void *arg;
    struct seen seen;
    struct fates fates;
};

#define METRIC(name) SPAN("aiwm_gateway_heartbeats_" name)

/* ---- answers ---- */

int64_t watch_metric(struct span text, struct span name) {
    while (text.len > name.len) {
        const char *end = memchr(text.ptr, '\n', text.len);
        size_t len = end ? (size_t)(end - text.ptr) : text.len;
        if (len > name.len && span_starts(text, name) && text.ptr[name.len] == ' ') {
            char number[32];
            (void)snprintf(number, sizeof number, "%.*s", (int)(len - name.len - 1),
                           text.ptr + name.len + 1);
            return strtoll(number, NULL, 10);
        }
        text = span_from(text, len + 1);
    }
    return -1;
}

static void answered(struct watch *w) {
    if (--w->asking > 0)
        return;
    void (*done)(void *arg) = w->done;
    w->polling = false;
    w->done = NULL;
    if (done)
        done(w->arg);
}

static void on_counts(void *arg, struct span answer) {
    struct watch *w = arg;
    struct json_members members;
    if (answer.ptr && json_scan_object(answer, &members)) {
#define X(name) (void)json_member_integer(json_member_find(&members, SPAN(#name)), &w->seen.name);
        SEEN_ROWS(X)
#undef X
    }
    answered(w);
}

static void on_metrics(void *arg, struct span answer) {
    struct watch *w = arg;
    if (answer.ptr)
        w->fates = (struct fates){.received = watch_metric(answer, METRIC("received_total")),
                                  .delivered = watch_metric(answer, METRIC("delivered_total")),
                                  .superseded = watch_metric(answer, METRIC("superseded_total")),
                                  .expired = watch_metric(answer, METRIC("expired_total")),
                                  .held = watch_metric(answer, METRIC("held"))};
    answered(w);
}

static void on_set(void *arg, struct span answer) {
    (void)answer;
    answered(arg);
}

/* ---- questions ---- */

struct watch *watch_new(const struct watch_options *options) {
    struct watch *w = must_zalloc(sizeof *w);
#define X(name) w->seen.name = -1;
    SEEN_ROWS(X)
#undef X
    w->fates = (struct fates){-1, -1, -1, -1, -1};
    if (options->control_port) {
        w->counts = probe_new(options->loop, options->control_port);
        w->set = probe_new(options->loop, options->control_port);
    }
    if (options->health_port)
        w->metrics = probe_new(options->loop, options->health_port);
    return w;
}

void watch_free(struct watch *w) {
    struct probe *all[] = {w->counts, w->set, w->metrics};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i])
            probe_free(all[i]);
    free(w);
}

/* The one more in `asking` is ours, so that `done` comes once and last. */
void watch_ask(struct watch *w, void (*done)(void *arg), void *arg) {
    if (done) {
        w->done = done;
        w->arg = arg;
    }
    if (w->polling)
        return;
    w->polling = true;
    w->asking++;
    if (w->counts && probe_ask(w->counts, "/counts", SPAN_NONE, on_counts, w))
        w->asking++;
    if (w->metrics && probe_ask(w->metrics, "/metrics", SPAN_NONE, on_metrics, w))
        w->asking++;
    answered(w);
}

bool watch_set(struct watch *w, const char *json) {
    if (!w->set || !probe_ask(w->set, "/set", span_of(json), on_set, w))
        return false;
    w->asking++;
    return true;
}

struct seen watch_seen(const struct watch *w) {
    return w->seen;
}

struct fates watch_fates(const struct watch *w) {
    return w->fates;
}

/* ---- processes ---- */

static bool read_proc(pid_t pid, const char *file, char *out, size_t size) {
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    size_t len = fread(out, 1, size - 1, f);
    (void)fclose(f);
    out[len] = '\0';
    return len > 0;
}

/* The number in the field behind `skip` others; -1 when there are not so many. */
static long long field(const char *text, int skip) {
    for (; skip > 0 && text; skip--) {
        text = strchr(text, ' ');
        text = text ? text + 1 : NULL;
    }
    return text && *text ? strtoll(text, NULL, 10) : -1;
}

struct usage usage_of(pid_t pid) {
    struct usage u = {-1, -1};
    char text[1024];
    if (pid <= 0)
        return u;
    if (read_proc(pid, "stat", text, sizeof text)) {
        /* Behind the name, which may hold anything, comes field 3; 14 and 15 are CPU. */
        const char *at = strrchr(text, ')');
        long long user = at ? field(at, 12) : -1, system = at ? field(at, 13) : -1;
        if (user >= 0 && system >= 0)
            u.cpu_us = (user + system) * (1000000 / sysconf(_SC_CLK_TCK));
    }
    if (read_proc(pid, "statm", text, sizeof text) && field(text, 1) >= 0)
        u.memory = field(text, 1) * sysconf(_SC_PAGESIZE);
    return u;
}
