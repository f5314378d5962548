/* What reached the stub: the last 100,000 requests, in order of arrival, and all of them counted.
 */
#include "base/clock.h"
#include "base/panic.h"
#include "stub/parts.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    LOG_ENTRIES = 100000,
    LOG_TEXT_MAX = 1024, /* of a target and of a body: the log holds at most 200 MB */
};

struct entry {
    int64_t mono_ms;
    char *target, *body, *correlation;
    size_t body_len; /* of the whole body */
    const char *method;
    const char *route; /* "bulk" for an item of such a request, else "" */
    char agent[25];
    char fingerprint[9]; /* "" without Authorization */
    int status;          /* 0: not answered (yet) */
    bool client_gone;
};

struct request_log {
    uint64_t next; /* seq of the next entry; they start at 1 */
    uint64_t first;
    int journal_fd; /* -1: none */
    struct entry at[LOG_ENTRIES];
};

struct request_log *stub_log_new(void) {
    struct request_log *log = must_zalloc(sizeof *log);
    log->next = log->first = 1;
    log->journal_fd = -1;
    return log;
}

static struct entry *entry_at(const struct request_log *log, uint64_t seq) {
    bool held = seq >= log->first && seq < log->next;
    return held ? (struct entry *)(uintptr_t)&log->at[seq % LOG_ENTRIES] : NULL;
}

static void entry_release(struct entry *e) {
    free(e->target);
    free(e->body);
    free(e->correlation);
    *e = (struct entry){.mono_ms = 0};
}

/* Sequence numbers go on, so that nobody mistakes new entries for old ones. */
void stub_log_clear(struct request_log *log) {
    for (uint64_t seq = log->first; seq < log->next; seq++)
        entry_release(entry_at(log, seq));
    log->first = log->next;
}

void stub_log_free(struct request_log *log) {
    stub_log_clear(log);
    if (log->journal_fd >= 0)
        close(log->journal_fd);
    free(log);
}

static struct entry *add_entry(struct request_log *log, const struct call *c, struct span body,
                               const char *authorization) {
    size_t kept = body.len < LOG_TEXT_MAX ? body.len : LOG_TEXT_MAX;
    if (log->next - log->first == LOG_ENTRIES) {
        entry_release(entry_at(log, log->first));
        log->first++;
    }
    struct entry *e = entry_at(log, log->next++);
    e->mono_ms = clock_mono_ms();
    e->method = c->method;
    e->route = "";
    e->target = strndup(c->target, LOG_TEXT_MAX);
    e->body = strndup(body.ptr, kept);
    e->body_len = body.len;
    e->correlation = must_strdup(c->correlation);
    if (authorization)
        stub_token_fingerprint(authorization, e->fingerprint);
    return e;
}

uint64_t stub_log_add(struct request_log *log, const struct call *c, const char *authorization) {
    add_entry(log, c, c->body, authorization);
    return log->next - 1;
}

/* Any bytes as a JSON string: those that are not UTF-8 become U+FFFD. */
static json_t *any_string(const char *text) {
    struct str quoted;
    str_init(&quoted, LOG_TEXT_MAX * 8);
    str_add_json(&quoted, span_of(text));
    json_t *json = json_loadb(quoted.ptr, quoted.len, JSON_DECODE_ANY, NULL);
    str_release(&quoted);
    return json ? json : json_null();
}

static json_t *entry_json(const struct entry *e, uint64_t seq) {
    return json_pack("{s:I, s:I, s:s, s:s, s:o, s:s, s:o, s:I, s:o, s:s, s:i, s:b}", "seq",
                     (json_int_t)seq, "mono_ms", (json_int_t)e->mono_ms, "method", e->method,
                     "route", e->route, "target", any_string(e->target), "agent", e->agent, "body",
                     any_string(e->body), "body_bytes", (json_int_t)e->body_len, "correlation_id",
                     any_string(e->correlation), "authorization", e->fingerprint, "status",
                     e->status, "client_gone", e->client_gone);
}

bool stub_log_keep(struct request_log *log, const char *file) {
    log->journal_fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    return log->journal_fd >= 0;
}

/* One write, so that whoever kills us leaves whole lines. */
static void keep_entry(const struct request_log *log, uint64_t seq) {
    const struct entry *e = entry_at(log, seq);
    if (log->journal_fd < 0 || !e)
        return;
    json_t *json = entry_json(e, seq);
    char *line = json_dumps(json, JSON_COMPACT | JSON_ENSURE_ASCII);
    size_t len = strlen(line);
    line[len] = '\n'; /* in place of the terminator */
    if (write(log->journal_fd, line, len + 1) != (ssize_t)len + 1)
        panic(__FILE__, __LINE__, "the journal cannot be written");
    free(line);
    json_decref(json);
}

void stub_log_beat(struct request_log *log, const struct call *c, struct span item, const char *id,
                   int status) {
    struct entry *e = add_entry(log, c, item, NULL);
    e->route = "bulk";
    snprintf(e->agent, sizeof e->agent, "%s", id);
    e->status = status;
    keep_entry(log, log->next - 1);
}

void stub_log_client_gone(struct request_log *log, uint64_t seq) {
    struct entry *e = entry_at(log, seq);
    if (e)
        e->client_gone = true;
}

void stub_log_agent(struct request_log *log, uint64_t seq, const char *id) {
    struct entry *e = entry_at(log, seq);
    if (e)
        snprintf(e->agent, sizeof e->agent, "%s", id);
}

void stub_log_status(struct request_log *log, uint64_t seq, int status) {
    struct entry *e = entry_at(log, seq);
    if (!e)
        return;
    e->status = status;
    keep_entry(log, seq);
}

json_t *stub_log_since(const struct request_log *log, uint64_t since, uint64_t limit) {
    json_t *out = json_array();
    uint64_t seq = since + 1 > log->first ? since + 1 : log->first;
    for (; seq < log->next && json_array_size(out) < limit; seq++)
        json_array_append_new(out, entry_json(entry_at(log, seq), seq));
    return out;
}
