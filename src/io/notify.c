#include "io/notify.h"

#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const char *find_socket(char *const *environment) {
    static const char name[] = "NOTIFY_SOCKET=";
    for (; *environment; environment++)
        if (strncmp(*environment, name, sizeof name - 1) == 0)
            return *environment + sizeof name - 1;
    return "";
}

/* A path, or "@name" in the abstract namespace, where the first byte is a zero. 0: neither. */
static socklen_t make_address(const char *name, struct sockaddr_un *out) {
    size_t len = strlen(name);
    bool is_abstract = name[0] == '@';
    if ((!is_abstract && name[0] != '/') || len < 2 || len >= sizeof out->sun_path)
        return 0;
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(out->sun_path, name, len);
    if (is_abstract)
        out->sun_path[0] = '\0';
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

bool notify_tell(char *const *environment, const char *state) {
    struct sockaddr_un address;
    const char *name = find_socket(environment);
    if (*name == '\0')
        return true;
    socklen_t address_len = make_address(name, &address);
    int fd = address_len > 0 ? socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
    if (fd < 0)
        return false;
    ssize_t sent = sendto(fd, state, strlen(state), MSG_DONTWAIT | MSG_NOSIGNAL,
                          (const struct sockaddr *)&address, address_len);
    (void)close(fd);
    return sent == (ssize_t)strlen(state);
}
