/* From the sources of configuration to what the process is made of: everything that can be wrong
 * before the first thread starts is found and said here. */
#pragma once

#include "app/options.h"
#include "io/redis.h"
#include "io/upstream.h"
#include "rules/config/config.h"

#include <openssl/ssl.h>

struct setup {
    struct config *config;
    struct str warnings;              /* lines, to be logged once there is a log */
    SSL_CTX *tls;                     /* of the data port; NULL: plain */
    struct upstream_options upstream; /* its host is owned here */
    char *upstream_host;
    char upstream_authority[300]; /* "host:port" as it goes into Host, terminated */
    struct redis_url redis_url;
    struct redis_health redis_health;
    struct redis_options redis; /* its url is NULL: no Redis */
    struct redis_url events_url;
    struct redis_health events_health;
    struct redis_options events; /* the controller's own Redis; its url is NULL: not followed */
};

/* Reads file and environment and judges all of it. `running`: the configuration whose values stay
 * where a key cannot be reloaded (NULL: there is none). False: all complaints are in `complaints`,
 * one per line; release it all the same. */
bool setup_read(struct setup *s, const char *config_file, char *const *environ,
                const struct config *running, struct str *complaints);
/* Reads the sources only: would setup_read find other contents of files than `running` has, or a
 * complaint? Nothing is made of them, so this is cheap enough for every few seconds. */
bool setup_is_news(const char *config_file, char *const *environ, const struct config *running);
void setup_release(struct setup *s);
