/* Recorded answers for everything that is not the agent API.
 *
 * A recording fits when method and target are the same. Of several, the one whose body and headers
 * are most alike is taken. What names a moment (Date, correlation ids, "timestamp") is made fresh;
 * the rest goes out as it was recorded. An empty recorded answer closes the connection. */
#include "base/clock.h"
#include "base/panic.h"
#include "stub/parts.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    FILE_MAX_SIZE = 1 << 20,
    FILES_MAX = 4096,
    HEADERS_MAX = 32,
};

struct header {
    struct span name, value;
};

struct message {
    struct span first; /* the request line or the status line */
    struct header headers[HEADERS_MAX];
    size_t count;
    struct span body;
};

struct recording {
    char *text; /* the file; the spans below borrow it */
    struct message request, response;
    struct span method, target;
    int status; /* 0: closed without an answer */
};

struct recordings {
    size_t count;
    struct recording at[FILES_MAX];
};

/* ---- reading ---- */

static char *read_file(const char *dir, const char *name, size_t *len) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    char *text = must_alloc(FILE_MAX_SIZE + 1);
    *len = fread(text, 1, FILE_MAX_SIZE, file);
    text[*len] = '\0';
    fclose(file);
    return must_realloc(text, *len + 1);
}

static struct span until(struct span *rest, const char *mark) {
    size_t mark_len = strlen(mark);
    char *at = rest->len ? memmem(rest->ptr, rest->len, mark, mark_len) : NULL;
    struct span found = *rest;
    if (at)
        found.len = (size_t)(at - rest->ptr);
    *rest = at ? span_from(*rest, found.len + mark_len) : SPAN_NONE;
    return found;
}

static void read_header(struct message *m, struct span line) {
    const char *colon = memchr(line.ptr, ':', line.len);
    if (!colon || m->count == HEADERS_MAX)
        return;
    size_t name = (size_t)(colon - line.ptr);
    m->headers[m->count++] =
        (struct header){{line.ptr, name}, span_trim(span_from(line, name + 1))};
}

static void read_message(struct message *m, struct span text) {
    struct span head = until(&text, "\r\n\r\n");
    m->body = text;
    m->first = until(&head, "\r\n");
    while (head.len > 0)
        read_header(m, until(&head, "\r\n"));
}

static struct span header_of(const struct message *m, struct span name) {
    for (size_t i = 0; i < m->count; i++)
        if (span_equal_nocase(m->headers[i].name, name))
            return m->headers[i].value;
    return SPAN_NONE;
}

/* Each part ends with "\n\n" that the recorder added. */
static bool read_recording(struct recording *r, size_t len) {
    struct span rest = {r->text, len};
    if (!span_starts(rest, SPAN("### REQUEST\n")))
        return false;
    rest = span_from(rest, strlen("### REQUEST\n"));
    struct span request = until(&rest, "\n\n### RESPONSE\n");
    struct span response = until(&rest, "\n\n### ");
    read_message(&r->request, request);
    read_message(&r->response, response);
    if (span_starts(r->response.first, SPAN("HTTP/1.1 100")))
        read_message(&r->response, r->response.body);
    struct span line = r->request.first;
    r->method = until(&line, " ");
    r->target = until(&line, " ");
    if (span_starts(r->response.first, SPAN("HTTP/1.1 ")))
        r->status = (int)strtol(r->response.first.ptr + strlen("HTTP/1.1 "), NULL, 10);
    return r->target.len > 0;
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_recording(const struct dirent *entry) {
    size_t len = strlen(entry->d_name);
    return len > 5 && strcmp(entry->d_name + len - 5, ".http") == 0;
}

static void load_one(struct recordings *all, const char *dir, const char *name) {
    struct recording *r = &all->at[all->count];
    size_t len = 0;
    if (all->count == FILES_MAX)
        return;
    r->text = read_file(dir, name, &len);
    if (r->text && read_recording(r, len))
        all->count++;
    else
        free(r->text);
}

struct recordings *stub_recordings_load(const char *dir, const char **why) {
    struct recordings *all = must_zalloc(sizeof *all);
    struct dirent **entries = NULL;
    int found = scandir(dir, &entries, is_recording, by_name);
    for (int i = 0; i < found; i++) {
        load_one(all, dir, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    if (all->count > 0)
        return all;
    *why = "no recordings in the transcripts directory";
    stub_recordings_free(all);
    return NULL;
}

void stub_recordings_free(struct recordings *all) {
    for (size_t i = 0; i < all->count; i++)
        free(all->at[i].text);
    free(all);
}

/* ---- choosing ---- */

static bool is_local(struct span host) {
    return span_starts(host, SPAN("127.0.0.1")) || span_starts(host, SPAN("localhost"));
}

/* Tokens are as good as each other; of hosts only "some local one" matters. */
static bool header_alike(const struct header *h, const char *given) {
    struct span value = span_of(given);
    if (span_equal_nocase(h->name, SPAN("Authorization")))
        return given != NULL;
    if (span_equal_nocase(h->name, SPAN("Host")) && is_local(h->value))
        return is_local(value);
    return given && span_equal(h->value, value);
}

static bool header_tells(struct span name) {
    return !span_equal_nocase(name, SPAN("Content-Length")) &&
           !span_equal_nocase(name, SPAN("Connection"));
}

enum { BODY_WEIGHT = 100, HEADER_WEIGHT = 2 };

static int likeness(const struct recording *r, const struct call *c) {
    int score = span_equal(r->request.body, c->body) ? BODY_WEIGHT : 0;
    for (size_t i = 0; i < r->request.count; i++) {
        const struct header *h = &r->request.headers[i];
        char name[128];
        snprintf(name, sizeof name, "%.*s", SPAN_ARG(h->name));
        if (header_tells(h->name))
            score += header_alike(h, stub_call_header(c, name)) ? HEADER_WEIGHT : -HEADER_WEIGHT;
    }
    if (stub_call_header(c, "Authorization") && !header_of(&r->request, SPAN("Authorization")).ptr)
        score -= 1;
    return score;
}

static const struct recording *choose(const struct recordings *all, const struct call *c) {
    const struct recording *best = NULL;
    int best_score = 0;
    for (size_t i = 0; i < all->count; i++) {
        const struct recording *r = &all->at[i];
        if (!span_equal(r->method, span_of(c->method)) ||
            !span_equal(r->target, span_of(c->target)))
            continue;
        int score = likeness(r, c);
        if (!best || score > best_score) {
            best = r;
            best_score = score;
        }
    }
    return best;
}

/* ---- answering ---- */

/* Copies `text`, with the recorded correlation id and the time behind "timestamp" replaced. */
static void add_refreshed(struct str *out, struct span text, const struct call *c,
                          struct span recorded_id) {
    const struct span mark = SPAN("\"timestamp\":\"");
    char now[CLOCK_ISO_SIZE];
    clock_iso(now, clock_wall_ms());
    while (text.len > 0) {
        size_t used = 1;
        if (recorded_id.len && span_starts(text, recorded_id)) {
            str_add(out, span_of(c->correlation));
            used = recorded_id.len;
        } else if (span_starts(text, mark) && text.len > mark.len + CLOCK_ISO_SIZE) {
            str_add(out, mark);
            str_add(out, span_of(now));
            used = mark.len + CLOCK_ISO_SIZE - 1;
        } else {
            str_add_char(out, text.ptr[0]);
        }
        text = span_from(text, used);
    }
}

/* The body's length is known from the recording only. */
static bool is_head(const struct call *c) {
    return strcmp(c->method, "HEAD") == 0;
}

static bool is_made_fresh(const struct call *c, struct span name) {
    static const char *const fresh[] = {"Date", "Connection", "Keep-Alive", "Transfer-Encoding"};
    for (size_t i = 0; i < sizeof fresh / sizeof *fresh; i++)
        if (span_equal_nocase(name, span_of(fresh[i])))
            return true;
    return span_equal_nocase(name, SPAN("Content-Length")) && !is_head(c);
}

static void add_recorded_header(struct call *c, const struct header *h, bool body_changed) {
    char name[128], value[1024], etag[STUB_ETAG_SIZE];
    snprintf(name, sizeof name, "%.*s", SPAN_ARG(h->name));
    snprintf(value, sizeof value, "%.*s", SPAN_ARG(h->value));
    stub_answer_etag(c, etag);
    if (span_equal_nocase(h->name, SPAN("x-correlation-id")))
        stub_answer_header(c, name, c->correlation);
    else if (span_equal_nocase(h->name, SPAN("ETag")) && body_changed)
        stub_answer_header(c, name, etag);
    else if (!is_made_fresh(c, h->name))
        stub_answer_header(c, name, value);
}

/* A recorded chunked body holds its chunks; those seen are a single one. */
static struct span recorded_body(const struct message *m) {
    struct span body = m->body;
    if (!header_of(m, SPAN("Transfer-Encoding")).ptr)
        return body;
    struct span size = until(&body, "\r\n");
    size_t len = strtoul(size.ptr, NULL, 16);
    return (struct span){body.ptr, len < body.len ? len : body.len};
}

static void replay(struct call *c, const struct recording *r) {
    const struct message *m = &r->response;
    struct span body = recorded_body(m);
    add_refreshed(&c->answer, body, c, header_of(m, SPAN("x-correlation-id")));
    bool changed = !span_equal(body, str_span(&c->answer));
    for (size_t i = 0; i < m->count; i++)
        add_recorded_header(c, &m->headers[i], changed);
    c->chunked = header_of(m, SPAN("Transfer-Encoding")).ptr != NULL;
    stub_answer_made(c, r->status, !c->chunked && !is_head(c),
                     header_of(m, SPAN("Keep-Alive")).ptr != NULL);
}

bool stub_recordings_handle(struct call *c) {
    const struct recording *r = c->stub->recordings ? choose(c->stub->recordings, c) : NULL;
    if (!r)
        return false;
    stub_count(c->stub, others);
    if (r->status == 0)
        stub_answer_close(c, false);
    else
        replay(c, r);
    return true;
}
