/* Where Redis is, as the configuration says it:
 *
 *   redis://host[:port][/db]                  plain TCP, port 6379
 *   rediss://host[:port][/db]                 TLS; the certificate must be for `host`
 *   unix:/path/to/socket                      a socket of this machine
 *   redis+sentinel://h1[:p1],h2[:p2]/master   whatever the sentinels (port 26379) call `master`
 *   rediss+sentinel://...                     the same, TLS to sentinels and master
 *
 * User and password never stand in the URL: URLs are printed. */
#pragma once

#include "base/span.h"

enum { REDIS_HOSTS_MAX = 8, REDIS_HOST_SIZE = 256, REDIS_MASTER_SIZE = 128, REDIS_PATH_SIZE = 108 };

struct redis_host {
    char name[REDIS_HOST_SIZE]; /* terminated; an IPv6 address without its brackets */
    int port;
};

struct redis_url {
    bool tls;
    size_t host_count; /* 0: `path` */
    struct redis_host host[REDIS_HOSTS_MAX];
    char path[REDIS_PATH_SIZE];     /* terminated; sun_path's size */
    char master[REDIS_MASTER_SIZE]; /* terminated; "": the host is Redis itself, no sentinel */
    int database;
};

/* NULL, or what is wrong with it and what to write. `out` may be NULL; it is written only when
 * nothing is wrong. */
const char *redis_url_parse(struct span text, struct redis_url *out);
