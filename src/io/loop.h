/* One worker's event loop: libevent's base, timers, and the scratch memory that all its
 * connections share. Not thread safe, except mailbox_post (mailbox.h). */
#pragma once

#include "base/list.h"
#include "base/str.h"

#include <event2/event_struct.h>
#include <openssl/types.h>
#include <stdint.h>

enum {
    /* One recv takes at most this much; more stays in the kernel until the next turn. */
    LOOP_SCRATCH = 65536,
};

struct loop {
    struct event_base *base;
    char *cipher;    /* LOOP_SCRATCH bytes: TLS records as received */
    char *plain;     /* LOOP_SCRATCH bytes: what they held, or what a plain socket received */
    struct str out;  /* what goes into one send */
    struct str text; /* an answer or a request head under construction */
    int64_t date_s;  /* the second that `date` spells */
    char date[32];   /* an HTTP date, terminated */
    BIO *bio;        /* OpenSSL's side of all streams: see stream_tls.c; NULL: none yet */
};

void loop_init(struct loop *loop);
void loop_release(struct loop *loop);
/* Runs until loop_stop. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);
/* Is it the calling thread that runs it? */
bool loop_is_ours(const struct loop *loop);
/* The current HTTP date, spelled once a second. */
struct span loop_date(struct loop *loop);

/* A one-shot timer, embedded by value; timer_init once, timer_stop before its memory goes. */
struct timer {
    struct event event;
    void (*call)(void *arg);
    void *arg;
};

void timer_init(struct timer *t, struct loop *loop, void (*call)(void *arg), void *arg);
/* (Re)starts it; fires once after `ms` milliseconds (0: in the next turn). */
void timer_start(struct timer *t, int64_t ms);
void timer_stop(struct timer *t);
bool timer_pending(const struct timer *t);
