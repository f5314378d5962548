#include "agents/lag.h"

#include "base/clock.h"

#include <event2/event.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { TICK_US = 1000 };

static void on_tick(evutil_socket_t fd, short what, void *arg) {
    (void)what;
    struct lag *lag = arg;
    uint64_t ticks = 0;
    if (read(fd, &ticks, sizeof ticks) != (ssize_t)sizeof ticks)
        return;
    int64_t now_us = clock_mono_us();
    for (; ticks > 0; ticks--, lag->next_us += TICK_US)
        record_lag(lag->record, now_us - lag->next_us);
}

bool lag_start(struct lag *lag, struct loop *loop, struct record *record) {
    *lag = (struct lag){.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC),
                        .next_us = clock_mono_us() + TICK_US,
                        .record = record};
    if (lag->fd < 0)
        return false;
    struct itimerspec every = {
        .it_interval = {.tv_nsec = TICK_US * 1000},
        .it_value = {.tv_sec = lag->next_us / 1000000, .tv_nsec = lag->next_us % 1000000 * 1000}};
    timerfd_settime(lag->fd, TFD_TIMER_ABSTIME, &every, NULL);
    event_assign(&lag->event, loop->base, lag->fd, EV_READ | EV_PERSIST, on_tick, lag);
    event_add(&lag->event, NULL);
    return true;
}

void lag_stop(struct lag *lag) {
    if (lag->fd < 0)
        return;
    event_del(&lag->event);
    close(lag->fd);
    lag->fd = -1;
}
