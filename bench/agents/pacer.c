#include "agents/pacer.h"

#include <event2/event.h>
#include <sys/timerfd.h>
#include <unistd.h>

static void on_due(evutil_socket_t fd, short what, void *arg) {
    (void)what;
    struct pacer *p = arg;
    uint64_t expirations;
    if (read(fd, &expirations, sizeof expirations) != (ssize_t)sizeof expirations)
        return; /* set anew meanwhile */
    p->at_us = INT64_MAX;
    p->call(p->arg);
}

bool pacer_init(struct pacer *p, struct loop *loop, void (*call)(void *arg), void *arg) {
    *p = (struct pacer){.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC),
                        .at_us = INT64_MAX,
                        .call = call,
                        .arg = arg};
    if (p->fd < 0)
        return false;
    event_assign(&p->event, loop->base, p->fd, EV_READ | EV_PERSIST, on_due, p);
    event_add(&p->event, NULL);
    return true;
}

void pacer_set(struct pacer *p, int64_t at_us) {
    if (p->at_us == at_us)
        return;
    p->at_us = at_us;
    if (at_us < 1)
        at_us = 1; /* all zero would disarm it */
    struct itimerspec when = {
        .it_value = {.tv_sec = at_us / 1000000, .tv_nsec = at_us % 1000000 * 1000}};
    if (p->at_us == INT64_MAX)
        when = (struct itimerspec){.it_value = {0, 0}};
    timerfd_settime(p->fd, TFD_TIMER_ABSTIME, &when, NULL);
}

void pacer_release(struct pacer *p) {
    if (p->fd < 0)
        return;
    event_del(&p->event);
    close(p->fd);
    p->fd = -1;
}
