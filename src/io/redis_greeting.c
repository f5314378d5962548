#include "io/redis_greeting.h"

#include "base/clock.h"
#include "base/panic.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    TIME_QUICK_US = 5000, /* a greeting's answer that took longer says too little: */
    TIME_LOOKS = 3,       /* it is asked again so often */
};

static void greet_with(struct redis_greeting *g, const struct span *words, size_t count,
                       redis_done *done) {
    redis_link_command(g->link, words, count, done, g);
    g->left++;
}

static bool look_at_time_again(struct redis_greeting *g);

/* Each reply of the greeting has been read by its own function by now. */
static void greeted(struct redis_greeting *g) {
    if (--g->left > 0)
        return;
    if (g->info.cluster)
        g->end(g->arg, REDIS_CLUSTER);
    else if (g->info.loading)
        g->end(g->arg, REDIS_LOADING);
    else if (!g->options->reads_only && !g->is_master)
        g->end(g->arg, REDIS_READONLY);
    else if (!look_at_time_again(g))
        g->end(g->arg, REDIS_NONE);
}

static void on_agreed(void *arg, const struct redis_reply *reply) {
    (void)reply;
    greeted(arg);
}

static void on_role(void *arg, const struct redis_reply *reply) {
    struct redis_greeting *g = arg;
    g->is_master = span_equal(redis_text(redis_at(reply, 0)), SPAN("master"));
    greeted(g);
}

static void on_info(void *arg, const struct redis_reply *reply) {
    struct redis_greeting *g = arg;
    redis_info_parse(redis_text(reply), &g->info);
    greeted(g);
}

int64_t redis_time_us(const struct redis_reply *reply) {
    return redis_integer(redis_at(reply, 0)) * 1000000 + redis_integer(redis_at(reply, 1));
}

static void on_time(void *arg, const struct redis_reply *reply) {
    struct redis_greeting *g = arg;
    int64_t now_us = clock_mono_us();
    far_clock_begin(&g->clock, g->asked_us, now_us, redis_time_us(reply));
    g->took_us = now_us - g->asked_us;
    greeted(g);
}

static void on_time_looked(void *arg, const struct redis_reply *reply) {
    struct redis_greeting *g = arg;
    int64_t now_us = clock_mono_us();
    far_clock_learn(&g->clock, g->asked_us, now_us, redis_time_us(reply));
    if (now_us - g->asked_us < g->took_us)
        g->took_us = now_us - g->asked_us;
    greeted(g);
}

/* One that was stopped, or that loads, answers a greeting late: replicas whose clocks are half a
 * second apart would take each other's newer heartbeats for older ones. */
static bool look_at_time_again(struct redis_greeting *g) {
    if (g->took_us <= TIME_QUICK_US || g->looks == TIME_LOOKS)
        return false;
    g->looks++;
    g->asked_us = clock_mono_us();
    greet_with(g, (struct span[]){SPAN("TIME")}, 1, on_time_looked);
    return true;
}

/* Scripts are loaded in order, so the last replies of the greeting are theirs, in order. */
static void on_loaded(void *arg, const struct redis_reply *reply) {
    struct redis_greeting *g = arg;
    struct span sha = redis_text(reply);
    size_t script = g->options->script_count - g->left;
    if (sha.len == REDIS_SHA_HEX && script < g->options->script_count)
        memcpy(g->sha[script], sha.ptr, REDIS_SHA_HEX);
    greeted(g);
}

static void authenticate(struct redis_greeting *g, struct span username, struct span password) {
    if (password.len == 0)
        return;
    if (username.len > 0)
        greet_with(g, (struct span[]){SPAN("AUTH"), username, password}, 3, on_agreed);
    else
        greet_with(g, (struct span[]){SPAN("AUTH"), password}, 2, on_agreed);
}

static void load_scripts(struct redis_greeting *g) {
    for (size_t i = 0; i < g->options->script_count; i++)
        greet_with(
            g, (struct span[]){SPAN("SCRIPT"), SPAN("LOAD"), span_of(g->options->scripts[i].text)},
            3, on_loaded);
}

void redis_greet(struct redis_greeting *g) {
    char database[12];
    const struct redis_options *o = g->options;
    g->is_master = false;
    g->info = (struct redis_info){0};
    g->took_us = 0;
    g->looks = 0;
    authenticate(g, o->username, o->password);
    (void)snprintf(database, sizeof database, "%d", o->url->database);
    if (o->url->database > 0)
        greet_with(g, (struct span[]){SPAN("SELECT"), span_of(database)}, 2, on_agreed);
    if (!o->reads_only) {
        greet_with(g, (struct span[]){SPAN("ROLE")}, 1, on_role);
        greet_with(g, (struct span[]){SPAN("INFO")}, 1, on_info);
        g->asked_us = clock_mono_us();
        greet_with(g, (struct span[]){SPAN("TIME")}, 1, on_time);
        load_scripts(g);
    }
    if (g->left == 0)
        g->end(g->arg, REDIS_NONE);
}

void redis_greeting_forget(struct redis_greeting *g) {
    g->left = 0;
}

void redis_greeting_init(struct redis_greeting *g, struct redis_link *link,
                         const struct redis_options *options, redis_greeted *end, void *arg) {
    *g = (struct redis_greeting){.options = options, .link = link, .end = end, .arg = arg};
    g->sha = must_zalloc((options->script_count + 1) * sizeof *g->sha);
}

void redis_greeting_release(struct redis_greeting *g) {
    free(g->sha);
}
