/* A process that serves: sockets, workers, signals, and its end. What is built when, and what ends
 * before what, stands here. */
#pragma once

#include "app/generation.h"

struct process_parts {
    struct generation *first; /* of the configuration; a reload makes others */
    struct tickets *tickets;
    const char *config_file;
    char *const *environment;
    char *const *argv;                  /* of this program, for a successor; NULL: it has none */
    void (*on_up)(void *arg, int port); /* it serves; may be NULL */
    void *arg;
};

/* Serves until it is told to end, in the main thread. Borrows all. Returns the exit code. */
int process_run(const struct process_parts *parts);
