/* Time passes TIMELAPSE times as fast for the program this is preloaded into: its monotonic clocks
 * run ahead and epoll_wait waits accordingly less. Deadlines of half a minute are seen in a second,
 * in the real binary. The wall clock is left alone. */
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>

static long factor = 1;
static struct timespec began;

static int (*real_clock)(clockid_t, struct timespec *);
static int (*real_wait)(int, struct epoll_event *, int, int);

__attribute__((constructor)) static void prepare(void) {
    const char *given = getenv("TIMELAPSE");
    *(void **)&real_clock = dlsym(RTLD_NEXT, "clock_gettime");
    *(void **)&real_wait = dlsym(RTLD_NEXT, "epoll_wait");
    factor = given ? strtol(given, NULL, 10) : 1;
    real_clock(CLOCK_MONOTONIC, &began);
}

int clock_gettime(clockid_t clock, struct timespec *out) {
    int result = real_clock(clock, out);
    if (result != 0 || (clock != CLOCK_MONOTONIC && clock != CLOCK_MONOTONIC_COARSE))
        return result;
    /* The coarse clock may lag behind `began` by a tick: no matter, the sum stays in order. */
    long long ns = (out->tv_sec - began.tv_sec) * 1000000000LL + (out->tv_nsec - began.tv_nsec);
    long long total = began.tv_nsec + ns * factor;
    out->tv_sec = began.tv_sec + total / 1000000000LL;
    out->tv_nsec = total % 1000000000LL;
    if (out->tv_nsec < 0) {
        out->tv_sec--;
        out->tv_nsec += 1000000000L;
    }
    return 0;
}

int epoll_wait(int fd, struct epoll_event *events, int max, int timeout_ms) {
    int wait_ms = timeout_ms > 0 ? (int)((timeout_ms + factor - 1) / factor) : timeout_ms;
    return real_wait(fd, events, max, wait_ms);
}
