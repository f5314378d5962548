#include "stub/descriptors.h"

#include <sys/resource.h>

enum { WANTED = 65536, USUAL = 1024 };

size_t descriptors_raise(void) {
    struct rlimit limit, more = {.rlim_cur = WANTED, .rlim_max = WANTED};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return USUAL;
    if (limit.rlim_max < WANTED && setrlimit(RLIMIT_NOFILE, &more) == 0)
        return WANTED;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    return (size_t)limit.rlim_cur;
}
