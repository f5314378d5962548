/* The whole process, from its configuration to its exit code. */
#pragma once

#include "app/options.h"

/* Runs what the options say. Returns the exit code. `environment` is NULL-terminated. */
int app_run(const struct options *options, char *const *environment);
