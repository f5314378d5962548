#include "io/conn.h"

#include "base/metric.h"
#include "base/panic.h"

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

/* Of this worker's. */
static bool evict_stranger(struct server *s) {
    if (list_empty(&s->strangers))
        return false;
    metric_add(METRIC_CONNECTIONS_EVICTED, 1);
    conn_lost(container_of(s->strangers.next, struct conn, stranger));
    return true;
}

/* Over the limit nothing is spent on the client, a TLS handshake least of all; unless there is a
 * stranger who has had his chance. */
static bool admit(struct server *s) {
    int64_t open = atomic_fetch_add(&s->limits->connections, 1) + 1;
    if (open <= s->limits->max_connections || evict_stranger(s))
        return true;
    atomic_fetch_sub(&s->limits->connections, 1);
    metric_add(METRIC_REFUSED_LIMIT, 1);
    return false;
}

static struct address address_of(const struct sockaddr *peer) {
    struct address a = {{0}};
    if (peer->sa_family == AF_INET)
        address_of_v4((const void *)&((const struct sockaddr_in *)(const void *)peer)->sin_addr,
                      &a);
    else if (peer->sa_family == AF_INET6)
        address_of_v6((const void *)&((const struct sockaddr_in6 *)(const void *)peer)->sin6_addr,
                      &a);
    return a;
}

/* Anybody else's PROXY header would be a claim about who he is. */
static bool may_connect(const struct server *s, const struct address *peer) {
    const struct server_limits *l = s->limits;
    if (!l->proxy_protocol || l->trusted_proxies.count == 0 ||
        networks_contain(&l->trusted_proxies, peer))
        return true;
    metric_add(METRIC_REFUSED_UNTRUSTED, 1);
    return false;
}

static void on_accept(void *arg, int fd, const struct sockaddr *peer, socklen_t peer_len) {
    struct server *s = arg;
    struct address address = address_of(peer);
    (void)peer_len;
    if (may_connect(s, &address) && admit(s))
        conn_new(s, fd, &address);
    else
        close(fd);
}

struct server *server_new(struct loop *loop, SSL_CTX *tls, struct server_limits *limits,
                          const struct server_events *on, void *arg) {
    struct server *s = must_zalloc(sizeof *s);
    *s = (struct server){.loop = loop, .tls = tls, .limits = limits, .on = on, .arg = arg};
    if (tls)
        SSL_CTX_up_ref(tls);
    list_init(&s->conns);
    list_init(&s->ready);
    list_init(&s->strangers);
    timer_init(&s->turn, loop, conn_turns, s);
    enum { REFUSAL_MAX = 4 * HTTP_HEAD_MAX };
    str_init(&s->fields, REFUSAL_MAX);
    str_init(&s->answer_body, REFUSAL_MAX);
    return s;
}

void server_listen(struct server *s, int listen_fd) {
    s->listener = listener_new(s->loop, listen_fd, on_accept, s);
}

void server_set_tls(struct server *s, SSL_CTX *tls) {
    invariant(s->tls && tls);
    SSL_CTX_up_ref(tls);
    SSL_CTX_free(s->tls);
    s->tls = tls;
}

void server_drain(struct server *s) {
    if (s->draining)
        return;
    s->draining = true;
    list_each_safe (at, &s->conns) {
        struct conn *c = container_of(at, struct conn, link);
        if (c->state == CONN_IDLE)
            conn_last_chance(c);
    }
    listener_finish(s->listener);
    s->listener = NULL;
}

size_t server_connections(const struct server *s) {
    return s->count;
}

void server_free(struct server *s) {
    listener_free(s->listener);
    list_each_safe (at, &s->conns)
        conn_lost(container_of(at, struct conn, link));
    timer_stop(&s->turn);
    SSL_CTX_free(s->tls);
    str_release(&s->fields);
    str_release(&s->answer_body);
    free(s);
}
