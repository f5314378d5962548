/* Small questions beside the load: counts of the stub, metrics of the gateway. One HTTP server on
 * this machine, one question at a time. */
#pragma once

#include "base/span.h"
#include "io/loop.h"

struct probe;

struct probe *probe_new(struct loop *loop, int port);
void probe_free(struct probe *p);

/* Asks; `done` comes from the loop, exactly once, with the body of a 200 or SPAN_NONE (no answer
 * within 2 s, too large, another status). `body` ptr NULL: GET, else POST. False, and nothing will
 * come, while another question is pending. */
bool probe_ask(struct probe *p, const char *path, struct span body,
               void (*done)(void *arg, struct span answer), void *arg);
