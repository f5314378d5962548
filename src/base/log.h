/* One line per event on standard output, JSON or text, written by a thread of its own.
 *
 * Nothing that serves ever waits for a log: a line that does not fit the queue (a full disk, a
 * stopped terminal, a closed pipe) is dropped and counted. Fields are typed and named by the
 * caller; secrets, tokens and bodies are never passed here, not even at debug.
 *
 *   error = act, warn = degraded, info = process life, debug = request life. */
#pragma once

#include "base/span.h"

#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_AUTO, LOG_JSON, LOG_TEXT }; /* auto: text on a terminal */

struct log_field {
    const char *name; /* NULL ends the list */
    bool is_text;
    struct span text;
    int64_t number;
};

#define F_NONE             ((struct log_field){NULL, false, SPAN_NONE, 0})
#define F_TEXT(name, z)    ((struct log_field){(name), true, span_of(z), 0})
#define F_SPAN(name, s)    ((struct log_field){(name), true, (s), 0})
#define F_INT(name, value) ((struct log_field){(name), false, SPAN_NONE, (value)})

/* Starts the writing thread. Call once, before other threads exist; lines logged earlier go
 * straight to standard error. */
void log_start(enum log_level level, enum log_format format);
/* Flushes for at most `wait_ms`, then stops the thread. */
void log_stop(int wait_ms);
void log_set_level(enum log_level level);
bool log_wants(enum log_level level);
/* Lines dropped since the start. */
int64_t log_dropped(void);

void log_write(enum log_level level, const char *message, const struct log_field *fields);

/* A message and at least one field; F_NONE where there is none to give. */
#define log_at(level, message, ...)                                                                \
    do {                                                                                           \
        if (log_wants(level))                                                                      \
            log_write((level), (message), (const struct log_field[]){__VA_ARGS__, F_NONE});        \
    } while (0)
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)
