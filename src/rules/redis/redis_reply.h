/* What Redis says about itself, read: error replies by name, INFO, ROLE. Pure. */
#pragma once

#include "base/span.h"
#include "base/str.h"

#include <stdint.h>

/* Why there is no Redis, or only half of one: one row each.
 *   symbol, name (of the metric's label), what error replies begin with (NULL: none does),
 *   does the connection end (else only the command failed), what the log says */
#define REDIS_TROUBLE_ROWS(X)                                                                      \
    X(NONE, "none", NULL, false, "")                                                               \
    X(UNREACHABLE, "unreachable", NULL, true, "it cannot be reached")                              \
    X(TIMEOUT, "timeout", NULL, true, "it does not answer in time")                                \
    X(CLOSED, "closed", NULL, true, "it closed the connection")                                    \
    X(TLS, "tls", NULL, true, "its certificate was not accepted, or ours was not")                 \
    X(PROTOCOL, "protocol", NULL, true, "it does not speak as Redis does")                         \
    X(OVERSIZED, "oversized", NULL, true, "a reply is larger than the gateway reads")              \
    X(AUTH, "auth", "WRONGPASS", true, "it refuses our user or password")                          \
    X(NOAUTH, "noauth", "NOAUTH", true, "it wants a password (redis.password_file)")               \
    X(NOPERM, "noperm", "NOPERM", false,                                                           \
      "our user may not do what the gateway needs (docs/redis.md has the ACL)")                    \
    X(LOADING, "loading", "LOADING", true, "it is still loading its data")                         \
    X(BUSY, "busy", "BUSY", true, "somebody's script keeps it busy")                               \
    X(READONLY, "readonly", "READONLY", true, "it is a replica now")                               \
    X(NO_MASTER, "no_master", NULL, true, "no sentinel knows a master")                            \
    X(MASTERDOWN, "masterdown", "MASTERDOWN", true, "it has lost its master")                      \
    X(CLUSTER, "cluster", "MOVED", true, "it runs in Cluster mode, which is not supported")        \
    X(FULL, "full", "OOM", false, "its memory is full (maxmemory)")                                \
    X(MISCONF, "misconf", "MISCONF", false, "it cannot write its snapshots to disk")               \
    X(NOREPLICAS, "noreplicas", "NOREPLICAS", false, "it has too few replicas to write")           \
    X(NOSCRIPT, "noscript", "NOSCRIPT", false, "it forgot our scripts")                            \
    X(OTHER, "other", NULL, false, "it refused a command")

enum redis_trouble {
#define X(symbol, name, prefix, ends, text) REDIS_##symbol,
    REDIS_TROUBLE_ROWS(X)
#undef X
        REDIS_TROUBLE_COUNT
};

struct redis_trouble_row {
    const char *name;
    const char *prefix; /* NULL: no error reply's name */
    bool ends_connection;
    const char *text;
};

const struct redis_trouble_row *redis_trouble_row(enum redis_trouble t);

/* Which trouble an error reply ("NOPERM this user has no permissions ...") is. A script's error
 * carries the name of the command's error inside. */
enum redis_trouble redis_error_name(struct span error);

/* Which right it is that a NOPERM misses, as an ACL spells it ("zadd", "script|load"); empty where
 * the error does not say, as of scripts before Redis 7.2. Nothing else of an error is let through.
 */
struct span redis_missing_right(struct span error);

/* All rights that a script of ours needs, each once: "+get +set". */
void redis_script_rights(struct span script, struct str *out);

/* From the reply to INFO. */
struct redis_info {
    bool cluster;
    bool loading;
    bool persistent;  /* AOF is on */
    bool evicts;      /* a maxmemory-policy other than noeviction, and a maxmemory */
    char version[16]; /* "7.0.15", terminated */
};

void redis_info_parse(struct span text, struct redis_info *out);
