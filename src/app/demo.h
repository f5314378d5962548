/* --demo: a gateway to try, with a stand-in for the controller unless one is configured, and a
 * certificate made in memory unless one is configured. */
#pragma once

#include "base/span.h"

struct demo;

/* Starts the stand-in if AIWM_GATEWAY_UPSTREAM_URL is not in `environ`. NULL and *why on failure.
 * demo_environ is `environ` with what the demo sets where nothing is set. */
struct demo *demo_start(char *const *environ, const char **why);
char *const *demo_environ(const struct demo *d);
/* What to try, ready to paste. */
void demo_print_welcome(const struct demo *d, bool tls, int port);
/* What the controller was spared. */
void demo_print_farewell(const struct demo *d);
void demo_stop(struct demo *d);
