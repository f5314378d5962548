/* One question to a gateway's own health port, from another process: what `--health-check` is, for
 * images without a shell. Blocks; for command lines only. */
#pragma once

#include <stdint.h>

/* GET `path` at an IP address; "any" (0.0.0.0, ::) means this machine. Gives the answer's status,
 * or 0 with a static text in *why. Each step waits at most `timeout_ms`. */
int ask_status(const char *address, int port, const char *path, int64_t timeout_ms,
               const char **why);
