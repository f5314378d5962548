#include "app/generation.h"

#include "base/metric.h"
#include "base/panic.h"
#include "base/secret.h"
#include "io/tls.h"
#include "serve/gate/admission.h"

#include <stdatomic.h>
#include <stdlib.h>

static struct span content(const struct config_secret *secret) {
    return (struct span){secret->bytes, secret->len};
}

/* A previous key of its own, if there is one; where the key comes from the JWT secret, the previous
 * one comes from the previous secret. */
static void make_keys(const struct config *config, struct grant_keys *out) {
    const struct config_secret *key = &config->connect_cache.key;
    const struct config_secret *previous = &config->connect_cache.previous_key;
    if (!key->bytes && !previous->bytes)
        previous = &config->jwt.previous_secret;
    grant_key_derive(content(key->bytes ? key : &config->jwt.secret), &out->current);
    out->has_previous = previous->bytes != NULL;
    if (out->has_previous)
        grant_key_derive(content(previous), &out->previous);
}

struct generation *generation_read(const char *config_file, char *const *environment,
                                   const struct generation *running, struct str *complaints) {
    struct generation *g = must_zalloc(sizeof *g);
    const struct config *config = running ? running->setup.config : NULL;
    if (!setup_read(&g->setup, config_file, environment, config, complaints)) {
        generation_free(g);
        return NULL;
    }
    make_keys(g->setup.config, &g->keys);
    return g;
}

void generation_free(struct generation *g) {
    if (!g)
        return;
    setup_release(&g->setup);
    secret_cleanse(&g->keys, sizeof g->keys);
    free(g);
}

static void set_ticket_keys(const struct config *config, struct tickets *tickets) {
    struct ticket_key keys[TICKET_KEYS_MAX];
    if (!config->tls.ticket_keys.bytes)
        return;
    tickets_set(tickets, keys, ticket_keys_parse(content(&config->tls.ticket_keys), keys));
    secret_cleanse(keys, sizeof keys);
}

void generation_publish(struct generation *g, struct shared *shared, struct tickets *tickets) {
    int64_t expiry_s = 0;
    if (g->setup.tls) {
        set_ticket_keys(g->setup.config, tickets);
        tickets_use(tickets, g->setup.tls);
        expiry_s = tls_server_expiry_s(g->setup.tls);
    }
    metric_add(METRIC_CERTIFICATE_EXPIRY, expiry_s - metric_read(METRIC_CERTIFICATE_EXPIRY));
    atomic_store(&shared->config, g->setup.config);
    atomic_store(&shared->grant_keys, &g->keys);
    admission_adopt(shared->admission, g->setup.config);
    atomic_store(&shared->upstream_authority, g->setup.upstream_authority);
    if (shared->agents && !g->setup.config->connect_cache.enabled)
        agents_purge_all(shared->agents); /* what is in flight is not kept any more, either */
}
