#include "serve/serve.h"

#include "base/random.h"
#include "serve/access.h"
#include "serve/beats/claims.h"
#include "serve/beats/durable.h"
#include "serve/cache/shelf.h"

static struct token_verifier *make_verifier(const struct config *config) {
    enum { CACHE_ENTRIES = 16384 };
    uint8_t hash_key[16];
    random_fill(hash_key, sizeof hash_key);
    struct token_secrets secrets = {
        {config->jwt.secret.bytes, config->jwt.secret.len},
        {config->jwt.previous_secret.bytes, config->jwt.previous_secret.len}};
    return token_verifier_new(&secrets, config->jwt.leeway_ms / 1000, CACHE_ENTRIES, hash_key);
}

/* What is to be done when Redis comes back, or is gone. */
static void on_redis(void *arg, bool here) {
    struct serve *s = arg;
    claims_on_redis(s, here);
    shelf_note_redis(s->shelf, here);
}

void serve_init(struct serve *s, struct shared *shared, size_t worker, struct loop *loop,
                struct upstream *upstream) {
    enum { FIELDS_MAX = 2 * HTTP_HEAD_MAX, BODY_MAX = 65536 + GRANT_BODY_MAX };
    *s = (struct serve){.shared = shared, .worker = worker, .loop = loop, .upstream = upstream};
    list_init(&s->turns);
    str_init(&s->fields, FIELDS_MAX);
    str_init(&s->head, FIELDS_MAX);
    str_init(&s->body, BODY_MAX);
    s->verifier = make_verifier(shared->config);
    s->access = access_new(s);
    if (shared->redis)
        s->redis = redis_new(loop, shared->redis, on_redis, s);
}

void serve_adopt(struct serve *s, const struct config *config) {
    token_verifier_free(s->verifier);
    s->verifier = make_verifier(config);
    durable_adopt(s->durable);
}

void serve_release(struct serve *s) {
    redis_free(s->redis);
    access_free(s->access);
    token_verifier_free(s->verifier);
    str_release(&s->fields);
    str_release(&s->head);
    str_release(&s->body);
}
