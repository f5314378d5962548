#include "io/files.h"

#include "base/panic.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A static text, never NULL. */
static const char *system_reason(void) {
    const char *reason = strerrordesc_np(errno);
    return reason ? reason : "unknown error";
}

/* NULL when `fd` is a file that may be read; *size is then what it holds now. */
static const char *judge(int fd, size_t *size) {
    struct stat facts;
    if (fstat(fd, &facts) != 0)
        return system_reason();
    if (S_ISDIR(facts.st_mode))
        return "it is a directory, not a file";
    if (!S_ISREG(facts.st_mode))
        return "it is a pipe, socket or device, not a regular file";
    if (facts.st_size > FILES_MAX)
        return "it is larger than 1 MiB";
    *size = (size_t)facts.st_size;
    return NULL;
}

/* Up to `size` bytes, fewer only at the end of the file. */
static const char *fill(int fd, char *bytes, size_t size, size_t *len) {
    *len = 0;
    while (*len < size) {
        ssize_t got = read(fd, bytes + *len, size - *len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return system_reason();
        if (got == 0)
            break;
        *len += (size_t)got;
    }
    return NULL;
}

static char *read_open(int fd, size_t *len, const char **why) {
    size_t size = 0;
    *why = judge(fd, &size);
    if (*why)
        return NULL;
    /* One byte more than there should be shows a file that is being written to; half of a new
     * secret must not be taken for one. */
    char *bytes = must_alloc(size + 1);
    size_t got = 0;
    *why = fill(fd, bytes, size + 1, &got);
    if (!*why && got != size)
        *why = "it changed while it was read";
    if (!*why) {
        bytes[size] = '\0';
        *len = size;
        return bytes;
    }
    explicit_bzero(bytes, size + 1);
    free(bytes);
    return NULL;
}

char *files_read(void *unused, const char *path, size_t *len, const char **why) {
    (void)unused;
    /* O_NONBLOCK: opening a fifo would wait for a writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        *why = system_reason();
        return NULL;
    }
    char *bytes = read_open(fd, len, why);
    (void)close(fd);
    return bytes;
}

void files_fill_standard(void) {
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}
