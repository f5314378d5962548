/* Burns CPU for each compared secret, on threads beside the loop: Node runs bcrypt on a pool of
 * four, so its loop goes on answering, only slower, since the processors are taken.
 *
 * What is queued is bounded by those who ask and how often: a call whose client has left keeps some
 * hundred bytes until its turn comes, as in Node. */
#include "base/panic.h"
#include "stub/parts.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 4 }; /* libuv's default */

struct job {
    struct list link;
    struct call *call;
    int64_t cost_ms;
    void (*done)(struct call *);
};

struct burners {
    pthread_mutex_t lock; /* guards the lists and `stopping` */
    pthread_cond_t wanted;
    struct list waiting, finished;
    bool stopping;
    int threads;
    int processors; /* of a machine of its own; 0: this one's are burnt */
    pthread_t thread[THREADS_MAX];
    int wake_fd;
    struct event *wake;
};

static int64_t cpu_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void burn(int64_t cost_ms) {
    unsigned char digest[EVP_MAX_MD_SIZE] = {0};
    int64_t until = cpu_us() + cost_ms * 1000;
    while (cpu_us() < until)
        for (int i = 0; i < 16; i++)
            EVP_Digest(digest, 32, digest, NULL, EVP_sha256(), NULL);
}

/* On a processor of another machine. */
static void wait_for(int64_t cost_ms) {
    struct timespec left = {.tv_sec = cost_ms / 1000, .tv_nsec = cost_ms % 1000 * 1000000};
    while (nanosleep(&left, &left) != 0)
        continue;
}

static struct job *take(struct burners *b) {
    struct job *job = NULL;
    pthread_mutex_lock(&b->lock);
    while (list_empty(&b->waiting) && !b->stopping)
        pthread_cond_wait(&b->wanted, &b->lock);
    if (!b->stopping) {
        job = container_of(b->waiting.next, struct job, link);
        list_remove(&job->link);
    }
    pthread_mutex_unlock(&b->lock);
    return job;
}

static void give_back(struct burners *b, struct job *job) {
    uint64_t one = 1;
    pthread_mutex_lock(&b->lock);
    list_push_back(&b->finished, &job->link);
    pthread_mutex_unlock(&b->lock);
    if (write(b->wake_fd, &one, sizeof one) != sizeof one)
        panic(__FILE__, __LINE__, "cannot wake the stub");
}

static void *work(void *arg) {
    struct burners *b = arg;
    struct job *job;
    while ((job = take(b)) != NULL) {
        stub_count(job->call->stub, bcrypts);
        if (b->processors > 0)
            wait_for(job->cost_ms);
        else
            burn(job->cost_ms);
        give_back(b, job);
    }
    return NULL;
}

static struct job *next_finished(struct burners *b) {
    struct job *job = NULL;
    pthread_mutex_lock(&b->lock);
    if (!list_empty(&b->finished)) {
        job = container_of(b->finished.next, struct job, link);
        list_remove(&job->link);
    }
    pthread_mutex_unlock(&b->lock);
    return job;
}

static void on_wake(evutil_socket_t fd, short what, void *arg) {
    struct burners *b = arg;
    struct job *job;
    uint64_t count;
    (void)what;
    if (read(fd, &count, sizeof count) != sizeof count)
        return;
    while ((job = next_finished(b)) != NULL) {
        struct call *c = job->call;
        c->at_work = false;
        c->watched = false;
        if (c->cancelled)
            stub_call_free(c);
        else
            job->done(c);
        free(job);
    }
}

void stub_burners_submit(struct burners *b, struct call *c, int64_t cost_ms,
                         void (*done)(struct call *)) {
    struct job *job = must_zalloc(sizeof *job);
    *job = (struct job){.call = c, .cost_ms = cost_ms, .done = done};
    c->at_work = true;
    c->watched = true;
    pthread_mutex_lock(&b->lock);
    list_push_back(&b->waiting, &job->link);
    pthread_cond_signal(&b->wanted);
    pthread_mutex_unlock(&b->lock);
}

static int wanted_threads(int processors) {
    long online = processors > 0 ? processors : sysconf(_SC_NPROCESSORS_ONLN);
    return online < 1 ? 1 : online > THREADS_MAX ? THREADS_MAX : (int)online;
}

static void start_threads(struct burners *b) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (int wanted = wanted_threads(b->processors); b->threads < wanted; b->threads++)
        if (pthread_create(&b->thread[b->threads], NULL, work, b) != 0)
            break;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

struct burners *stub_burners_new(struct event_base *base, int processors) {
    struct burners *b = must_zalloc(sizeof *b);
    b->processors = processors;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->wanted, NULL);
    list_init(&b->waiting);
    list_init(&b->finished);
    b->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    b->wake = event_new(base, b->wake_fd, EV_READ | EV_PERSIST, on_wake, b);
    if (b->wake_fd >= 0 && b->wake && event_add(b->wake, NULL) == 0)
        start_threads(b);
    if (b->threads > 0)
        return b;
    stub_burners_free(b);
    return NULL;
}

static void release_jobs(struct list *jobs) {
    list_each_safe (at, jobs) {
        struct job *job = container_of(at, struct job, link);
        job->call->at_work = false;
        stub_call_free(job->call);
        free(job);
    }
}

void stub_burners_free(struct burners *b) {
    pthread_mutex_lock(&b->lock);
    b->stopping = true;
    pthread_cond_broadcast(&b->wanted);
    pthread_mutex_unlock(&b->lock);
    for (int i = 0; i < b->threads; i++)
        pthread_join(b->thread[i], NULL);
    release_jobs(&b->waiting);
    release_jobs(&b->finished);
    if (b->wake)
        event_free(b->wake);
    if (b->wake_fd >= 0)
        close(b->wake_fd);
    pthread_cond_destroy(&b->wanted);
    pthread_mutex_destroy(&b->lock);
    free(b);
}
