#include "io/redis.h"

#include "base/clock.h"
#include "base/panic.h"
#include "base/random.h"
#include "io/redis_greeting.h"
#include "io/redis_health.h"
#include "io/redis_sentinel.h"
#include "io/resolve.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

enum {
    BACKOFF_MIN_MS = 50,
    BACKOFF_MAX_MS = 2000,
    SETTLED_MS = 5000, /* here for so long: the next backoff begins anew */
    WATCH_MS = 1000,   /* so often the sentinels are asked whether we are still at the master */
    /* So often Redis is asked for the time: clocks drift, and an idle connection should not learn
     * from the next heartbeat that its network is gone. */
    TIME_MS = 2000,
};

enum phase { AWAY, ASKING, GREETING, HERE };

struct redis {
    struct loop *loop;
    const struct redis_options *options;
    redis_state *state;
    void *arg;
    enum phase phase;
    bool tried;
    struct redis_link link;
    struct resolver *resolver;
    struct timer again, patience, watch, time;
    struct redis_sentinels sentinels; /* in use when the URL names some */
    struct redis_host master;         /* as they named it */
    int failures;                     /* attempts in a row */
    size_t address;                   /* which of a name's addresses is next */
    char host[REDIS_HOST_SIZE];
    enum redis_trouble trouble;
    enum redis_trouble refusal; /* that a caller is being told of */
    int64_t here_since_ms;
    int64_t time_asked_us; /* monotonic */
    struct redis_greeting greeting;
    enum redis_trouble blame; /* what it is when patience is over */
};

/* ---- life: away ---- */

static void attempt(void *arg);

static int64_t backoff_ms(const struct redis *r) {
    int64_t most = BACKOFF_MIN_MS;
    for (int i = 1; i < r->failures && most < BACKOFF_MAX_MS; i++)
        most *= 2;
    if (most > BACKOFF_MAX_MS)
        most = BACKOFF_MAX_MS;
    return most / 2 + (int64_t)(random_u64() % (uint64_t)(most / 2 + 1));
}

/* All that callers wait for ends without a reply; a greeting is just forgotten. */
static void fail_pending(struct redis *r, bool tell) {
    for (struct redis_pending *p; (p = redis_link_take(&r->link)) != NULL;) {
        if (tell)
            p->done(p->arg, NULL);
        redis_pending_free(p);
    }
    redis_greeting_forget(&r->greeting);
}

static void leave(struct redis *r, enum redis_trouble t) {
    bool was_here = r->phase == HERE;
    if (was_here && clock_mono_ms() - r->here_since_ms > SETTLED_MS)
        r->failures = 0;
    r->failures++;
    r->address++;
    r->trouble = t;
    r->phase = AWAY;
    r->tried = true;
    timer_stop(&r->patience);
    timer_stop(&r->watch);
    timer_stop(&r->time);
    redis_link_close(&r->link);
    if (was_here)
        redis_note_away(r->options);
    redis_note_trouble(r->options, t);
    timer_start(&r->again, backoff_ms(r));
    fail_pending(r, was_here);
    if (was_here && r->state)
        r->state(r->arg, false);
}

/* ---- life: here ---- */

static void arrive(struct redis *r) {
    r->phase = HERE;
    r->tried = true;
    r->trouble = REDIS_NONE;
    r->here_since_ms = clock_mono_ms();
    timer_stop(&r->patience);
    if (!r->options->reads_only)
        redis_note_durability(r->options, &r->greeting.info);
    redis_note_here(r->options, &r->greeting.info);
    if (r->options->url->master[0] != '\0')
        timer_start(&r->watch, WATCH_MS);
    if (!r->options->reads_only)
        timer_start(&r->time, TIME_MS);
    if (r->state)
        r->state(r->arg, true);
}

static void on_greeted(void *arg, enum redis_trouble t) {
    if (t == REDIS_NONE)
        arrive(arg);
    else
        leave(arg, t);
}

/* ---- life: connecting ---- */

static void be_patient(struct redis *r, int64_t ms, enum redis_trouble blame) {
    r->blame = blame;
    timer_start(&r->patience, ms);
}

/* What fails at once fails in the loop's next turn: nobody finds himself away inside his own call.
 */
static void connect_at(struct redis *r, const struct sockaddr *address, unsigned int len) {
    const struct redis_options *o = r->options;
    if (!redis_link_open(&r->link, address, len, o->url->tls ? o->tls : NULL, r->host,
                         o->command_timeout_ms))
        be_patient(r, 0, REDIS_UNREACHABLE);
}

static void on_resolved(void *arg, const struct resolved *found) {
    struct redis *r = arg;
    if (r->phase == AWAY || r->link.open)
        return; /* too late: the attempt is over */
    if (found->count == 0) {
        be_patient(r, 0, REDIS_UNREACHABLE);
        return;
    }
    const struct resolved_address *at = &found->address[r->address % found->count];
    connect_at(r, (const struct sockaddr *)&at->at, at->len);
}

/* A new resolver each time: what it remembered may be where Redis was before. */
static void connect_to(struct redis *r, const struct redis_host *host) {
    if (r->resolver)
        resolver_free(r->resolver);
    (void)snprintf(r->host, sizeof r->host, "%s", host->name);
    r->resolver = resolver_new(r->loop, host->name, host->port);
    resolver_ask(r->resolver, on_resolved, r);
}

static void connect_to_socket(struct redis *r) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, r->options->url->path, sizeof address.sun_path);
    connect_at(r, (const struct sockaddr *)&address, sizeof address);
}

static void start_greeting(struct redis *r) {
    r->phase = GREETING;
    be_patient(r, r->options->connect_timeout_ms, REDIS_TIMEOUT);
}

static void attempt(void *arg) {
    struct redis *r = arg;
    const struct redis_url *url = r->options->url;
    if (url->master[0] != '\0') {
        r->phase = ASKING;
        redis_sentinels_ask(&r->sentinels);
        return;
    }
    start_greeting(r);
    if (url->host_count == 0)
        connect_to_socket(r);
    else
        connect_to(r, &url->host[0]);
}

/* ---- sentinels ---- */

static bool is_where_we_are(const struct redis *r, const struct redis_host *host) {
    return host->port == r->master.port && strcmp(host->name, r->master.name) == 0;
}

static void go_to_master(struct redis *r, const struct redis_host *master) {
    r->master = *master;
    start_greeting(r);
    connect_to(r, &r->master);
}

static void on_master_named(void *arg, enum redis_trouble t, const struct redis_host *master) {
    struct redis *r = arg;
    if (r->phase == ASKING && master)
        go_to_master(r, master);
    else if (r->phase == ASKING)
        leave(r, t);
    else if (r->phase == HERE && master && !is_where_we_are(r, master))
        leave(r, REDIS_READONLY);
}

/* A deposed master may take it for granted for many seconds that it still is one, and take writes
 * that are lost when it is told. */
static void on_watch(void *arg) {
    struct redis *r = arg;
    redis_sentinels_ask(&r->sentinels);
    timer_start(&r->watch, WATCH_MS);
}

/* ---- the time ---- */

static void on_time_again(void *arg, const struct redis_reply *reply) {
    struct redis *r = arg;
    if (reply)
        far_clock_learn(&r->greeting.clock, r->time_asked_us, clock_mono_us(),
                        redis_time_us(reply));
    if (r->phase == HERE)
        timer_start(&r->time, TIME_MS);
}

static void ask_time_again(void *arg) {
    struct redis *r = arg;
    r->time_asked_us = clock_mono_us();
    redis_link_command(&r->link, (struct span[]){SPAN("TIME")}, 1, on_time_again, r);
}

/* ---- what the link tells ---- */

static void on_ready(void *arg) {
    redis_greet(&((struct redis *)arg)->greeting);
}

static void on_ended(void *arg, enum redis_trouble t) {
    leave(arg, t);
}

static void on_patience_over(void *arg) {
    struct redis *r = arg;
    on_ended(r, r->blame);
}

static void send_whole(struct redis *r, struct redis_pending *p);

static void tell_refusal(struct redis *r, struct redis_pending *p, enum redis_trouble t) {
    r->refusal = t;
    p->done(p->arg, NULL);
    r->refusal = REDIS_NONE;
}

/* A user who lacks a right does without what needs it. One who may not even ask for the time has
 * lost them all. */
static bool ends_connection(const struct redis_pending *p, enum redis_trouble t) {
    return redis_trouble_row(t)->ends_connection || (t == REDIS_NOPERM && p->done == on_time_again);
}

static void note_refusal(struct redis *r, const struct redis_pending *p, enum redis_trouble t,
                         struct span error) {
    if (t == REDIS_NOPERM)
        redis_note_missing_right(r->options, error,
                                 p->script >= 0 ? &r->options->scripts[p->script] : NULL);
}

/* During the greeting every refusal is the connection's. */
static void on_error(struct redis *r, struct redis_pending *p, struct span error) {
    enum redis_trouble t = redis_error_name(error);
    bool greeting = r->phase != HERE;
    if (t == REDIS_NOSCRIPT && p->text_len > 0 && !greeting) {
        redis_note_trouble(r->options, t);
        send_whole(r, p);
        return;
    }
    if (greeting && t == REDIS_OTHER && span_starts(error, SPAN("ERR AUTH")))
        t = REDIS_AUTH;
    bool ends = greeting || ends_connection(p, t);
    note_refusal(r, p, t, error);
    if (!ends)
        redis_note_trouble(r->options, t);
    if (!greeting)
        tell_refusal(r, p, t);
    redis_pending_free(p);
    if (ends)
        on_ended(r, t);
}

static void on_reply(void *arg, struct redis_pending *p, const struct redisReply *reply) {
    struct redis *r = arg;
    if (reply->type == REDIS_REPLY_ERROR) {
        on_error(r, p, (struct span){reply->str, reply->len});
        return;
    }
    if (r->phase == HERE)
        redis_note_reply(r->options);
    p->done(p->arg, (const struct redis_reply *)reply);
    redis_pending_free(p);
}

static const struct redis_link_events link_events = {on_ready, on_reply, on_ended};

/* ---- commands ---- */

static bool has_room(const struct redis *r, size_t bytes) {
    return r->phase == HERE && r->link.count < REDIS_PENDING_MAX &&
           redis_link_unsent(&r->link) + bytes < REDIS_PENDING_BYTES;
}

static size_t total(const struct span *words, size_t count) {
    size_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += words[i].len;
    return sum;
}

bool redis_command(struct redis *r, const struct span *words, size_t count, redis_done *done,
                   void *arg) {
    invariant(count > 0 && count <= REDIS_ARGS_MAX);
    if (!has_room(r, total(words, count)))
        return false;
    redis_link_command(&r->link, words, count, done, arg);
    return true;
}

bool redis_run(struct redis *r, size_t script, size_t key_count, const struct span *words,
               size_t count, redis_done *done, void *arg) {
    invariant(count <= REDIS_ARGS_MAX && script < r->options->script_count);
    if (!has_room(r, total(words, count)))
        return false;
    struct span all[REDIS_ARGS_MAX + 3];
    char keys[STR_DECIMAL];
    all[0] = SPAN("EVALSHA");
    all[1] = (struct span){r->greeting.sha[script], REDIS_SHA_HEX};
    all[2] = str_decimal((int64_t)key_count, keys);
    memcpy(all + 3, words, count * sizeof *words);
    redis_link_script(&r->link, (int)script, all, count + 3, done, arg);
    return true;
}

static void give_up(struct redis_pending *p) {
    p->done(p->arg, NULL);
    redis_pending_free(p);
}

/* "*N\r\n$7\r\nEVALSHA\r\n$40\r\n<sha>\r\n<keys and words>" becomes EVAL with the script's text. */
static void send_whole(struct redis *r, struct redis_pending *p) {
    static const char middle[] = "$7\r\nEVALSHA\r\n$40\r\n";
    struct span text = {p->text, p->text_len};
    struct span script = span_of(r->options->scripts[p->script].text);
    const char *end = memchr(text.ptr, '\n', text.len);
    struct span count = {text.ptr, (size_t)(end - text.ptr) + 1};
    struct span rest = span_from(text, count.len + sizeof middle - 1 + REDIS_SHA_HEX);
    struct str whole;
    str_init(&whole, text.len + script.len + 64);
    str_add(&whole, count);
    str_addf(&whole, "$4\r\nEVAL\r\n$%zu\r\n", script.len);
    str_add(&whole, script);
    str_add(&whole, rest);
    p->text_len = 0; /* once: a second refusal is told */
    if (has_room(r, whole.len))
        redis_link_send(&r->link, str_span(&whole), p);
    else
        give_up(p);
    str_release(&whole);
}

/* ---- the whole ---- */

bool redis_is_here(const struct redis *r) {
    return r->phase == HERE;
}

bool redis_was_tried(const struct redis *r) {
    return r->tried;
}

enum redis_trouble redis_trouble(const struct redis *r) {
    return r->trouble;
}

int64_t redis_now_us(const struct redis *r) {
    return r->greeting.clock.known ? clock_mono_us() + r->greeting.clock.offset_us
                                   : clock_wall_ms() * 1000;
}

enum redis_trouble redis_refusal(const struct redis *r) {
    return r->refusal;
}

int64_t redis_lag_ms(const struct redis *r) {
    return redis_link_lag_ms(&r->link);
}

struct redis *redis_new(struct loop *loop, const struct redis_options *options, redis_state *state,
                        void *arg) {
    struct redis *r = must_zalloc(sizeof *r);
    r->loop = loop;
    r->options = options;
    r->state = state;
    r->arg = arg;
    if (!options->aside)
        atomic_fetch_add(&options->health->clients, 1);
    redis_link_init(&r->link, loop, &link_events, r);
    redis_greeting_init(&r->greeting, &r->link, options, on_greeted, r);
    timer_init(&r->again, loop, attempt, r);
    timer_init(&r->patience, loop, on_patience_over, r);
    timer_init(&r->watch, loop, on_watch, r);
    timer_init(&r->time, loop, ask_time_again, r);
    redis_sentinels_init(&r->sentinels, loop, options, on_master_named, r);
    timer_start(&r->again, 0);
    return r;
}

void redis_free(struct redis *r) {
    if (!r)
        return;
    if (r->phase == HERE)
        redis_note_away(r->options);
    if (!r->options->aside)
        atomic_fetch_sub(&r->options->health->clients, 1);
    timer_stop(&r->again);
    timer_stop(&r->patience);
    timer_stop(&r->watch);
    timer_stop(&r->time);
    redis_sentinels_release(&r->sentinels);
    redis_link_release(&r->link);
    if (r->resolver)
        resolver_free(r->resolver);
    redis_greeting_release(&r->greeting);
    free(r);
}
