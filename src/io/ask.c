#include "io/ask.h"

#include <errno.h>
#include <event2/util.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { STATUS_LINE = 12 }; /* bytes of "HTTP/1.1 200" */

static bool parse(const char *where, struct sockaddr_storage *out, int *len) {
    char text[80];
    bool port_alone = where[strspn(where, "0123456789")] == '\0';
    int size = snprintf(text, sizeof text, "%s%s", port_alone ? "127.0.0.1:" : "", where);
    *len = sizeof *out;
    if (size >= (int)sizeof text ||
        evutil_parse_sockaddr_port(text, (struct sockaddr *)out, len) < 0)
        return false;
    return out->ss_family == AF_INET6 ? ((struct sockaddr_in6 *)out)->sin6_port != 0
                                      : ((struct sockaddr_in *)out)->sin_port != 0;
}

/* A blocking socket whose every step has a deadline: Linux bounds connect by SO_SNDTIMEO, too. */
static int open_socket(int family, int64_t timeout_ms) {
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval limit = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
    if (fd >= 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    }
    return fd;
}

static int converse(int fd, const struct sockaddr_storage *to, int to_len, const char *path) {
    char request[256], answer[STATUS_LINE + 1] = "";
    int len = snprintf(request, sizeof request,
                       "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);
    if (connect(fd, (const struct sockaddr *)to, (socklen_t)to_len) < 0 ||
        send(fd, request, (size_t)len, MSG_NOSIGNAL) != len)
        return 0;
    if (recv(fd, answer, STATUS_LINE, MSG_WAITALL) != STATUS_LINE)
        return 0;
    if (strncmp(answer, "HTTP/1.1 ", 9) != 0)
        return 0;
    return (int)strtol(answer + 9, NULL, 10);
}

int ask_status(const char *where, const char *path, int64_t timeout_ms, const char **why) {
    struct sockaddr_storage to;
    int to_len;
    if (!parse(where, &to, &to_len)) {
        *why = "this is no address and port";
        return 0;
    }
    int fd = open_socket(to.ss_family, timeout_ms);
    errno = 0;
    int status = fd >= 0 ? converse(fd, &to, to_len, path) : 0;
    if (status == 0)
        *why = errno == ECONNREFUSED ? "nobody listens there" : "no answer";
    if (fd >= 0)
        (void)close(fd);
    return status;
}
