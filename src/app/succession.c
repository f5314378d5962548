#include "app/succession.h"

#include "base/log.h"
#include "base/panic.h"
#include "io/inherit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct succession {
    char *const *argv, *const *environment;
    struct legacy legacies[INHERIT_MAX];
    size_t count;
    pid_t heir; /* 0: none */
};

struct succession *succession_new(char *const *argv, char *const *environment) {
    struct succession *s = must_zalloc(sizeof *s);
    s->argv = argv;
    s->environment = environment;
    return s;
}

void succession_keep(struct succession *s, const char *name, int fd) {
    int copy = s->count < INHERIT_MAX ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (copy >= 0)
        s->legacies[s->count++] = (struct legacy){name, copy};
}

/* Why there can be no successor; NULL: there can. */
static const char *obstacle(const struct succession *s) {
    if (!s->argv)
        return "the demo has none";
    if (s->heir != 0)
        return "one is starting already";
    if (s->count == 0)
        return "this process is draining";
    /* The container ends with it, and whoever runs in it. */
    return getpid() == 1 ? "this process is the container's first; start another container" : NULL;
}

void succession_begin(struct succession *s) {
    const char *why = obstacle(s);
    if (why) {
        log_warn("no successor is started", F_TEXT("why", why));
        return;
    }
    pid_t pid = inherit_spawn(s->argv, s->environment, s->legacies, s->count);
    if (pid < 0) {
        log_error("a successor cannot be started", F_TEXT("file", s->argv[0]),
                  F_TEXT("error", strerror(errno)));
        return;
    }
    s->heir = pid;
    log_info("a successor starts", F_INT("pid", pid), F_INT("sockets", (int64_t)s->count));
}

void succession_look(struct succession *s) {
    int status = 0;
    if (s->heir == 0 || waitpid(s->heir, &status, WNOHANG) != s->heir)
        return;
    s->heir = 0;
    log_error("the successor has ended, this process goes on",
              F_INT("exit_code", WIFEXITED(status) ? WEXITSTATUS(status) : -1));
}

bool succession_is_under_way(const struct succession *s) {
    return s->heir != 0;
}

void succession_release(struct succession *s) {
    for (size_t i = 0; i < s->count; i++)
        close(s->legacies[i].fd);
    s->count = 0;
}

void succession_free(struct succession *s) {
    if (!s)
        return;
    succession_release(s);
    free(s);
}
