/* The stub's life: its thread, and which file answers what. */
#include "stub/stub.h"
#include "base/panic.h"
#include "base/random.h"
#include "stub/parts.h"

#include <event2/buffer.h>
#include <event2/http_struct.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    SWEEP_MS = 50,
    SWEEP_CALLS = 1000, /* looked at in one of them, in turn */
    AGENTS_DEFAULT = 1000,
    AGENTS_MAX = 1000000,
    TOKEN_TTL_S = 86400,
};

/* ---- which file answers what ---- */

static const char *method_name(enum evhttp_cmd_type type) {
    switch (type) {
    case EVHTTP_REQ_GET:
        return "GET";
    case EVHTTP_REQ_POST:
        return "POST";
    case EVHTTP_REQ_HEAD:
        return "HEAD";
    case EVHTTP_REQ_PUT:
        return "PUT";
    case EVHTTP_REQ_DELETE:
        return "DELETE";
    case EVHTTP_REQ_OPTIONS:
        return "OPTIONS";
    case EVHTTP_REQ_TRACE:
        return "TRACE";
    case EVHTTP_REQ_CONNECT:
        return "CONNECT";
    case EVHTTP_REQ_PATCH:
        return "PATCH";
    default:
        return "OTHER";
    }
}

static void set_correlation(struct call *c) {
    const char *given = stub_call_header(c, "x-correlation-id");
    if (given && *given)
        snprintf(c->correlation, sizeof c->correlation, "%s", given);
    else
        random_uuid(c->correlation);
}

static struct call *call_new(struct stub *stub, struct evhttp_request *request) {
    struct call *c = must_zalloc(sizeof *c);
    struct evbuffer *input = evhttp_request_get_input_buffer(request);
    c->stub = stub;
    c->request = request;
    c->connection = evhttp_request_get_connection(request);
    c->http_minor = (unsigned char)request->minor;
    c->method = method_name(evhttp_request_get_command(request));
    c->target = evhttp_request_get_uri(request);
    size_t path = strcspn(c->target, "?");
    c->path = (struct span){c->target, path};
    c->query = span_of(c->target + path);
    c->body.len = evbuffer_get_length(input);
    c->body.ptr = c->body.len ? (const char *)evbuffer_pullup(input, -1) : "";
    str_init(&c->answer, STUB_ANSWER_MAX);
    set_correlation(c);
    list_push_back(&stub->calls, &c->link);
    return c;
}

static bool fails_on_order(struct call *c) {
    struct stub_set *set = &c->stub->set;
    if (set->fail_next <= 0)
        return false;
    set->fail_next--;
    stub_count(c->stub, others);
    if (set->fail_status == 0)
        stub_answer_close(c, false);
    else
        stub_answer_error(c, (int)set->fail_status, "Failed on order", NULL);
    return true;
}

static void answer_not_found(struct call *c) {
    char message[STUB_HEAD_MAX];
    stub_count(c->stub, others);
    snprintf(message, sizeof message, "Cannot %s %s", c->method, c->target);
    stub_answer_error(c, 404, message, NULL);
}

static void on_request(struct evhttp_request *request, void *arg) {
    struct stub *stub = arg;
    struct call *c = call_new(stub, request);
    stub_count(stub, requests);
    c->seq = stub_log_add(stub->log, c, stub_call_header(c, "Authorization"));
    if (stub->set.outage == STUB_HANG) {
        stub_answer_never(c);
        return;
    }
    if (!stub_call_header(c, "Host") && c->http_minor == 1) {
        stub_answer_bad_host(c);
        return;
    }
    if (stub_streams_handle(c))
        return;
    c->delay_ms = stub->set.delay_ms;
    if (fails_on_order(c) || !stub_body_parse(c) || stub_bulk_handle(c) || stub_agents_handle(c) ||
        stub_recordings_handle(c))
        return;
    answer_not_found(c);
}

/* ---- life ---- */

static void look_for_client(struct call *c) {
    if (!c->watched || !stub_call_client_left(c))
        return;
    stub_call_note_gone(c);
    if (c->at_work)
        stub_call_forsake(c);
    else if (!c->timer)
        stub_call_drop(c);
}

/* evhttp stops reading while a request waits, so somebody has to look for those who left: each is
 * looked at and goes to the end of the list. */
static void on_sweep(evutil_socket_t fd, short what, void *arg) {
    struct stub *stub = arg;
    (void)fd;
    (void)what;
    struct list looked;
    list_init(&looked);
    for (int i = 0; i < SWEEP_CALLS && !list_empty(&stub->calls); i++) {
        struct list *first = stub->calls.next;
        list_remove(first);
        list_push_back(&looked, first);
        look_for_client(container_of(first, struct call, link));
    }
    while (!list_empty(&looked)) {
        struct list *first = looked.next;
        list_remove(first);
        list_push_back(&stub->calls, first);
    }
}

static void on_stop(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    event_base_loopbreak(arg);
}

static void *run(void *arg) {
    struct stub *stub = arg;
    stub_ports_enter(stub);
    event_base_dispatch(stub->base);
    return NULL;
}

/* No signal is ever handled in this thread; a write to a closed connection raises none either. */
static bool start_thread(struct stub *stub) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    stub->running = pthread_create(&stub->thread, NULL, run, stub) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return stub->running;
}

static void stub_free(struct stub *stub) {
    if (stub->running) {
        uint64_t one = 1;
        if (write(stub->stop_fd, &one, sizeof one) != sizeof one)
            panic(__FILE__, __LINE__, "cannot stop the stub");
        pthread_join(stub->thread, NULL);
    }
    stub_unlisten(stub);
    if (stub->control)
        evhttp_free(stub->control);
    if (stub->burners)
        stub_burners_free(stub->burners);
    if (stub->stop_event)
        event_free(stub->stop_event);
    if (stub->sweep)
        event_free(stub->sweep);
    if (stub->stop_fd >= 0)
        close(stub->stop_fd);
    if (stub->port_keeper >= 0)
        close(stub->port_keeper);
    if (stub->spare_fd >= 0)
        close(stub->spare_fd);
    if (stub->recordings)
        stub_recordings_free(stub->recordings);
    if (stub->agents)
        stub_agents_free(stub->agents);
    if (stub->log)
        stub_log_free(stub->log);
    if (stub->base)
        event_base_free(stub->base);
    free(stub->address);
    free(stub->secret);
    free(stub);
}

static const char *open_loop(struct stub *stub, int processors) {
    static const struct timeval every = {.tv_usec = SWEEP_MS * 1000};
    stub->base = event_base_new();
    if (!stub->base || stub->stop_fd < 0)
        return "cannot make the stub's event loop";
    stub->stop_event = event_new(stub->base, stub->stop_fd, EV_READ, on_stop, stub->base);
    stub->sweep = event_new(stub->base, -1, EV_PERSIST, on_sweep, stub);
    if (!stub->stop_event || !stub->sweep || event_add(stub->stop_event, NULL) != 0 ||
        event_add(stub->sweep, &every) != 0)
        return "cannot watch the stub's event loop";
    stub->burners = stub_burners_new(stub->base, processors);
    return stub->burners ? NULL : "cannot start the stub's burning threads";
}

static const char *open_all(struct stub *stub, const struct stub_options *o) {
    const char *why = open_loop(stub, o->processors);
    if (!why && o->transcripts_dir)
        stub->recordings = stub_recordings_load(o->transcripts_dir, &why);
    if (!why)
        why = stub_open_data_port(stub, o->port);
    if (!why)
        why = stub_open_control_port(stub, o->control_port, stub_control_handle);
    if (!why && !start_thread(stub))
        why = "cannot start the stub's thread";
    return why;
}

static int agent_count(const struct stub_options *o) {
    if (o->agents <= 0)
        return AGENTS_DEFAULT;
    return o->agents > AGENTS_MAX ? AGENTS_MAX : o->agents;
}

struct stub *stub_start(const struct stub_options *o, const char **why) {
    struct stub *stub = must_zalloc(sizeof *stub);
    stub->address = must_strdup(o->address ? o->address : "127.0.0.1");
    stub->secret = must_strdup(o->jwt_secret ? o->jwt_secret : STUB_JWT_SECRET);
    stub->initial = (struct stub_set){.connect_cost_ms = o->connect_cost_ms,
                                      .bulk = o->bulk,
                                      .bulk_fail_status = 500,
                                      .token_ttl_s = o->token_ttl_s ? o->token_ttl_s : TOKEN_TTL_S};
    stub->set = stub->initial;
    stub->answer = on_request;
    stub->port_keeper = -1;
    stub->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    stub->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    stub->agents = stub_agents_new(agent_count(o));
    stub->log = stub_log_new();
    list_init(&stub->calls);
    *why = o->journal_file && !stub_log_keep(stub->log, o->journal_file)
               ? "the journal cannot be opened"
               : open_all(stub, o);
    if (!*why)
        return stub;
    stub_free(stub);
    return NULL;
}

void stub_stop(struct stub *stub) {
    if (stub)
        stub_free(stub);
}

int stub_port(const struct stub *stub) {
    return stub->port;
}

int stub_control_port(const struct stub *stub) {
    return stub->control_port;
}

void stub_counts(const struct stub *stub, struct stub_counts *out) {
    counters_read(&stub->counts, out);
}
