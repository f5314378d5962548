#include "io/mailbox.h"

#include "base/panic.h"

#include <event2/event.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void deliver_all(struct mailbox *box) {
    struct list taken;
    list_init(&taken);
    pthread_mutex_lock(&box->lock);
    while (!list_empty(&box->letters)) {
        struct list *l = box->letters.next;
        list_remove(l);
        list_push_back(&taken, l);
    }
    pthread_mutex_unlock(&box->lock);
    while (!list_empty(&taken)) {
        struct letter *letter = container_of(taken.next, struct letter, link);
        list_remove(&letter->link);
        letter->deliver(letter, box->receiver);
    }
}

static void on_wake(evutil_socket_t fd, short what, void *arg) {
    (void)what;
    uint64_t count;
    if (read((int)fd, &count, sizeof count) == sizeof count)
        deliver_all(arg);
}

static void on_turn(void *arg) {
    deliver_all(arg);
}

void mailbox_init(struct mailbox *box, struct loop *loop, void *receiver) {
    pthread_mutex_init(&box->lock, NULL);
    list_init(&box->letters);
    box->receiver = receiver;
    box->loop = loop;
    timer_init(&box->turn, loop, on_turn, box);
    box->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    invariant(box->wake_fd >= 0);
    event_assign(&box->wake, loop->base, box->wake_fd, EV_READ | EV_PERSIST, on_wake, box);
    event_add(&box->wake, NULL);
}

void mailbox_release(struct mailbox *box) {
    while (!list_empty(&box->letters)) /* a letter's receiver may post another */
        deliver_all(box);
    event_del(&box->wake);
    timer_stop(&box->turn);
    close(box->wake_fd);
    pthread_mutex_destroy(&box->lock);
}

static void wake(struct mailbox *box) {
    uint64_t one = 1;
    if (loop_is_ours(box->loop)) {
        timer_start(&box->turn, 0);
        return;
    }
    ssize_t n = write(box->wake_fd, &one, sizeof one);
    (void)n; /* only fails when the counter is full, and then the loop is awake already */
}

void mailbox_post(struct mailbox *box, struct letter *letter) {
    pthread_mutex_lock(&box->lock);
    bool was_empty = list_empty(&box->letters);
    list_push_back(&box->letters, &letter->link);
    pthread_mutex_unlock(&box->lock);
    if (was_empty)
        wake(box);
}
