/* A bounded queue between those who log and one thread that writes.
 *
 * Why a thread: writing to a pipe nobody reads blocks for ever, and making standard output
 * non-blocking would change it for whoever shares it (a terminal, the parent shell). */
#include "base/log.h"

#include "base/clock.h"
#include "base/panic.h"
#include "base/str.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 4096, QUEUE_BYTES = 262144 };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    bool running, stopping, writing;
    bool text;
    _Atomic int level;
    _Atomic int64_t dropped;
    struct str queue; /* whole lines, waiting */
    struct str batch; /* whole lines, being written */
} logger = {
    .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .level = LOG_INFO};

static const char *const level_names[] = {"error", "warn", "info", "debug"};

bool log_wants(enum log_level level) {
    return (int)level <= atomic_load_explicit(&logger.level, memory_order_relaxed);
}

void log_set_level(enum log_level level) {
    atomic_store(&logger.level, (int)level);
}

int64_t log_dropped(void) {
    return atomic_load(&logger.dropped);
}

static void add_json_line(struct str *line, const char *now, enum log_level level,
                          const char *message, const struct log_field *fields) {
    str_addf(line, "{\"time\":\"%s\",\"level\":\"%s\",\"message\":", now, level_names[level]);
    str_add_json(line, span_of(message));
    for (const struct log_field *f = fields; f->name; f++) {
        str_addf(line, ",\"%s\":", f->name);
        if (f->is_text)
            str_add_json(line, f->text);
        else
            str_add_int(line, f->number);
    }
    STR_ADD(line, "}\n");
}

static void add_text_line(struct str *line, const char *now, enum log_level level,
                          const char *message, const struct log_field *fields) {
    str_addf(line, "%.12s %-5s %s", now + 11, level_names[level], message);
    for (const struct log_field *f = fields; f->name; f++) {
        str_addf(line, " %s=", f->name);
        if (f->is_text)
            str_add_json(line, f->text);
        else
            str_add_int(line, f->number);
    }
    STR_ADD(line, "\n");
}

static void enqueue(struct span line) {
    pthread_mutex_lock(&logger.lock);
    if (!logger.running) {
        if (write(STDERR_FILENO, line.ptr, line.len) < 0)
            atomic_fetch_add(&logger.dropped, 1);
    } else if (line.len > logger.queue.max - logger.queue.len) {
        atomic_fetch_add(&logger.dropped, 1);
    } else {
        str_add(&logger.queue, line);
        pthread_cond_broadcast(&logger.changed);
    }
    pthread_mutex_unlock(&logger.lock);
}

void log_write(enum log_level level, const char *message, const struct log_field *fields) {
    char memory[LINE_MAX_BYTES], now[CLOCK_ISO_SIZE];
    struct str line;
    str_init_fixed(&line, memory, sizeof memory);
    clock_iso(now, clock_wall_ms());
    (logger.text ? add_text_line : add_json_line)(&line, now, level, message, fields);
    if (line.overflow) {
        atomic_fetch_add(&logger.dropped, 1);
        return;
    }
    enqueue(str_span(&line));
}

/* Blocks as long as the reader does. A closed or broken standard output loses the batch. */
static void write_batch(void) {
    size_t done = 0;
    while (done < logger.batch.len) {
        ssize_t n = write(STDOUT_FILENO, logger.batch.ptr + done, logger.batch.len - done);
        if (n > 0) {
            done += (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            /* Somebody else made this descriptor non-blocking. */
            nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        } else if (n < 0 && errno != EINTR) {
            atomic_fetch_add(&logger.dropped, 1);
            return;
        }
    }
}

static void *writer(void *unused) {
    (void)unused;
    pthread_mutex_lock(&logger.lock);
    for (;;) {
        while (logger.queue.len == 0 && !logger.stopping)
            pthread_cond_wait(&logger.changed, &logger.lock);
        if (logger.queue.len == 0)
            break;
        struct str swap = logger.batch;
        logger.batch = logger.queue;
        logger.queue = swap;
        str_clear(&logger.queue);
        logger.writing = true;
        pthread_mutex_unlock(&logger.lock);
        write_batch();
        pthread_mutex_lock(&logger.lock);
        logger.writing = false;
        pthread_cond_broadcast(&logger.changed);
    }
    pthread_mutex_unlock(&logger.lock);
    return NULL;
}

void log_start(enum log_level level, enum log_format format) {
    atomic_store(&logger.level, (int)level);
    logger.text = format == LOG_TEXT || (format == LOG_AUTO && isatty(STDOUT_FILENO));
    str_init(&logger.queue, QUEUE_BYTES);
    str_init(&logger.batch, QUEUE_BYTES);
    /* Signals are the main thread's. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    logger.running = pthread_create(&logger.thread, NULL, writer, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void log_stop(int wait_ms) {
    if (!logger.running)
        return;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&logger.lock);
    logger.stopping = true;
    pthread_cond_broadcast(&logger.changed);
    int waited = 0;
    while ((logger.queue.len > 0 || logger.writing) && waited == 0)
        waited = pthread_cond_timedwait(&logger.changed, &logger.lock, &until);
    bool stuck = logger.queue.len > 0 || logger.writing;
    pthread_mutex_unlock(&logger.lock);
    /* A writer stuck in write() cannot be joined; the process is about to end anyway. */
    if (stuck) {
        pthread_detach(logger.thread);
        return;
    }
    pthread_join(logger.thread, NULL);
    logger.running = false;
    str_release(&logger.queue);
    str_release(&logger.batch);
}
