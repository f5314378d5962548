/* A child process whose output (both streams) we read: started, listened to, stopped. It ends when
 * we do, even when we are killed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { CHILD_LINE = 4096 };

struct child {
    pid_t pid; /* 0: none */
    int out;   /* its output, non-blocking; -1: none */
    size_t have;
    char line[CHILD_LINE]; /* what was read and not yet given */
};

void child_init(struct child *c);
/* `nice_by` is added to our own. False when it cannot be started at all. */
bool child_start(struct child *c, const char *const argv[], char *const env[], int nice_by);
/* The next line, without its end, cut to CHILD_LINE; false at the end or after `ms`. */
bool child_read_line(struct child *c, char line[CHILD_LINE], int ms);
/* Reads and drops what is there, without waiting. */
void child_drain(struct child *c);
/* Has it ended? Then it is waited for, too. */
bool child_ended(struct child *c);
/* TERM, after `ms` KILL. Waits for its end. Idempotent. */
void child_stop(struct child *c, int ms);
void child_kill(struct child *c);
