/* How one worker tells another something: a locked queue and an eventfd; who posts to itself only
 * needs a turn of its loop.
 * Posting is thread safe; receiving happens in the owner's loop, in the order of posting. */
#pragma once

#include "base/list.h"
#include "io/loop.h"

#include <pthread.h>

/* Embed in what is sent. Ownership goes to the receiver. */
struct letter {
    struct list link;
    void (*deliver)(struct letter *letter, void *receiver);
};

struct mailbox {
    pthread_mutex_t lock;
    struct list letters;
    struct loop *loop;
    int wake_fd;
    struct event wake;
    struct timer turn;
    void *receiver;
};

void mailbox_init(struct mailbox *box, struct loop *loop, void *receiver);
/* Delivers what is still there, then closes. */
void mailbox_release(struct mailbox *box);
void mailbox_post(struct mailbox *box, struct letter *letter);
