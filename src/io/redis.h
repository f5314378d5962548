/* Redis, as one thread reaches it: one connection, commands pipelined, everything that was asked
 * in one turn of the loop sent together.
 *
 *   away --backoff--> (ask a sentinel) --> connecting --> greeting --> here --trouble--> away ...
 *
 * The greeting authenticates, asks ROLE (a replica is not written to), INFO (Cluster mode is
 * refused; is "durable" an empty word here?) and TIME, and loads the scripts. hiredis reads
 * replies only: it never touches a socket, so that TLS, deadlines and backoff are ours on every
 * version.
 *
 * TIME is asked again every 2 s: clocks drift, and an idle thread, too, knows within that and the
 * command timeout that its network is gone.
 *
 * No trouble of Redis reaches a caller as more than "no reply". It is counted by name
 * (redis_errors_total) and logged when it begins and when it is over, once a process.
 * Not thread safe: one client a thread. */
#pragma once

#include "base/span.h"
#include "io/loop.h"
#include "rules/redis/redis_reply.h"
#include "rules/redis/redis_url.h"

#include <openssl/ssl.h>
#include <stdatomic.h>

struct redis;
struct redis_reply;

/* A script and its name for the log. Sent by hash (EVALSHA); whole when Redis forgot it. */
struct redis_script {
    const char *name;
    const char *text;
};

/* What all clients of a process know together of one Redis; zero at the start. */
struct redis_health {
    _Atomic int clients, here;  /* clients made; clients that are connected and greeted */
    _Atomic int trouble;        /* enum redis_trouble; what was logged last */
    _Atomic int64_t trouble_ms; /* monotonic: when there was trouble last */
    _Atomic bool durable;       /* AOF on, and nothing is evicted */
    _Atomic bool warned, introduced;
    _Atomic bool oversized_told;  /* of a client that is aside: logged, once */
    _Atomic uint64_t rights_told; /* a bit each: missing rights that were logged */
};

struct redis_options {
    const char *name; /* for the log: "redis", "aiwm_events" */
    const struct redis_url *url;
    SSL_CTX *tls;         /* NULL: plain; referenced */
    struct span username; /* empty: the default user */
    struct span password; /* empty: none */
    struct span sentinel_password;
    int64_t connect_timeout_ms; /* name, connection, handshake and greeting together */
    int64_t command_timeout_ms; /* for each reply; over it the connection is given up */
    bool reads_only;            /* any role will do, and scripts are not loaded */
    /* It waits for news and notices late: what happens to it is counted, but it does not say
     * whether Redis is here (health, redis_up, the log). */
    bool aside;
    const struct redis_script *scripts; /* `script_count` of them, for redis_run */
    size_t script_count;
    struct redis_health *health; /* borrowed; shared by the clients of a process */
};

/* Told from the loop: here (true) after the greeting, away (false) when that was true before. All
 * pending commands have been told "no reply" by then. May be NULL. */
typedef void redis_state(void *arg, bool here);

/* Borrows `options` and what they point to until redis_free. Connects at once. */
struct redis *redis_new(struct loop *loop, const struct redis_options *options, redis_state *state,
                        void *arg);
/* Nobody is told anything. */
void redis_free(struct redis *r);

bool redis_is_here(const struct redis *r);
/* The first attempt has come to an end, good or bad. */
bool redis_was_tried(const struct redis *r);
enum redis_trouble redis_trouble(const struct redis *r);

/* Redis' own clock, microseconds since 1970, as far as we have heard of it (rules/redis/far_clock).
 * Before the first greeting: our wall clock. It follows: where Redis' clock is set back, or was
 * thought to be ahead, it goes back. */
int64_t redis_now_us(const struct redis *r);

/* While `done` is told "no reply": what Redis said instead of one; REDIS_NONE: nothing, it is away
 * or too late. */
enum redis_trouble redis_refusal(const struct redis *r);

/* How long the oldest command has been waiting for its reply, milliseconds; 0: none waits. */
int64_t redis_lag_ms(const struct redis *r);

/* `reply` NULL: none came (away, too late, an error reply). Valid during the call. */
typedef void redis_done(void *arg, const struct redis_reply *reply);

enum { REDIS_ARGS_MAX = 32, REDIS_PENDING_MAX = 16384, REDIS_PENDING_BYTES = 16 << 20 };

/* Copies the words. True: `done` is called exactly once, from the loop, never from inside this
 * call (redis_free excepted: then never). False: away, or too much is pending; never called. */
bool redis_command(struct redis *r, const struct span *words, size_t count, redis_done *done,
                   void *arg);
/* Runs options.scripts[script] with the first `key_count` words as KEYS, the rest as ARGV. */
bool redis_run(struct redis *r, size_t script, size_t key_count, const struct span *words,
               size_t count, redis_done *done, void *arg);

/* ---- replies: NULL and replies of another kind read as nothing ---- */

bool redis_is_nil(const struct redis_reply *reply); /* NULL too */
struct span redis_text(const struct redis_reply *reply);
int64_t redis_integer(const struct redis_reply *reply); /* a text of digits too; else 0 */
size_t redis_count(const struct redis_reply *reply);    /* of an array */
const struct redis_reply *redis_at(const struct redis_reply *reply, size_t i); /* or NULL */
