#include "agents/target.h"

#include "io/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- the URL ---- */

static bool complain(char why[TARGET_WHY], const char *what, const char *about) {
    (void)snprintf(why, TARGET_WHY, "%s: %.100s", what, about);
    return false;
}

static bool take_scheme(struct target *t, const char **at) {
    t->tls = strncmp(*at, "https://", 8) == 0;
    if (!t->tls && strncmp(*at, "http://", 7) != 0)
        return false;
    *at += t->tls ? 8 : 7;
    t->port = t->tls ? 443 : 80;
    return true;
}

static bool take_host(struct target *t, const char **at) {
    bool bracket = **at == '[';
    const char *start = *at + bracket;
    size_t len = strcspn(start, bracket ? "]" : ":/");
    if (len == 0 || len >= sizeof t->host || strspn(start, "\r\n @?#") > 0)
        return false;
    memcpy(t->host, start, len);
    *at = start + len;
    if (bracket && *(*at)++ != ']')
        return false;
    return true;
}

static bool take_port(struct target *t, const char **at) {
    char *end;
    if (**at != ':')
        return true;
    long port = strtol(*at + 1, &end, 10);
    t->port = (int)port;
    bool fine = end > *at + 1 && port > 0 && port < 65536;
    *at = end;
    return fine;
}

static bool take_prefix(struct target *t, const char *at) {
    size_t len = strlen(at);
    while (len > 0 && at[len - 1] == '/')
        len--;
    if (len >= sizeof t->prefix || (len > 0 && *at != '/') || strpbrk(at, "?# \r\n"))
        return false;
    memcpy(t->prefix, at, len);
    return true;
}

bool target_parse(const char *url, struct target *out, char why[TARGET_WHY]) {
    *out = (struct target){.port = 0};
    const char *at = url;
    if (!take_scheme(out, &at) || !take_host(out, &at) || !take_port(out, &at) ||
        !take_prefix(out, at))
        return complain(why, "not a URL like https://127.0.0.1:8443", url);
    bool is_ipv6 = strchr(out->host, ':') != NULL;
    (void)snprintf(out->authority, sizeof out->authority, is_ipv6 ? "[%s]:%d" : "%s:%d", out->host,
                   out->port);
    return true;
}

/* ---- where it is ---- */

bool target_resolve(struct target *t, char why[TARGET_WHY]) {
    char port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    (void)snprintf(port, sizeof port, "%d", t->port);
    int error = getaddrinfo(t->host, port, &hints, &found);
    if (error != 0)
        return complain(why, gai_strerror(error), t->host);
    memcpy(&t->at, found->ai_addr, found->ai_addrlen);
    t->at_len = found->ai_addrlen;
    freeaddrinfo(found);
    return true;
}

static bool is_127(const struct target *t) {
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)&t->at;
    return t->at.ss_family == AF_INET && (ntohl(in->sin_addr.s_addr) >> 24) == 127;
}

bool target_is_loopback(const struct target *t) {
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)&t->at;
    return is_127(t) || (t->at.ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr));
}

bool target_trust(struct target *t, struct span ca_pem, bool insecure, char why[TARGET_WHY]) {
    char tls_why[TLS_WHY] = "";
    if (!t->tls)
        return true;
    t->ctx = tls_client_new(ca_pem, tls_why);
    if (!t->ctx)
        return complain(why, "TLS", tls_why);
    if (insecure)
        SSL_CTX_set_verify(t->ctx, SSL_VERIFY_NONE, NULL);
    return true;
}

void target_release(struct target *t) {
    SSL_CTX_free(t->ctx);
    t->ctx = NULL;
}

/* ---- sockets ---- */

/* The port is chosen when the connection is made: the same one may then serve several sources. */
static bool bind_source(const struct target *t, int fd, size_t n) {
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr.s_addr =
                                   htonl(INADDR_LOOPBACK + t->first + (uint32_t)(n % t->sources))};
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){1}, sizeof(int));
    return bind(fd, (struct sockaddr *)&from, sizeof from) == 0;
}

int target_socket(const struct target *t, size_t n) {
    int fd = socket(t->at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    bool fine = t->sources == 0 || !is_127(t) || bind_source(t, fd, n);
    if (fine &&
        (connect(fd, (const struct sockaddr *)&t->at, t->at_len) == 0 || errno == EINPROGRESS))
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}
