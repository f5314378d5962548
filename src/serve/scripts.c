#include "serve/scripts.h"

#include "serve/beat_scripts.h"

/* KEYS: replicas. ARGV: our id, now (ms), a time (ms) before which nobody counts any more.
 * Returns how many replicas there are. */
static const char presence[] = "redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])\n"
                               "redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[3])\n"
                               "return redis.call('ZCARD', KEYS[1])\n";

const struct redis_script serve_scripts[SCRIPT_COUNT] = {
#define X(symbol, text) [SCRIPT_##symbol] = {#text, text},
    SCRIPT_ROWS(X)
#undef X
};
