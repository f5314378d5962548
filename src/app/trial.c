#include "app/trial.h"

#include "io/loop.h"

struct trial {
    struct loop loop;
    struct timer look;
    struct redis *redis;
};

static void look_at_trial(void *arg) {
    enum { TRIAL_LOOK_MS = 2 };
    struct trial *t = arg;
    if (redis_was_tried(t->redis))
        loop_stop(&t->loop);
    else
        timer_start(&t->look, TRIAL_LOOK_MS);
}

bool trial_redis_fits(const struct redis_options *options) {
    struct trial t;
    if (!options->url)
        return true;
    loop_init(&t.loop);
    timer_init(&t.look, &t.loop, look_at_trial, &t);
    t.redis = redis_new(&t.loop, options, NULL, NULL);
    timer_start(&t.look, 0);
    loop_run(&t.loop);
    bool fits = redis_trouble(t.redis) != REDIS_CLUSTER;
    redis_free(t.redis);
    loop_release(&t.loop);
    return fits;
}
