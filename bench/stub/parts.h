/* What the stub's files share. Everything runs in the stub's thread unless it says otherwise. */
#pragma once

#include "base/list.h"
#include "base/str.h"
#include "stub/counts.h"

#include <event2/event.h>
#include <event2/http.h>
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>

enum {
    STUB_ANSWER_MAX = 1 << 20,
    STUB_BODY_MAX = 64 << 20, /* evhttp keeps bodies whole */
    STUB_HEAD_MAX = 16384,    /* Node's limit */
    STUB_JSON_MAX = 102400,   /* Express' json parser: 100 KiB */
    STUB_BULK_MAX = 262144,   /* the one of heartbeats in bulk: 256 KiB */
    STUB_IDLE_S = 6,          /* Node closes a second after the 5 s it advertises */
    STUB_FIRST_S = 60,        /* Node's patience for a first request */
    STUB_STREAM_S = 600,
    STUB_ETAG_SIZE = 64,
};

/* ---- one request, from its arrival to its answer ---- */

struct call {
    struct list link; /* in stub->calls */
    struct stub *stub;
    struct evhttp_request *request;       /* NULL once answered or taken over */
    struct evhttp_connection *connection; /* valid as long as request is */
    struct event *timer;                  /* the delayed answer or action; NULL: none */
    void (*later)(struct call *);         /* what the timer does */
    struct str answer;
    int status;
    bool chunked; /* the answer goes out in chunks */
    int64_t delay_ms;
    const char *method;
    const char *target; /* as sent; borrowed from the request */
    struct span path;   /* of the target, as sent */
    struct span query;  /* with its '?' */
    struct span body;   /* as received, transfer coding removed */
    json_t *json;       /* the parsed body; an empty object if there is none */
    uint64_t seq;       /* in the log */
    int http_minor;
    bool watched; /* waits, and its connection is not being read: see the sweep */
    bool client_gone;
    bool cancelled;      /* only a burning thread still holds it */
    bool at_work;        /* a burning thread holds it, or will */
    bool secret_matches; /* connect: known before the burning */
    uint32_t agent;      /* connect: index into the table */
    int64_t left;        /* streams: what is still to be sent */
    int64_t sent;
    int64_t gap_ms;
    char id[256]; /* the agent's id as spelled, decoded */
    char correlation[129];
};

/* What /set changes and /reset restores. */
struct stub_set {
    int64_t delay_ms, connect_delay_ms, connect_cost_ms, token_ttl_s;
    int64_t heartbeat_status;       /* of heartbeats, single and in bulk; 0: as usual */
    int64_t fail_next, fail_status; /* the next N calls get this status; 0: closed, no answer */
    int64_t bulk;                   /* 0: no such route */
    int64_t bulk_fail_items, bulk_fail_status; /* the next N beats in bulk get this status */
    enum { STUB_UP, STUB_REFUSE, STUB_HANG } outage;
};

typedef void stub_handler(struct evhttp_request *request, void *stub);

struct agents;
struct recordings;
struct burners;
struct request_log;

struct stub {
    struct event_base *base;
    struct evhttp *data, *control;
    stub_handler *answer; /* what comes to the data port */
    char *address, *secret;
    int port, control_port;
    int port_keeper; /* bound, never listening: nobody else gets the port while we refuse */
    struct stub_set set, initial;
    struct list calls;
    struct agents *agents;
    struct recordings *recordings; /* NULL: none */
    struct burners *burners;
    struct request_log *log;
    int stop_fd;
    struct event *stop_event, *sweep;
    int spare_fd; /* given up for a moment when there is no other descriptor */
    pthread_t thread;
    bool running;
    struct counters counts;
};

#define stub_count(stub, name)                                                                     \
    atomic_fetch_add_explicit(&(stub)->counts.name, 1, memory_order_relaxed)

/* ---- stub_ports.c ---- */
/* NULL, or why not. What comes to the data port goes to stub->answer. */
const char *stub_open_data_port(struct stub *stub, int port);
const char *stub_open_control_port(struct stub *stub, int port, stub_handler *handle);
bool stub_listen(struct stub *stub);
/* Drops every connection to the data port and stops listening. */
void stub_unlisten(struct stub *stub);
/* This is the stub's thread. */
void stub_ports_enter(struct stub *stub);

/* ---- stub_path.c ---- */
/* The decoded path parameter; false when an escape in it is broken. */
bool stub_decode(struct span text, char *out, size_t size);
/* Segments of the path by '/', one trailing slash ignored; at most `max`, -1 when more. */
int stub_segments(struct span path, struct span *out, int max);

/* ---- stub_answer.c: answers ---- */
/* Every answer ends the call's handling: the call may be gone when these return. */
/* c->answer as JSON, with the controller's headers; 304 if the client knows its ETag. */
void stub_answer_json(struct call *c, int status);
void stub_answer_text(struct call *c, int status, const char *body);
/* The controller's error body; `errors` (may be NULL) ends with NULL. */
void stub_answer_error(struct call *c, int status, const char *message, const char *const *errors);
/* c->answer under headers that were added already, plus length, date and connection handling. */
void stub_answer_made(struct call *c, int status, bool with_length, bool advertise);
/* Closes without an answer, in the next turn. */
void stub_answer_close(struct call *c, bool reset);
/* Never answers. */
void stub_answer_never(struct call *c);
void stub_answer_later(struct call *c, int64_t delay_ms, void (*later)(struct call *));
/* Parts of answers. */
void stub_answer_header(struct call *c, const char *name, const char *value);
void stub_answer_common_headers(struct call *c);
/* `advertise`: with Keep-Alive, as Node does unless the application set Connection itself. */
void stub_answer_connection_headers(struct call *c, bool advertise);
/* W/"<hex length>-<sha1>" of c->answer, as Express makes it. */
void stub_answer_etag(struct call *c, char out[STUB_ETAG_SIZE]);
/* As Node answers a request without Host. */
void stub_answer_bad_host(struct call *c);
/* Frees it, or leaves that to the burning thread that holds it. */
void stub_call_free(struct call *c);
/* Closes its connection and frees it. */
void stub_call_drop(struct call *c);
/* Closes its connection while a burning thread holds it: the work goes on, as Node's does. */
void stub_call_forsake(struct call *c);
/* Has the client closed its side? Looks, takes nothing. */
bool stub_call_client_left(const struct call *c);
/* The client was seen to have gone: counted and logged once. */
void stub_call_note_gone(struct call *c);
const char *stub_call_header(const struct call *c, const char *name);

/* ---- stub_body.c: Express' body parser and V8's complaints ---- */
/* Parses the body into c->json; false when it answered instead. */
bool stub_body_parse(struct call *c);

/* ---- stub_token.c ---- */
struct claims {
    char sub[65], org[65];
    bool universe; /* a universe role: sees every organization */
    bool may_write;
    bool speaks_for_agents; /* a service that may send heartbeats in bulk */
    json_t *all;            /* release with json_decref */
};
enum token_answer { TOKEN_OK, TOKEN_UNAUTHORIZED, TOKEN_PAYLOAD_INVALID };
enum token_answer stub_token_check(const struct stub *stub, const char *authorization,
                                   int64_t now_s, struct claims *out);
/* Adds a token over these claims, HS256. */
void stub_token_sign(const struct stub *stub, struct span claims, struct str *out);
/* The first 8 hex digits of the SHA-256 of `text`. */
void stub_token_fingerprint(const char *text, char out[9]);

/* ---- stub_fleet.c ---- */
struct agents *stub_agents_new(int count);
void stub_agents_free(struct agents *agents);
void stub_agents_reset(struct agents *agents);
bool stub_agents_is_id(const char *id);

/* ---- stub_agents.c ---- */
/* Answers if the path is one of the agent API's; false when it is not. */
bool stub_agents_handle(struct call *c);
/* The token a request came with; false when it answered instead. Release who->all in any case. */
bool stub_agents_token_is_good(struct call *c, struct claims *who);
/* Of a heartbeat; false for NULL. */
bool stub_agents_is_beat_status(const char *status);
/* A heartbeat at that time, unless there was a later one; false when there is no such agent. */
bool stub_agents_beat(struct agents *agents, const char *id, int64_t at_ms);

/* ---- stub_bulk.c ---- */
/* Is this the bulk route, and is it switched on? */
bool stub_bulk_is_asked(const struct call *c);
bool stub_bulk_handle(struct call *c);

/* ---- stub_burn.c: CPU as bcrypt burns it, off the loop as Node's thread pool does ---- */
/* `processors`: as in stub_options. */
struct burners *stub_burners_new(struct event_base *base, int processors);
/* Waits for what is being burnt; what is queued is dropped. */
void stub_burners_free(struct burners *burners);
/* Burns, then calls done(c) in the stub's thread, unless c was cancelled: then frees it. Counts the
 * secret when its burning begins. Once the client has left, c has no connection in done. */
void stub_burners_submit(struct burners *burners, struct call *c, int64_t cost_ms,
                         void (*done)(struct call *));

/* ---- stub_canned.c ---- */
/* NULL and *why when the directory cannot be read or holds nothing. */
struct recordings *stub_recordings_load(const char *dir, const char **why);
void stub_recordings_free(struct recordings *all);
bool stub_recordings_handle(struct call *c);

/* ---- stub_streams.c: /__stub/ and /socket.io/ ---- */
bool stub_streams_handle(struct call *c);

/* ---- stub_log.c ---- */
struct request_log *stub_log_new(void);
void stub_log_free(struct request_log *log);
/* What is answered from now on is added to the file. False: it cannot be opened. */
bool stub_log_keep(struct request_log *log, const char *file);
void stub_log_clear(struct request_log *log);
uint64_t stub_log_add(struct request_log *log, const struct call *c, const char *authorization);
/* An entry of its own, route "bulk", for one item of a request. */
void stub_log_beat(struct request_log *log, const struct call *c, struct span item, const char *id,
                   int status);
void stub_log_client_gone(struct request_log *log, uint64_t seq);
void stub_log_agent(struct request_log *log, uint64_t seq, const char *id);
void stub_log_status(struct request_log *log, uint64_t seq, int status);
json_t *stub_log_since(const struct request_log *log, uint64_t since, uint64_t limit);

/* ---- stub_control.c ---- */
void stub_control_handle(struct evhttp_request *request, void *arg);
