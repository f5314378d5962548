#include "agents/child.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

void child_init(struct child *c) {
    c->pid = 0;
    c->out = -1;
    c->have = 0;
}

/* In the child: only what is safe after fork. */
static _Noreturn void become(const char *const argv[], char *const env[], int nice_by, int out) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0); /* Ctrl-C is for us; we stop it in order */
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO); /* what a child in trouble repeats must not fill a disk */
    if (nice_by > 0)
        (void)!nice(nice_by); /* without it the child only takes more than it should */
    execve(argv[0], (char *const *)(uintptr_t)argv, env);
    _exit(127);
}

bool child_start(struct child *c, const char *const argv[], char *const env[], int nice_by) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return false;
    pid_t pid = fork();
    if (pid == 0)
        become(argv, env, nice_by, ends[1]);
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return false;
    }
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    *c = (struct child){.pid = pid, .out = ends[0]};
    return true;
}

static bool give_line(struct child *c, char line[CHILD_LINE]) {
    char *end = memchr(c->line, '\n', c->have);
    bool full = c->have == sizeof c->line - 1;
    if (!end && !full)
        return false;
    size_t len = end ? (size_t)(end - c->line) : c->have;
    memcpy(line, c->line, len);
    line[len] = '\0';
    size_t used = end ? len + 1 : len;
    memmove(c->line, c->line + used, c->have - used);
    c->have -= used;
    return true;
}

bool child_read_line(struct child *c, char line[CHILD_LINE], int ms) {
    int64_t end_ms = clock_mono_ms() + ms;
    while (!give_line(c, line)) {
        struct pollfd wait = {.fd = c->out, .events = POLLIN};
        int64_t left = end_ms - clock_mono_ms();
        if (left <= 0 || poll(&wait, 1, (int)left) <= 0)
            return false;
        ssize_t n = read(c->out, c->line + c->have, sizeof c->line - 1 - c->have);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return false;
        c->have += n > 0 ? (size_t)n : 0;
    }
    return true;
}

void child_drain(struct child *c) {
    char waste[16384];
    while (c->out >= 0 && read(c->out, waste, sizeof waste) == (ssize_t)sizeof waste)
        continue;
}

static void forget(struct child *c) {
    if (c->out >= 0)
        close(c->out);
    child_init(c);
}

void child_kill(struct child *c) {
    if (c->pid <= 0)
        return;
    kill(c->pid, SIGKILL);
    waitpid(c->pid, NULL, 0);
    forget(c);
}

bool child_ended(struct child *c) {
    if (c->pid > 0 && waitpid(c->pid, NULL, WNOHANG) == 0)
        return false;
    forget(c);
    return true;
}

void child_stop(struct child *c, int ms) {
    enum { LOOK_MS = 10 };
    if (c->pid <= 0)
        return;
    kill(c->pid, SIGCONT); /* it may have been paused */
    kill(c->pid, SIGTERM);
    for (int64_t end_ms = clock_mono_ms() + ms; clock_mono_ms() < end_ms;) {
        child_drain(c);
        if (child_ended(c))
            return;
        (void)poll(NULL, 0, LOOK_MS);
    }
    child_kill(c);
}
