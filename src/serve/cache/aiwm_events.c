#include "serve/cache/aiwm_events.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/panic.h"
#include "rules/redis/aiwm_event.h"
#include "serve/cache/peers.h"
#include "serve/redis/tail.h"

#include <stdlib.h>

enum {
    LOOK_MS = 500,
    UP_MS = 3000,    /* the stream was read to its end within this */
    JOBS_MAX = 1024, /* asked for and not answered */
    JOB_KEY_MAX = 256 + AIWM_EVENT_JOB_MAX,
};

struct job {
    struct list link;
    size_t len;
    char id[AIWM_EVENT_JOB_MAX];
};

struct aiwm_events {
    struct shared *shared;
    struct redis_options options;
    struct redis *redis; /* for the jobs: the tail's connection waits for news */
    struct tail *tail;
    struct timer look;
    struct span stem; /* of the stream's key, up to and with its last colon */
    struct list jobs; /* to be asked for, oldest first */
    int job_count;    /* those, and those asked for and not answered */
    bool follows;     /* from some end of the stream on */
    bool up;
};

/* ---- what is told ---- */

static void forget(struct shared *shared, const struct agent_id *id) {
    struct notice n = {.kind = NOTICE_AGENT,
                       .agent = *id,
                       .forget = true,
                       .only_if_shared = true,
                       .seen = INT64_MAX};
    struct agent *agent = agents_lock(shared->agents, id, false);
    if (agent) {
        agents_purge(shared->agents, agent);
        agents_unlock(shared->agents, agent);
    }
    refusals_forget(shared->refusals, id);
    peers_tell(shared, &n);
}

static void count_everything_stale(struct shared *shared) {
    tags_write(shared->tags, tag_of(TAG_EVERYTHING, SPAN("")), agents_count_purge(shared->agents));
}

/* ---- a job: its name and its data ---- */

static enum metric take_job(struct aiwm_events *e, const struct redis_reply *reply) {
    struct agent_id id;
    const struct redis_reply *name = redis_at(reply, 0), *data = redis_at(reply, 1);
    if (redis_is_nil(data))
        return METRIC_AIWM_EVENTS_GONE;
    if (aiwm_event_kind(redis_text(name)) == AIWM_EVENT_OTHER)
        return METRIC_AIWM_EVENTS_IGNORED;
    if (!aiwm_event_agent(redis_text(data), &id))
        return METRIC_AIWM_EVENTS_UNREADABLE;
    forget(e->shared, &id);
    return METRIC_AIWM_EVENTS_FORGOTTEN;
}

/* No reply: the connection was lost, and what the job said was missed; or there is no hash. */
static void on_job(void *arg, const struct redis_reply *reply) {
    struct aiwm_events *e = arg;
    e->job_count--;
    metric_add(reply ? take_job(e, reply) : METRIC_AIWM_EVENTS_GONE, 1);
    if (!reply && !redis_is_here(e->redis))
        count_everything_stale(e->shared);
}

static bool ask_for_job(struct aiwm_events *e, struct span job) {
    char memory[JOB_KEY_MAX];
    struct str key;
    str_init_fixed(&key, memory, sizeof memory);
    str_add(&key, e->stem);
    str_add(&key, job);
    struct span words[] = {SPAN("HMGET"), str_span(&key), SPAN("name"), SPAN("data")};
    return redis_command(e->redis, words, sizeof words / sizeof words[0], on_job, e);
}

/* The stream may be back before the connection on which jobs are asked for: then they wait. */
static void ask_for_jobs(struct aiwm_events *e) {
    while (!list_empty(&e->jobs)) {
        struct job *job = container_of(e->jobs.next, struct job, link);
        if (!ask_for_job(e, (struct span){job->id, job->len}))
            return;
        list_remove(&job->link);
        free(job);
    }
}

static void on_state(void *arg, bool here) {
    if (here)
        ask_for_jobs(arg);
}

static void add_job(struct aiwm_events *e, struct span id) {
    struct job *job = must_zalloc(sizeof *job);
    list_init(&job->link);
    job->len = id.len;
    memcpy(job->id, id.ptr, id.len);
    list_push_back(&e->jobs, &job->link);
    e->job_count++;
}

/* ---- the stream ---- */

static size_t take_words(const struct redis_reply *fields, struct span *words) {
    size_t count = redis_count(fields);
    if (count > AIWM_EVENT_FIELDS_MAX)
        count = AIWM_EVENT_FIELDS_MAX;
    for (size_t i = 0; i < count; i++)
        words[i] = redis_text(redis_at(fields, i));
    return count;
}

static void on_entry(void *arg, const struct redis_reply *fields) {
    struct aiwm_events *e = arg;
    struct span words[AIWM_EVENT_FIELDS_MAX], job;
    size_t count = take_words(fields, words);
    if (!aiwm_event_job(words, count, &job)) {
        metric_add(METRIC_AIWM_EVENTS_IGNORED, 1);
        return;
    }
    if (e->job_count < JOBS_MAX) {
        add_job(e, job);
        ask_for_jobs(e);
        return;
    }
    metric_add(METRIC_AIWM_EVENTS_GONE, 1);
    count_everything_stale(e->shared);
}

/* At the start nothing is cached yet that could be untrue. */
static void on_gap(void *arg) {
    struct aiwm_events *e = arg;
    if (e->follows) {
        log_warn("events of the controller may have been missed: all that is cached is stale",
                 F_NONE);
        count_everything_stale(e->shared);
    }
    e->follows = true;
}

static const struct tail_events tail_events = {on_entry, on_gap};

/* ---- life ---- */

static void on_look(void *arg) {
    struct aiwm_events *e = arg;
    int64_t heard_ms = tail_heard_ms(e->tail);
    bool up = heard_ms > 0 && clock_mono_ms() - heard_ms < UP_MS;
    metric_add(METRIC_AIWM_EVENTS_UP, up - e->up);
    e->up = up;
    timer_start(&e->look, LOOK_MS);
}

struct aiwm_events *aiwm_events_start(struct shared *shared, struct loop *loop,
                                      const struct redis_options *options, const char *stream) {
    if (!options->url)
        return NULL;
    struct aiwm_events *e = must_zalloc(sizeof *e);
    const char *colon = strrchr(stream, ':');
    e->shared = shared;
    e->options = *options;
    e->stem = (struct span){stream, colon ? (size_t)(colon - stream) + 1 : 0};
    list_init(&e->jobs);
    e->redis = redis_new(loop, &e->options, on_state, e);
    e->tail = tail_new(loop, options, stream, &tail_events, e);
    timer_init(&e->look, loop, on_look, e);
    timer_start(&e->look, LOOK_MS);
    return e;
}

void aiwm_events_free(struct aiwm_events *e) {
    if (!e)
        return;
    timer_stop(&e->look);
    tail_free(e->tail);
    redis_free(e->redis);
    list_each_safe (at, &e->jobs)
        free(container_of(at, struct job, link));
    free(e);
}
