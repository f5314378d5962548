/* One connection to Redis, or to a sentinel: commands out, replies in, in order. Private to
 * io/redis*.c. Knows nothing of what is said. */
#pragma once

#include "base/list.h"
#include "base/str.h"
#include "io/redis.h"
#include "io/stream.h"
#include "rules/redis/reply_limit.h"

struct redisReader;
struct redisReply;

/* A command whose reply is awaited. */
struct redis_pending {
    struct list link;
    int64_t since_ms; /* monotonic */
    redis_done *done;
    void *arg;
    int script;      /* -1: none */
    size_t text_len; /* 0: it is not to be sent a second time */
    char text[];     /* as it was sent, of a script that may have to be sent whole */
};

struct redis_link_events {
    void (*on_ready)(void *arg);
    /* Takes `p`. The reply may be an error. The link may be closed in it. */
    void (*on_reply)(void *arg, struct redis_pending *p, const struct redisReply *reply);
    void (*on_ended)(void *arg, enum redis_trouble trouble);
};

struct redis_link {
    struct loop *loop;
    struct stream stream;
    bool open, ready;
    struct redisReader *reader;
    struct reply_limit limit; /* of the replies that are being read */
    struct str out;           /* commands of this turn of the loop */
    struct list pending;      /* oldest first */
    size_t count;
    int64_t timeout_ms;
    struct event flush;
    struct timer deadline;
    const struct redis_link_events *on;
    void *arg;
};

struct sockaddr;

void redis_link_init(struct redis_link *l, struct loop *loop, const struct redis_link_events *on,
                     void *arg);
void redis_link_release(struct redis_link *l);

/* False: no socket could be had. */
bool redis_link_open(struct redis_link *l, const struct sockaddr *address, unsigned int address_len,
                     SSL_CTX *tls, const char *host, int64_t timeout_ms);
/* Nobody is told; what is pending stays for redis_link_take. Idempotent. */
void redis_link_close(struct redis_link *l);

/* Adds a command to what this turn sends. */
void redis_link_command(struct redis_link *l, const struct span *words, size_t count,
                        redis_done *done, void *arg);
/* The same for a script; what is sent stays in the pending command's `text`. */
void redis_link_script(struct redis_link *l, int script, const struct span *words, size_t count,
                       redis_done *done, void *arg);
/* Adds bytes that are a command; takes `p`. */
void redis_link_send(struct redis_link *l, struct span command, struct redis_pending *p);
/* Bytes that were not taken by the kernel yet. */
size_t redis_link_unsent(const struct redis_link *l);
/* The oldest pending, which is pending no more; NULL: none. */
struct redis_pending *redis_link_take(struct redis_link *l);
int64_t redis_link_lag_ms(const struct redis_link *l);

void redis_pending_free(struct redis_pending *p);
