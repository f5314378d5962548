#include "agents/own_redis.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void own_redis_init(struct own_redis *r) {
    *r = (struct own_redis){.port = 0};
    child_init(&r->child);
}

/* One that nobody has just now; 0 on failure. */
static int free_port(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool fine = fd >= 0 && bind(fd, (struct sockaddr *)&at, size) == 0 &&
                getsockname(fd, (struct sockaddr *)&at, &size) == 0;
    if (fd >= 0)
        close(fd);
    return fine ? ntohs(at.sin_port) : 0;
}

static bool choose_place(struct own_redis *r) {
    const char *temporary = getenv("TMPDIR");
    if (r->port == 0)
        r->port = free_port();
    if (r->directory[0])
        return true;
    int len = snprintf(r->directory, sizeof r->directory, "%s/aiwm-bench-XXXXXX",
                       temporary ? temporary : "/tmp");
    if (len < 0 || (size_t)len >= sizeof r->directory || !mkdtemp(r->directory))
        r->directory[0] = '\0';
    return r->port > 0 && r->directory[0];
}

static bool await_ready(struct own_redis *r, int ms) {
    char line[CHILD_LINE];
    int64_t end_ms = clock_mono_ms() + ms;
    while (clock_mono_ms() < end_ms &&
           child_read_line(&r->child, line, (int)(end_ms - clock_mono_ms())))
        if (strstr(line, "Ready to accept connections"))
            return true;
    return false;
}

bool own_redis_start(struct own_redis *r, int ms) {
    char port[16];
    if (!choose_place(r))
        return false;
    (void)snprintf(port, sizeof port, "%d", r->port);
    const char *argv[] = {"/usr/bin/env", "redis-server", "--port", port,           "--bind",
                          "127.0.0.1",    "--save",       "",       "--appendonly", "yes",
                          "--dir",        r->directory,   NULL};
    return child_start(&r->child, argv, environ, 0) && await_ready(r, ms);
}

static int remove_one(const char *path, const struct stat *what, int kind, struct FTW *where) {
    (void)what;
    (void)kind;
    (void)where;
    (void)remove(path);
    return 0;
}

void own_redis_stop(struct own_redis *r, int ms) {
    enum { LEVELS = 4 };
    child_stop(&r->child, ms);
    if (r->directory[0])
        (void)nftw(r->directory, remove_one, LEVELS, FTW_DEPTH | FTW_PHYS);
    r->directory[0] = '\0';
}
