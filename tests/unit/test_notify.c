#include "io/notify.h"

#include <criterion/criterion.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* A service manager's socket in the abstract namespace, and its name as the environment has it. */
static int listen_as(char *variable, size_t size) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char name[64];
    int len = snprintf(name, sizeof name, "aiwm-gateway-notify-%ld", (long)getpid());
    memcpy(address.sun_path + 1, name, (size_t)len);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&address,
                      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len)),
                 0);
    (void)snprintf(variable, size, "NOTIFY_SOCKET=@%s", name);
    return fd;
}

Test(notify, sends_one_datagram_to_whoever_asked) {
    char variable[128], got[64] = "";
    int fd = listen_as(variable, sizeof variable);
    char other[] = "HOME=/";
    char *environment[] = {other, variable, NULL};
    cr_expect(notify_tell(environment, "READY=1\nSTATUS=Serving"));
    cr_expect_eq(recv(fd, got, sizeof got - 1, MSG_DONTWAIT), 22);
    cr_expect_str_eq(got, "READY=1\nSTATUS=Serving");
    (void)close(fd);
}

Test(notify, nobody_asked) {
    char empty[] = "NOTIFY_SOCKET=", other[] = "NOTIFY_SOCKETS=/x";
    char *none[] = {NULL}, *set_to_nothing[] = {empty, NULL}, *another[] = {other, NULL};
    cr_expect(notify_tell(none, "READY=1"));
    cr_expect(notify_tell(set_to_nothing, "READY=1"));
    cr_expect(notify_tell(another, "READY=1"));
}

Test(notify, says_when_nobody_can_be_told) {
    static const char *const names[] = {"/no/such/socket", "@nobody-listens-here", "relative", "@",
                                        "/"};
    char variable[300], *environment[] = {variable, NULL};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)snprintf(variable, sizeof variable, "NOTIFY_SOCKET=%s", names[i]);
        cr_expect_not(notify_tell(environment, "READY=1"), "%s", names[i]);
    }
    (void)snprintf(variable, sizeof variable, "NOTIFY_SOCKET=/%0200d", 0);
    cr_expect_not(notify_tell(environment, "READY=1"), "too long");
}
