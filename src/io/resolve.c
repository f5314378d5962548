#include "io/resolve.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/panic.h"

#include <arpa/inet.h>
#include <event2/dns.h>
#include <event2/util.h>
#include <stdio.h>
#include <stdlib.h>

enum { REMEMBER_MS = 30000 };

struct question {
    struct list link;
    void (*done)(void *arg, const struct resolved *found);
    void *arg;
};

struct resolver {
    struct loop *loop;
    struct evdns_base *dns; /* made for the first question */
    struct evdns_getaddrinfo_request *asking;
    struct list questions; /* all wait for the one request */
    char host[256], port[8];
    bool numeric, failing;
    struct resolved known;
    int64_t known_ms;
};

static void answer_all(struct resolver *r) {
    while (!list_empty(&r->questions)) {
        struct question *q = container_of(r->questions.next, struct question, link);
        list_remove(&q->link);
        q->done(q->arg, &r->known);
        free(q);
    }
}

static void note_result(struct resolver *r, int error) {
    if ((error != 0) == r->failing)
        return;
    r->failing = error != 0;
    if (r->failing)
        log_warn("a name cannot be resolved", F_TEXT("host", r->host),
                 F_TEXT("error", evutil_gai_strerror(error)));
    else
        log_info("a name is resolved again", F_TEXT("host", r->host));
}

static void remember(struct resolver *r, const struct evutil_addrinfo *found) {
    r->known.count = 0;
    r->known_ms = clock_mono_ms();
    for (; found && r->known.count < RESOLVED_MAX; found = found->ai_next) {
        struct resolved_address *to = &r->known.address[r->known.count];
        if (found->ai_addrlen > sizeof to->at)
            continue;
        memcpy(&to->at, found->ai_addr, found->ai_addrlen);
        to->len = (socklen_t)found->ai_addrlen;
        r->known.count++;
    }
}

static void on_answer(int error, struct evutil_addrinfo *found, void *arg) {
    struct resolver *r = arg;
    r->asking = NULL;
    if (error == EVUTIL_EAI_CANCEL)
        return;
    note_result(r, error);
    if (error == 0 && found)
        remember(r, found);
    if (found)
        evutil_freeaddrinfo(found);
    answer_all(r);
}

static struct evdns_base *make_dns(struct loop *loop) {
    struct evdns_base *dns = evdns_base_new(loop->base, EVDNS_BASE_INITIALIZE_NAMESERVERS |
                                                            EVDNS_BASE_DISABLE_WHEN_INACTIVE);
    if (dns)
        return dns;
    /* No resolv.conf: the hosts file may still know the name. */
    dns = evdns_base_new(loop->base, EVDNS_BASE_DISABLE_WHEN_INACTIVE);
    invariant(dns);
    evdns_base_load_hosts(dns, "/etc/hosts");
    return dns;
}

static void start_asking(struct resolver *r) {
    if (!r->dns)
        r->dns = make_dns(r->loop);
    struct evutil_addrinfo hints = {.ai_flags = EVUTIL_AI_ADDRCONFIG,
                                    .ai_family = AF_UNSPEC,
                                    .ai_socktype = SOCK_STREAM,
                                    .ai_protocol = IPPROTO_TCP};
    /* May answer from the hosts file before it returns; then there is no request to remember. */
    struct evdns_getaddrinfo_request *request =
        evdns_getaddrinfo(r->dns, r->host, r->port, &hints, on_answer, r);
    if (!list_empty(&r->questions))
        r->asking = request;
}

void resolver_ask(struct resolver *r, void (*done)(void *arg, const struct resolved *found),
                  void *arg) {
    bool known = r->known.count > 0 && (r->numeric || clock_mono_ms() - r->known_ms < REMEMBER_MS);
    if (known) {
        done(arg, &r->known);
        return;
    }
    struct question *q = must_zalloc(sizeof *q);
    q->done = done;
    q->arg = arg;
    list_push_back(&r->questions, &q->link);
    if (!r->asking)
        start_asking(r);
}

static bool parse_numeric(const char *host, int port, struct resolved *out) {
    struct resolved_address *to = &out->address[0];
    struct sockaddr_in *v4 = (struct sockaddr_in *)&to->at;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&to->at;
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        to->len = sizeof *v4;
    } else if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        to->len = sizeof *v6;
    }
    out->count = to->len > 0;
    return to->len > 0;
}

struct resolver *resolver_new(struct loop *loop, const char *host, int port) {
    struct resolver *r = must_zalloc(sizeof *r);
    r->loop = loop;
    list_init(&r->questions);
    (void)snprintf(r->host, sizeof r->host, "%s", host);
    (void)snprintf(r->port, sizeof r->port, "%d", port);
    r->numeric = parse_numeric(host, port, &r->known);
    return r;
}

void resolver_free(struct resolver *r) {
    if (r->asking)
        evdns_getaddrinfo_cancel(r->asking);
    list_each_safe (at, &r->questions)
        free(container_of(at, struct question, link));
    if (r->dns)
        evdns_base_free(r->dns, 0);
    free(r);
}
