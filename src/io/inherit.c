#include "io/inherit.h"

#include "base/panic.h"
#include "base/str.h"
#include "io/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FIRST = 3 }; /* SD_LISTEN_FDS_START */

/* ---- what the environment says ---- */

static const char *value_of(char *const *environment, const char *name) {
    size_t len = strlen(name);
    for (; *environment; environment++)
        if (strncmp(*environment, name, len) == 0 && (*environment)[len] == '=')
            return *environment + len + 1;
    return "";
}

/* 0 for anything but a plain number. */
static long number_of(char *const *environment, const char *name) {
    const char *text = value_of(environment, name);
    char *end;
    if (*text < '1' || *text > '9')
        return 0;
    long number = strtol(text, &end, 10);
    return *end == '\0' ? number : 0;
}

bool inherit_has_parent(char *const *environment) {
    return number_of(environment, "LISTEN_PARENT") == getppid();
}

/* Meant for us, or left over from somebody before? */
static size_t count_all(char *const *environment) {
    bool ours = number_of(environment, "LISTEN_PID") == getpid() || inherit_has_parent(environment);
    long count = ours ? number_of(environment, "LISTEN_FDS") : 0;
    return count > 0 && count <= INHERIT_MAX ? (size_t)count : 0;
}

static struct span next_name(struct span *names) {
    const char *colon = names->len > 0 ? memchr(names->ptr, ':', names->len) : NULL;
    struct span name = {names->ptr, colon ? (size_t)(colon - names->ptr) : names->len};
    *names = span_from(*names, name.len + 1);
    return name;
}

/* The descriptors of that name and place; returns how many. */
static size_t find(char *const *environment, const char *name, const char *address, int port,
                   int found[INHERIT_MAX]) {
    size_t all = count_all(environment), count = 0;
    struct span names = span_of(value_of(environment, "LISTEN_FDNAMES"));
    for (size_t i = 0; i < all; i++) {
        int fd = FIRST + (int)i;
        if (span_equal(next_name(&names), span_of(name)) && listener_is_at(fd, address, port))
            found[count++] = fd;
    }
    return count;
}

size_t inherit_count(char *const *environment, const char *name, const char *address, int port) {
    int found[INHERIT_MAX];
    return find(environment, name, address, port, found);
}

int inherit_take(char *const *environment, const char *name, size_t number, const char *address,
                 int port, int *bound_port) {
    int found[INHERIT_MAX];
    size_t count = find(environment, name, address, port, found);
    if (count == 0)
        return -1;
    int fd = fcntl(found[number % count], F_DUPFD_CLOEXEC, FIRST);
    if (fd < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        return -1;
    *bound_port = listener_port(fd);
    return fd;
}

void inherit_close(char *const *environment) {
    size_t all = count_all(environment);
    for (size_t i = 0; i < all; i++)
        close(FIRST + (int)i);
}

void inherit_announce(char *const *environment) {
    if (inherit_has_parent(environment) && getppid() > 1)
        (void)kill(getppid(), SIGUSR1);
}

/* ---- to the successor ---- */

struct heir {
    char **environment;
    char pid[32], fds[32];
    char names[16 * INHERIT_MAX];
    posix_spawn_file_actions_t actions;
    int copies[INHERIT_MAX];
    size_t copy_count;
};

static bool is_about_listening(const char *variable) {
    return strncmp(variable, "LISTEN_", strlen("LISTEN_")) == 0;
}

static void spell_environment(struct heir *h, char *const *environment,
                              const struct legacy *legacies, size_t count) {
    struct str names, pid, fds;
    size_t n = 0, kept = 0;
    str_init_fixed(&names, h->names, sizeof h->names);
    str_init_fixed(&pid, h->pid, sizeof h->pid);
    str_init_fixed(&fds, h->fds, sizeof h->fds);
    str_addf(&pid, "LISTEN_PARENT=%ld%c", (long)getpid(), '\0');
    str_addf(&fds, "LISTEN_FDS=%zu%c", count, '\0');
    STR_ADD(&names, "LISTEN_FDNAMES=");
    for (size_t i = 0; i < count; i++)
        str_addf(&names, "%s%s", i > 0 ? ":" : "", legacies[i].name);
    str_add_char(&names, '\0');
    invariant(!names.overflow);
    while (environment[n])
        n++;
    h->environment = must_zalloc((n + 4) * sizeof *h->environment);
    for (size_t i = 0; i < n; i++)
        if (!is_about_listening(environment[i]))
            h->environment[kept++] = environment[i];
    h->environment[kept++] = h->pid;
    h->environment[kept++] = h->fds;
    h->environment[kept] = h->names;
}

/* Copies above all places first: a socket may stand where another one is to go. */
static bool place_sockets(struct heir *h, const struct legacy *legacies, size_t count) {
    for (size_t i = 0; i < count; i++) {
        int copy = fcntl(legacies[i].fd, F_DUPFD_CLOEXEC, FIRST + INHERIT_MAX);
        if (copy < 0)
            return false;
        h->copies[h->copy_count++] = copy;
        posix_spawn_file_actions_adddup2(&h->actions, copy, FIRST + (int)i);
    }
    return true;
}

static pid_t spawn(const struct heir *h, char *const *argv) {
    posix_spawnattr_t how;
    sigset_t none;
    pid_t pid = -1;
    sigemptyset(&none);
    posix_spawnattr_init(&how);
    posix_spawnattr_setsigmask(&how, &none);
    posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSIGMASK);
    int error = posix_spawnp(&pid, argv[0], &h->actions, &how, argv, h->environment);
    posix_spawnattr_destroy(&how);
    errno = error;
    return error == 0 ? pid : -1;
}

pid_t inherit_spawn(char *const *argv, char *const *environment, const struct legacy *legacies,
                    size_t count) {
    struct heir h = {.copy_count = 0};
    invariant(count <= INHERIT_MAX);
    posix_spawn_file_actions_init(&h.actions);
    spell_environment(&h, environment, legacies, count);
    pid_t pid = place_sockets(&h, legacies, count) ? spawn(&h, argv) : -1;
    int error = errno;
    for (size_t i = 0; i < h.copy_count; i++)
        close(h.copies[i]);
    posix_spawn_file_actions_destroy(&h.actions);
    free(h.environment);
    errno = error;
    return pid;
}
