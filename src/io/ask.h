/* One question to a gateway's own health port, from another process: what `--health-check` is, for
 * images without a shell. Blocks; for command lines only. */
#pragma once

#include <stdint.h>

/* GET `path` at `where`: an IP address and a port ("127.0.0.1:9902", "[::1]:9902"), or a port of
 * this machine alone ("9902"). Gives the answer's status, or 0 with a static text in *why. Each
 * step waits at most `timeout_ms`. */
int ask_status(const char *where, const char *path, int64_t timeout_ms, const char **why);
